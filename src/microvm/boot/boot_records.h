// What the guest's kernel is handed over at its entry: command line, memory map, where the initrd
// lies, and for the 64-bit protocol page tables and a GDT. And the state in which its first CPU
// starts.
#pragma once

#include <linux/kvm.h>

#include <optional>
#include <string_view>

#include "base/result.h"
#include "microvm/boot/kernel_image.h"
#include "microvm/memory/guest_memory.h"

namespace hob::microvm {

// `command_line`: at most layout::kCommandLineBytes - 1, without a zero byte (checked by who built
// it). kInvalid: the memory is too small for it.
Result<void> write_boot_records(GuestMemory& memory, const Kernel& kernel,
                                std::string_view command_line, const std::optional<Initrd>& initrd);

// Changes what the entry needs in what KVM gave the CPU; the rest stays.
struct BootRegisters {
  kvm_regs regs{};
  kvm_sregs sregs{};
  kvm_fpu fpu{};
};
BootRegisters boot_registers(const Kernel& kernel, const kvm_sregs& initial);

}  // namespace hob::microvm
