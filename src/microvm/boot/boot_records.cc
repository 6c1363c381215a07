#include "microvm/boot/boot_records.h"

#include <asm/bootparam.h>

#include <cstring>
#include <vector>

#include "base/assert.h"
#include "microvm/layout.h"

namespace hob::microvm {
namespace {

// Xen's public/arch-x86/hvm/start_info.h, version 1.
struct PvhStartInfo {
  uint32_t magic = 0x336ec578;
  uint32_t version = 1;
  uint32_t flags = 0;
  uint32_t modules = 0;
  uint64_t modules_address = 0;
  uint64_t command_line_address = 0;
  uint64_t rsdp_address = 0;
  uint64_t memory_map_address = 0;
  uint32_t memory_map_entries = 0;
  uint32_t reserved = 0;
};
struct PvhModule {
  uint64_t address = 0;
  uint64_t bytes = 0;
  uint64_t command_line_address = 0;
  uint64_t reserved = 0;
};
struct PvhMemoryRange {
  uint64_t address = 0;
  uint64_t bytes = 0;
  uint32_t type = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(PvhStartInfo) == 56 && sizeof(PvhModule) == 32 &&
              sizeof(PvhMemoryRange) == 24);

constexpr uint32_t kRam = 1;  // both in E820 and in PVH
constexpr uint32_t kReserved = 2;

struct MemoryRange {
  uint64_t address;
  uint64_t bytes;
  uint32_t type;
};

std::vector<MemoryRange> memory_map(const GuestMemory& memory) {
  std::vector<MemoryRange> map = {
      {0, layout::kLowMemoryEnd, kRam},
      {layout::kLowMemoryEnd, layout::kHighMemory - layout::kLowMemoryEnd, kReserved},
  };
  for (const GuestMemory::Region& region : memory.regions()) {
    const uint64_t from = region.base == 0 ? layout::kHighMemory : region.base;
    map.push_back({from, region.base + region.bytes - from, kRam});
  }
  return map;
}

// Flat segments: base 0, 4 GiB, or 64-bit code. Bits as in the descriptor's upper half (Intel SDM
// 3A, 3.4.5).
constexpr uint64_t descriptor(uint16_t flags, uint32_t limit) {
  return (uint64_t{limit} & 0xffff) | (uint64_t{flags} & 0xf0ff) << 40 |
         (uint64_t{limit} >> 16 & 0xf) << 48;
}

struct Gdt {
  uint64_t null = 0;
  uint64_t code = 0;
  uint64_t data = 0;
  uint64_t tss = 0;
};

Gdt gdt_of(BootProtocol protocol) {
  const uint16_t code = protocol == BootProtocol::kPvh ? 0xc09b : 0xa09b;
  const uint32_t tss_limit = protocol == BootProtocol::kPvh ? 0x67 : 0xfffff;
  return {.code = descriptor(code, 0xfffff),
          .data = descriptor(0xc093, 0xfffff),
          .tss = descriptor(protocol == BootProtocol::kPvh ? 0x008b : 0x808b, tss_limit)};
}

kvm_segment segment_of(uint64_t entry, uint16_t index) {
  kvm_segment segment{};
  const uint16_t flags = static_cast<uint16_t>(entry >> 40 & 0xf0ff);
  const auto limit = static_cast<uint32_t>((entry & 0xffff) | (entry >> 48 & 0xf) << 16);
  segment.g = flags >> 15 & 1;
  segment.limit = segment.g != 0 ? limit << 12 | 0xfff : limit;
  segment.selector = static_cast<uint16_t>(index * 8);
  segment.type = flags & 0xf;
  segment.s = flags >> 4 & 1;
  segment.dpl = flags >> 5 & 3;
  segment.present = flags >> 7 & 1;
  segment.avl = flags >> 12 & 1;
  segment.l = flags >> 13 & 1;
  segment.db = flags >> 14 & 1;
  return segment;
}

Result<void> written(bool ok) {
  if (!ok) return fail(Code::kInvalid, "the guest's memory is too small to start a kernel in");
  return {};
}

Result<void> write_pvh(GuestMemory& memory, const std::optional<Initrd>& initrd) {
  PvhStartInfo info{.command_line_address = layout::kCommandLine,
                    .rsdp_address = layout::kRsdp,
                    .memory_map_address = layout::kPvhMemoryMap};
  if (initrd) {
    info.modules = 1;
    info.modules_address = layout::kPvhModules;
    HOB_CHECK(written(memory.write(layout::kPvhModules,
                                   PvhModule{.address = initrd->address, .bytes = initrd->bytes})));
  }
  for (const MemoryRange& range : memory_map(memory)) {
    const PvhMemoryRange entry{.address = range.address, .bytes = range.bytes, .type = range.type};
    HOB_CHECK(written(
        memory.write(layout::kPvhMemoryMap + info.memory_map_entries++ * sizeof entry, entry)));
  }
  return written(memory.write(layout::kPvhStartInfo, info));
}

Result<void> write_linux(GuestMemory& memory, const Kernel& kernel, std::string_view command_line,
                         const std::optional<Initrd>& initrd) {
  boot_params parameters{};
  static_assert(sizeof(boot_params) == 4096);
  HOB_ASSERT(kernel.setup_header.size() <= sizeof(parameters.hdr));
  std::memcpy(&parameters.hdr, kernel.setup_header.data(), kernel.setup_header.size());
  parameters.hdr.type_of_loader = 0xff;
  parameters.hdr.boot_flag = 0xaa55;
  parameters.hdr.header = 0x53726448;  // "HdrS"
  parameters.hdr.kernel_alignment = 0x1000000;
  parameters.hdr.cmd_line_ptr = static_cast<uint32_t>(layout::kCommandLine);
  parameters.hdr.cmdline_size = static_cast<uint32_t>(command_line.size());
  parameters.acpi_rsdp_addr = layout::kRsdp;
  if (initrd) {
    // The first region ends below the hole, so both fit.
    parameters.hdr.ramdisk_image = static_cast<uint32_t>(initrd->address);
    parameters.hdr.ramdisk_size = static_cast<uint32_t>(initrd->bytes);
  }
  for (const MemoryRange& range : memory_map(memory)) {
    boot_e820_entry& entry = parameters.e820_table[parameters.e820_entries++];
    entry.addr = range.address;
    entry.size = range.bytes;
    entry.type = range.type;
  }
  HOB_CHECK(written(memory.write(layout::kBootParameters, parameters)));
  // The first GiB, one to one, in pages of 2 MiB: present, writable (and large).
  HOB_CHECK(written(memory.write(layout::kPml4, layout::kPdpt | 3)));
  HOB_CHECK(written(memory.write(layout::kPdpt, layout::kPageDirectory | 3)));
  for (uint64_t i = 0; i < 512; ++i)
    HOB_CHECK(written(memory.write(layout::kPageDirectory + i * 8, i << 21 | 0x83)));
  return {};
}

}  // namespace

Result<void> write_boot_records(GuestMemory& memory, const Kernel& kernel,
                                std::string_view command_line,
                                const std::optional<Initrd>& initrd) {
  HOB_ASSERT(command_line.size() < layout::kCommandLineBytes);
  HOB_CHECK(written(memory.bytes() > layout::kHighMemory));
  HOB_CHECK(written(memory.write(layout::kGdt, gdt_of(kernel.protocol))));
  HOB_CHECK(written(memory.write(layout::kIdt, uint64_t{0})));
  HOB_CHECK(
      written(memory.write_bytes(layout::kCommandLine, std::as_bytes(std::span(command_line)))));
  HOB_CHECK(written(memory.write(layout::kCommandLine + command_line.size(), uint8_t{0})));
  return kernel.protocol == BootProtocol::kPvh ? write_pvh(memory, initrd)
                                               : write_linux(memory, kernel, command_line, initrd);
}

BootRegisters boot_registers(const Kernel& kernel, const kvm_sregs& initial) {
  BootRegisters boot;
  boot.sregs = initial;
  const Gdt gdt = gdt_of(kernel.protocol);
  boot.sregs.gdt.base = layout::kGdt;
  boot.sregs.gdt.limit = sizeof(Gdt) - 1;
  boot.sregs.idt.base = layout::kIdt;
  boot.sregs.idt.limit = sizeof(uint64_t) - 1;
  const kvm_segment data = segment_of(gdt.data, 2);
  boot.sregs.cs = segment_of(gdt.code, 1);
  boot.sregs.ds = boot.sregs.es = boot.sregs.fs = boot.sregs.gs = boot.sregs.ss = data;
  boot.sregs.tr = segment_of(gdt.tss, 3);
  boot.regs.rflags = 2;
  boot.regs.rip = kernel.entry;
  if (kernel.protocol == BootProtocol::kPvh) {
    boot.sregs.cr0 = 0x11;  // protected mode, extension type
    boot.sregs.cr4 = 0;
    boot.sregs.efer = 0;
    boot.regs.rbx = layout::kPvhStartInfo;
  } else {
    boot.sregs.cr0 |= 0x80000001;  // paging, protected mode
    boot.sregs.cr3 = layout::kPml4;
    boot.sregs.cr4 |= 0x20;    // physical address extension
    boot.sregs.efer |= 0x500;  // long mode, enabled and active
    boot.regs.rsi = layout::kBootParameters;
    boot.regs.rsp = boot.regs.rbp = layout::kBootStack;
  }
  boot.fpu.fcw = 0x37f;
  boot.fpu.mxcsr = 0x1f80;
  return boot;
}

}  // namespace hob::microvm
