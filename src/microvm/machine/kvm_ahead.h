// A virtual machine that KVM makes while this process does other things.
//
// KVM_CREATE_VM waits, 10 ms and more, for a grace period of the kernel's RCU, and uses no CPU
// meanwhile: its worker thread joins our control group, and that takes cgroup_threadgroup_rwsem
// (docs/microvm.md says how a host is spared it).
#pragma once

#include <optional>
#include <thread>

#include "base/result.h"
#include "microvm/machine/kvm.h"

namespace hob::microvm {

struct EmptyMachine {
  Kvm kvm;
  KvmVm vm;
};
Result<EmptyMachine> make_empty_machine();

class KvmAhead {
 public:
  KvmAhead() = default;
  KvmAhead(const KvmAhead&) = delete;
  ~KvmAhead();

  // Once. On a thread of its own, whose seccomp filter is the caller's of now.
  void begin();
  // What was begun, waited for; or, if nothing was or it was taken already, another, made now.
  Result<EmptyMachine> take();

 private:
  std::optional<Result<EmptyMachine>> made_;  // the thread's until it is joined
  std::thread thread_;
};

}  // namespace hob::microvm
