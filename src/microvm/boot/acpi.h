// The ACPI tables by which the guest finds its CPUs, interrupts and devices.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "microvm/memory/guest_memory.h"

namespace hob::microvm {

// A device in the virtio-mmio window, in the order of their ids.
struct MmioDevice {
  uint32_t base = 0;
  uint32_t gsi = 0;
};

struct AcpiDevices {
  int vcpus = 1;
  bool serial = true;
  std::vector<MmioDevice> virtio{};
  uint32_t generation_gsi = 0;  // interrupts when the id at layout::kVmGenId has changed
};

// kInvalid: the memory is too small for them.
Result<void> write_acpi(GuestMemory& memory, const AcpiDevices& devices);

}  // namespace hob::microvm
