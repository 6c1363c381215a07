#include "cli/supervisor_state.h"

#include <algorithm>

#include "base/record.h"

namespace hob::cli {

BOOST_DESCRIBE_STRUCT(PassedFd, (), (ours, theirs))
BOOST_DESCRIBE_STRUCT(RoleState, (),
                      (name, pid, errors, words, program, argv, fds, uid, network_namespace,
                       metrics_socket, metrics_path, version, prepared, ready, restarts, failures,
                       handing_over, cut_short, drain_left))
BOOST_DESCRIBE_STRUCT(SupervisorState, (), (sockets, lock, roles, drain))

std::string encode(const SupervisorState& state) { return record::encode(state); }

Result<SupervisorState> decode_supervisor_state(std::string_view json) {
  if (json.size() > kStateBytesMax) return fail(Code::kInvalid, "over {} bytes", kStateBytesMax);
  HOB_TRY(SupervisorState state, record::decode<SupervisorState>(json));
  if (state.roles.size() > kStateRolesMax || state.sockets.size() > kStateSocketsMax)
    return fail(Code::kInvalid, "more than a supervisor has");
  for (const char* name : {"control", "edge", "host"}) {
    const auto is_it = [&](const RoleState& role) {
      return role.name == name && !role.handing_over;
    };
    if (std::ranges::count_if(state.roles, is_it) != 1)
      return fail(Code::kCorrupt, "it has not one {}", name);
  }
  for (const RoleState& role : state.roles) {
    if (role.argv.empty() || role.program < 0)
      return fail(Code::kCorrupt, "{} has no program", role.name);
    if (role.pid > 0 && (role.errors < 0 || role.words < 0))
      return fail(Code::kCorrupt, "{} runs without pipes", role.name);
    if (role.handing_over && role.name != "edge")
      return fail(Code::kCorrupt, "{} cannot hand over", role.name);
  }
  return state;
}

std::vector<int> descriptors_of(const SupervisorState& state) {
  std::vector<int> all{state.lock};
  for (const auto& [name, fd] : state.sockets) all.push_back(fd);
  for (const RoleState& role : state.roles) {
    for (const int fd : {role.errors, role.words, role.program, role.metrics_socket})
      all.push_back(fd);
    for (const PassedFd& fd : role.fds) all.push_back(fd.ours);
  }
  std::erase_if(all, [](int fd) { return fd < 0; });
  std::ranges::sort(all);
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

}  // namespace hob::cli
