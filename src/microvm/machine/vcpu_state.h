// A vCPU's whole state out of KVM and back into it, for snapshots. Of CPUs that do not run.
#pragma once

#include "base/result.h"
#include "microvm/machine/kvm.h"
#include "microvm/machine/state.h"

namespace hob::microvm {

// kUnavailable: KVM does not give it.
Result<VcpuState> save_vcpu(const Kvm& kvm, KvmVcpu& vcpu);

// `forward_ns`: how far the guest's clocks go on. kUnavailable: KVM does not take it, for example
// because the host's CPU has not got what the guest saw.
Result<void> restore_vcpu(const Kvm& kvm, KvmVcpu& vcpu, const VcpuState& state,
                          int64_t forward_ns);

}  // namespace hob::microvm
