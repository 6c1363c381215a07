// What a supervisor tells the program that takes its place (supervisor_succession.cc). Descriptors
// keep their numbers through exec, so a number is all there is to say of one.
//
// Read by another version than wrote it: fields are only added (style.md §12).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"

namespace hob::cli {

inline constexpr size_t kStateBytesMax = 1024 * 1024;
inline constexpr size_t kStateRolesMax = 32;
inline constexpr size_t kStateSocketsMax = 64;

struct PassedFd {
  int ours = -1;
  int theirs = -1;
};

struct RoleState {
  std::string name{};  // control, edge, host
  int pid = -1;        // a child of the process; below 1: between two lives
  int errors = -1;     // the reading ends of its pipes; -1 without a pid
  int words = -1;
  // What it is started with again.
  int program = -1;
  std::vector<std::string> argv{};
  std::vector<PassedFd> fds{};
  uint32_t uid = 0;
  std::string network_namespace{};
  int metrics_socket = -1;  // an edge's own
  std::string metrics_path{};

  std::string version{};
  bool prepared = false;
  bool ready = false;
  int restarts = 0;
  int failures = 0;
  bool handing_over = false;  // an edge whose successor serves
  bool cut_short = false;
  Duration drain_left{0};  // until it is stopped
};

struct SupervisorState {
  std::map<std::string, int> sockets{};  // and other files; by names of supervisor.cc's
  int lock = -1;
  std::vector<RoleState> roles{};
  Duration drain{0};  // of the upgrade that goes on
};

std::string encode(const SupervisorState& state);
// kInvalid: not a state, or one beyond the limits above; kCorrupt: no control, edge or host in it.
Result<SupervisorState> decode_supervisor_state(std::string_view json);
// Every descriptor in it.
std::vector<int> descriptors_of(const SupervisorState& state);

}  // namespace hob::cli
