// A kernel file, put into the guest's memory: an ELF vmlinux or an x86 bzImage.
//
// The file is not trusted: every offset and size in it is checked against the file and the guest's
// memory, and a file that is no kernel is kInvalid with what is wrong about it. It is read, not
// mapped into the guest: a kernel patches its own text as it starts, so nearly every page of a
// mapping would be read, then copied for it, three exits each, and none of it would lie in the
// host's large pages. Nor is it copied out of a mapping of ours: making and ending that takes twice
// the time.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "microvm/memory/guest_memory.h"

namespace hob::microvm {

enum class BootProtocol {
  kPvh,      // 32-bit entry, hvm_start_info (ELF with a "Xen" note of type 18)
  kLinux64,  // 64-bit entry, boot_params (any other ELF, and a bzImage)
};

struct Kernel {
  BootProtocol protocol = BootProtocol::kLinux64;
  GuestAddress entry = 0;
  GuestAddress end = 0;  // of what must stay as it was loaded, until the kernel runs
  // A bzImage's own setup header, from 0x1f1 of the file on; empty for an ELF.
  std::vector<std::byte> setup_header{};
};

inline constexpr size_t kProgramHeadersMax = 64;
inline constexpr uint64_t kNotesBytesMax = 65536;
inline constexpr uint64_t kSetupHeaderBytesMax = 0x300 - 0x1f1;
// kInvalid: no kernel, or it does not fit into the memory; kUnavailable: reading failed.
Result<Kernel> load_kernel(int fd, GuestMemory& memory);

struct Initrd {
  GuestAddress address = 0;
  uint64_t bytes = 0;
};

// As high as it fits below the hole, and above `floor`.
Result<Initrd> load_initrd(int fd, GuestMemory& memory, GuestAddress floor);

}  // namespace hob::microvm
