#include "base/spawn_child.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>

#include <algorithm>
#include <vector>

extern char** environ;

namespace hob {

namespace {

constexpr int kChildFdMax = 100;  // highest number a child may be given

// What posix_spawn needs, freed whatever happens.
struct SpawnPlan {
  posix_spawn_file_actions_t actions{};
  posix_spawnattr_t attributes{};
  SpawnPlan() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;
};

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& text : strings) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

Result<pid_t> spawn_child(const Command& command, StandardFds standard) {
  HOB_ASSERT(!command.argv.empty());
  // Sources are first copied above every number a child may be given, so that no mapping overwrites
  // the next one's.
  SpawnPlan plan;
  std::vector<Fd> copies;
  std::vector<bool> used(kChildFdMax + 1, false);
  int highest = 2;
  const auto map = [&](int from, int to) -> Result<void> {
    if (to < 0 || to > kChildFdMax)
      return fail(Code::kInvalid, "descriptor {} is out of range", to);
    copies.emplace_back(::fcntl(from, F_DUPFD_CLOEXEC, kChildFdMax + 1));
    if (!copies.back()) return fail_errno(errno, "copying a descriptor");
    posix_spawn_file_actions_adddup2(&plan.actions, copies.back().get(), to);
    used[static_cast<size_t>(to)] = true;
    highest = std::max(highest, to);
    return {};
  };
  HOB_CHECK(map(standard.input, 0));
  HOB_CHECK(map(standard.output, 1));
  HOB_CHECK(map(standard.errors, 2));
  for (const auto& [ours, childs] : command.fds) HOB_CHECK(map(ours, childs));
  for (int fd = 3; fd < highest; ++fd) {
    if (!used[static_cast<size_t>(fd)]) posix_spawn_file_actions_addclose(&plan.actions, fd);
  }
  posix_spawn_file_actions_addclosefrom_np(&plan.actions, highest + 1);
  if (!command.directory.empty()) {
    posix_spawn_file_actions_addchdir_np(&plan.actions, command.directory.c_str());
  }
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&plan.attributes, &none);
  posix_spawnattr_setsigdefault(&plan.attributes, &all);
  posix_spawnattr_setpgroup(&plan.attributes, 0);
  posix_spawnattr_setflags(&plan.attributes,
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);

  std::vector<std::string> argv = command.argv;
  std::vector<std::string> environment;
  if (command.environment) {
    for (const auto& [name, value] : *command.environment)
      environment.push_back(name + "=" + value);
  }
  std::vector<char*> environment_pointers = pointers(environment);

  pid_t pid = -1;
  const int error =
      posix_spawnp(&pid, argv[0].c_str(), &plan.actions, &plan.attributes, pointers(argv).data(),
                   command.environment ? environment_pointers.data() : environ);
  if (error != 0) return fail_errno(error, "starting " + argv[0]);
  return pid;
}

}  // namespace hob
