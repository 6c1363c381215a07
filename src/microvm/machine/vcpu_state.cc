#include "microvm/machine/vcpu_state.h"

#include <algorithm>

namespace hob::microvm {
namespace {

constexpr uint32_t kMsrTsc = 0x10;
constexpr uint32_t kMsrTscDeadline = 0x6e0;
// Memory types, which KVM keeps and does not list.
constexpr uint32_t kMsrsMemoryTypes[] = {0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206,
                                         0x207, 0x208, 0x209, 0x20a, 0x20b, 0x20c, 0x20d,
                                         0x20e, 0x20f, 0x250, 0x258, 0x259, 0x268, 0x269,
                                         0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f, 0x2ff};

// All of them, but for those that KVM refuses although the CPU has the value already.
Result<void> set_all(KvmVcpu& vcpu, std::span<const kvm_msr_entry> msrs) {
  while (!msrs.empty()) {
    HOB_TRY(const size_t taken, vcpu.set_msrs(msrs));
    if (taken >= msrs.size()) return {};
    const kvm_msr_entry& refused = msrs[taken];
    HOB_TRY(const auto there, vcpu.msrs(std::span(&refused.index, 1)));
    if (there.empty() || there[0].data != refused.data)
      return fail(Code::kUnavailable, "KVM does not take {:#x} for MSR {:#x}", refused.data,
                  refused.index);
    msrs = msrs.subspan(taken + 1);
  }
  return {};
}

// The time stamp counter first; the deadline, which is compared with it, apart.
std::vector<kvm_msr_entry> in_order(const VcpuState& state, int64_t forward_ns,
                                    std::optional<kvm_msr_entry>& deadline) {
  std::vector<kvm_msr_entry> msrs;
  uint64_t counter = 0;
  for (const kvm_msr_entry& msr : state.msrs) {
    if (msr.index == kMsrTscDeadline) {
      deadline = msr;
    } else if (msr.index == kMsrTsc) {
      // A guest whose clock is the counter itself goes on in time with one whose is KVM's.
      const auto forward =
          static_cast<uint64_t>(static_cast<__int128>(forward_ns) * state.tsc_khz / 1'000'000);
      counter = msr.data + forward;
      msrs.insert(msrs.begin(), {.index = kMsrTsc, .reserved = 0, .data = counter});
    } else {
      msrs.push_back(msr);
    }
  }
  // A timer that had run out but whose interrupt was not delivered yet reads as none at all: let it
  // run out again (the guest takes a timer's interrupt too many for what it is).
  if (deadline && deadline->data == 0) deadline->data = counter;
  return msrs;
}

}  // namespace

Result<VcpuState> save_vcpu(const Kvm& kvm, KvmVcpu& vcpu) {
  VcpuState state;
  // First: it makes KVM settle what is pending.
  HOB_TRY(state.mp_state, vcpu.get<kvm_mp_state>(KVM_GET_MP_STATE, "KVM_GET_MP_STATE"));
  HOB_TRY(state.cpuid, vcpu.cpuid());
  HOB_TRY(state.regs, vcpu.get<kvm_regs>(KVM_GET_REGS, "KVM_GET_REGS"));
  HOB_TRY(state.sregs, vcpu.get<kvm_sregs>(KVM_GET_SREGS, "KVM_GET_SREGS"));
  HOB_TRY(state.xsave, vcpu.xsave(kvm.xsave_bytes()));
  HOB_TRY(state.xcrs, vcpu.get<kvm_xcrs>(KVM_GET_XCRS, "KVM_GET_XCRS"));
  HOB_TRY(state.debug_registers, vcpu.get<kvm_debugregs>(KVM_GET_DEBUGREGS, "KVM_GET_DEBUGREGS"));
  HOB_TRY(state.lapic, vcpu.get<kvm_lapic_state>(KVM_GET_LAPIC, "KVM_GET_LAPIC"));
  HOB_TRY(std::vector<uint32_t> indices, kvm.msr_indices());
  indices.insert(indices.end(), std::begin(kMsrsMemoryTypes), std::end(kMsrsMemoryTypes));
  std::ranges::sort(indices);
  indices.erase(std::ranges::unique(indices).begin(), indices.end());
  HOB_TRY(state.msrs, vcpu.msrs(indices));
  HOB_TRY(state.events, vcpu.get<kvm_vcpu_events>(KVM_GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS"));
  state.tsc_khz = vcpu.tsc_khz();
  return state;
}

Result<void> restore_vcpu(const Kvm& kvm, KvmVcpu& vcpu, const VcpuState& state,
                          int64_t forward_ns) {
  HOB_CHECK(vcpu.set_cpuid(state.cpuid));
  if (state.tsc_khz != 0 && state.tsc_khz != vcpu.tsc_khz())
    HOB_CHECK(context(vcpu.set_tsc_khz(state.tsc_khz), "a counter of {} kHz", state.tsc_khz));
  HOB_CHECK(vcpu.set(KVM_SET_MP_STATE, state.mp_state, "KVM_SET_MP_STATE"));
  HOB_CHECK(vcpu.set(KVM_SET_REGS, state.regs, "KVM_SET_REGS"));
  HOB_CHECK(vcpu.set(KVM_SET_SREGS, state.sregs, "KVM_SET_SREGS"));
  HOB_CHECK(vcpu.set_xsave(state.xsave, kvm.xsave_bytes()));
  HOB_CHECK(vcpu.set(KVM_SET_XCRS, state.xcrs, "KVM_SET_XCRS"));
  HOB_CHECK(vcpu.set(KVM_SET_DEBUGREGS, state.debug_registers, "KVM_SET_DEBUGREGS"));
  std::optional<kvm_msr_entry> deadline;
  const std::vector<kvm_msr_entry> msrs = in_order(state, forward_ns, deadline);
  HOB_CHECK(set_all(vcpu, msrs));
  HOB_CHECK(vcpu.set(KVM_SET_LAPIC, state.lapic, "KVM_SET_LAPIC"));
  // Needs the LAPIC's timer mode.
  if (deadline) HOB_CHECK(set_all(vcpu, std::span(&*deadline, 1)));
  return vcpu.set(KVM_SET_VCPU_EVENTS, state.events, "KVM_SET_VCPU_EVENTS");
}

}  // namespace hob::microvm
