// What a snapshot keeps of a machine, its memory apart: plain structs, encoded by
// snapshot/encoding.h. Members are added at a struct's end alone.
#pragma once

#include <linux/kvm.h>

#include <boost/describe.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "microvm/devices/i8042.h"
#include "microvm/devices/serial.h"
#include "microvm/virtio/mmio.h"

namespace hob::microvm {

// As KVM gives it and takes it back.
struct VcpuState {
  std::vector<kvm_cpuid_entry2> cpuid{};
  std::vector<kvm_msr_entry> msrs{};
  kvm_mp_state mp_state{};
  kvm_regs regs{};
  kvm_sregs sregs{};
  std::string xsave{};  // FPU and vector registers, in as many bytes as the host's CPU has of them
  kvm_xcrs xcrs{};
  kvm_debugregs debug_registers{};
  kvm_lapic_state lapic{};
  kvm_vcpu_events events{};
  uint32_t tsc_khz = 0;  // 0: not known
};
BOOST_DESCRIBE_STRUCT(VcpuState, (),
                      (cpuid, msrs, mp_state, regs, sregs, xsave, xcrs, debug_registers, lapic,
                       events, tsc_khz))

// Of the device at one place of the virtio-mmio window.
struct DeviceState {
  uint32_t type = 0;
  TransportState transport{};
  std::string device{};  // VirtioDevice::save's
};
BOOST_DESCRIBE_STRUCT(DeviceState, (), (type, transport, device))

struct MachineState {
  std::vector<VcpuState> vcpus{};
  kvm_irqchip first_pic{};
  kvm_irqchip second_pic{};
  kvm_irqchip ioapic{};
  kvm_clock_data clock{};
  int64_t taken_at_ns = 0;  // the host's wall clock, since 1970
  SerialState serial{};
  I8042State keyboard{};
  std::vector<DeviceState> devices{};
};
BOOST_DESCRIBE_STRUCT(MachineState, (),
                      (vcpus, first_pic, second_pic, ioapic, clock, taken_at_ns, serial, keyboard,
                       devices))

}  // namespace hob::microvm
