// The steps into the jail, in Firecracker's order. Each is called once, as root, in the order in
// which they stand here; the process is of no other use when one fails.
#pragma once

#include <string>

#include "base/result.h"
#include "microvm/jailer/options.h"

namespace hob::microvm {

// Closes all descriptors but 0..2 and empties the environment.
Result<void> forget_caller();
// Makes BASE/FILE/ID/root, copies the program into it, and returns its path.
Result<std::string> make_root(const JailerOptions& options);
Result<void> join_network_namespace(const std::string& path);
Result<void> set_limits(const JailerOptions& options);
// Makes the cgroups, writes their values, and moves this process into them.
Result<void> enter_cgroups(const JailerOptions& options);
// Makes `root` the root of a mount namespace of our own, in which nothing else is mounted.
Result<void> enter_root(const std::string& root);
// Inside: folders and devices, for uid and gid alone. `userfaultfd`: its number outside, 0 for
// none.
Result<void> make_devices(const JailerOptions& options, dev_t userfaultfd);
Result<void> daemonize();
// The child goes on in a PID namespace of its own, the parent ends with its number in `pid_file`.
Result<void> enter_pid_namespace(const std::string& pid_file);
Result<void> write_pid(const std::string& pid_file, pid_t pid);
// No group, user or privilege but the given; a signal that the caller wants it to get with its
// parent's death (PR_SET_PDEATHSIG) it still gets.
Result<void> drop_privileges(const JailerOptions& options);

}  // namespace hob::microvm
