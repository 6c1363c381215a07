#include "microvm/boot/kernel_image.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <functional>

#include "base/file.h"
#include "microvm/boot/acpi.h"
#include "microvm/boot/aml.h"
#include "microvm/boot/boot_records.h"
#include "microvm/layout.h"
#include "microvm/testing.h"

namespace hob::microvm {
namespace {

using testing::memory_of;
constexpr uint64_t kMemory = 4 << 20;

Fd file_of(std::string_view bytes) {
  Fd file(memfd_create("kernel", MFD_CLOEXEC));
  EXPECT_EQ(write(file.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  return file;
}

// An ELF file of one loaded segment, and a note of Xen's where `pvh`.
struct TestElf {
  Elf64_Ehdr header{};
  Elf64_Phdr load{};
  Elf64_Phdr note{};
  std::string code = std::string(300'000, 'c');
  bool pvh = true;

  TestElf() {
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_entry = 0x200010;
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 2;
    load = {.p_type = PT_LOAD,
            .p_flags = 7,
            .p_offset = 0x1234,
            .p_vaddr = 0,
            .p_paddr = 0x200234,
            .p_filesz = code.size(),
            .p_memsz = code.size() + 100,
            .p_align = 4096};
    note = {.p_type = PT_NOTE,
            .p_flags = 0,
            .p_offset = 0x800,
            .p_vaddr = 0,
            .p_paddr = 0,
            .p_filesz = 20,
            .p_memsz = 20,
            .p_align = 4};
  }
  std::string bytes() const {
    std::string file(0x1234, '\0');
    std::memcpy(file.data(), &header, sizeof header);
    std::memcpy(file.data() + 64, &load, sizeof load);
    std::memcpy(file.data() + 64 + sizeof load, &note, sizeof note);
    const Elf64_Nhdr head{.n_namesz = 4, .n_descsz = 4, .n_type = pvh ? 18u : 17u};
    const uint32_t entry = 0x200400;
    std::memcpy(file.data() + 0x800, &head, sizeof head);
    std::memcpy(file.data() + 0x80c, "Xen", 4);
    std::memcpy(file.data() + 0x810, &entry, sizeof entry);
    return file + code;
  }
};

TEST(KernelImage, AnElfIsCopied) {
  GuestMemory memory = memory_of(kMemory);
  TestElf elf;
  for (size_t i = 0; i < elf.code.size(); ++i) elf.code[i] = static_cast<char>('a' + i % 23);
  const Fd file = file_of(elf.bytes());
  const auto kernel = load_kernel(file.get(), memory);
  ASSERT_TRUE(kernel) << kernel.error().message;
  EXPECT_EQ(kernel->protocol, BootProtocol::kPvh);
  EXPECT_EQ(kernel->entry, 0x200400u);
  EXPECT_EQ(kernel->end, 0x200234u + elf.code.size() + 100);
  EXPECT_EQ(testing::get(memory, 0x200234, elf.code.size()), elf.code);
  testing::put(memory, 0x201000, "written");  // the guest's alone: the file stays
  std::string again(7, '\0');
  ASSERT_EQ(pread(file.get(), again.data(), again.size(), 0x1234 + 0xdcc), 7);
  EXPECT_EQ(again, elf.code.substr(0xdcc, 7));
}

TEST(KernelImage, WithoutANoteItStartsByLinuxsProtocol) {
  GuestMemory memory = memory_of(kMemory);
  TestElf elf;
  elf.pvh = false;
  const auto kernel = load_kernel(file_of(elf.bytes()).get(), memory);
  ASSERT_TRUE(kernel);
  EXPECT_EQ(kernel->protocol, BootProtocol::kLinux64);
  EXPECT_EQ(kernel->entry, 0x200010u);
}

TEST(KernelImage, WhatIsNoKernelSaysWhatIsWrong) {
  struct Case {
    const char* part;
    std::function<void(TestElf&)> spoil;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"not for x86-64", [](TestElf& e) { e.header.e_machine = EM_AARCH64; }},
           {"cannot be started", [](TestElf& e) { e.header.e_type = ET_REL; }},
           {"malformed", [](TestElf& e) { e.header.e_phnum = 65535; }},
           {"malformed", [](TestElf& e) { e.header.e_phentsize = 1; }},
           {"outside of the file", [](TestElf& e) { e.header.e_phoff = UINT64_MAX - 8; }},
           {"lies outside of the file", [](TestElf& e) { e.load.p_filesz = UINT64_MAX; }},
           {"larger than its memory", [](TestElf& e) { e.load.p_memsz = 10; }},
           {"does not fit", [](TestElf& e) { e.load.p_paddr = UINT64_MAX - 100; }},
           {"does not fit", [](TestElf& e) { e.load.p_paddr = 0x1000; }},
           {"does not fit", [](TestElf& e) { e.load.p_memsz = UINT64_MAX; }},
           {"outside of what it loads",
            [](TestElf& e) {
              e.pvh = false;
              e.header.e_entry = 0x10;
            }},
           {"nothing to load", [](TestElf& e) { e.load.p_type = PT_NULL; }}}) {
    GuestMemory memory = memory_of(kMemory);
    TestElf elf;
    c.spoil(elf);
    const auto kernel = load_kernel(file_of(elf.bytes()).get(), memory);
    ASSERT_FALSE(kernel) << c.part;
    EXPECT_NE(kernel.error().message.find(c.part), std::string::npos) << kernel.error().message;
  }
  GuestMemory memory = memory_of(kMemory);
  for (const std::string& bytes : {std::string(),
                                   std::string("\x7f"
                                               "ELF"),
                                   std::string(5000, 'x')})
    EXPECT_FALSE(load_kernel(file_of(bytes).get(), memory));
}

TEST(Initrd, LiesAsHighAsItFitsAboveTheKernel) {
  GuestMemory memory = memory_of(kMemory);
  const auto initrd = load_initrd(file_of(std::string(5000, 'i')).get(), memory, 0x300000);
  ASSERT_TRUE(initrd);
  EXPECT_EQ(initrd->address, kMemory - 8192);
  EXPECT_EQ(testing::get(memory, initrd->address + 4999, 1), "i");
  EXPECT_FALSE(load_initrd(file_of(std::string(5000, 'i')).get(), memory, kMemory - 4096));
  EXPECT_FALSE(load_initrd(file_of("").get(), memory, 0));
}

TEST(BootRecords, TheGuestFindsItsCommandLineAndMemory) {
  GuestMemory memory = memory_of(kMemory);
  const Kernel kernel{.protocol = BootProtocol::kPvh, .entry = 0x200000};
  ASSERT_TRUE(write_boot_records(memory, kernel, "console=ttyS0",
                                 Initrd{.address = 0x300000, .bytes = 77}));
  EXPECT_EQ(testing::get(memory, layout::kCommandLine, 14), std::string("console=ttyS0\0", 14));
  EXPECT_EQ(memory.read<uint32_t>(layout::kPvhStartInfo), 0x336ec578u);
  EXPECT_EQ(memory.read<uint64_t>(layout::kPvhModules), 0x300000u);
  EXPECT_EQ(memory.read<uint64_t>(layout::kPvhMemoryMap + 8), layout::kLowMemoryEnd);
  GuestMemory small = memory_of(0x10000);
  EXPECT_FALSE(write_boot_records(small, kernel, "", std::nullopt));
}

TEST(Acpi, TablesAddUpAndHangTogether) {
  GuestMemory memory = memory_of(kMemory);
  ASSERT_TRUE(write_acpi(memory, {.vcpus = 32, .virtio = {{.base = 0xc0001000, .gsi = 5}}}));
  const auto sum = [&](GuestAddress at, size_t bytes) {
    uint8_t total = 0;
    for (const char byte : testing::get(memory, at, bytes))
      total = static_cast<uint8_t>(total + static_cast<uint8_t>(byte));
    return total;
  };
  EXPECT_EQ(testing::get(memory, layout::kRsdp, 8), "RSD PTR ");
  EXPECT_EQ(sum(layout::kRsdp, 20), 0);
  EXPECT_EQ(sum(layout::kRsdp, 36), 0);
  const GuestAddress xsdt = *memory.read<uint64_t>(layout::kRsdp + 24);
  for (const GuestAddress table :
       {xsdt, *memory.read<uint64_t>(xsdt + 36), *memory.read<uint64_t>(xsdt + 44)})
    EXPECT_EQ(sum(table, *memory.read<uint32_t>(table + 4)), 0);
  const GuestAddress dsdt = *memory.read<uint64_t>(*memory.read<uint64_t>(xsdt + 36) + 140);
  EXPECT_NE(testing::get(memory, dsdt, *memory.read<uint32_t>(dsdt + 4)).find("LNRO0005"),
            std::string::npos);
}

TEST(Aml, EncodingsOfTheSpecification) {
  EXPECT_EQ(aml::integer(0), std::string("\0", 1));
  EXPECT_EQ(aml::integer(0x1234), "\x0b\x34\x12");
  EXPECT_EQ(aml::eisa_id("PNP0501"), std::string("\x0c\x41\xd0\x05\x01", 5));
  // 20.2.4: up to 63 bytes of length in one byte, then 4 bits and a byte more.
  EXPECT_EQ(aml::name("ABCD", aml::text("x")), std::string("\x08"
                                                           "ABCD\x0dx\0",
                                                           8));
  EXPECT_EQ(aml::scope("\\_SB_", std::string(200, 'y')).substr(0, 3), "\x10\x4f\x0c");
}

}  // namespace
}  // namespace hob::microvm
