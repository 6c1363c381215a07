#include "microvm/boot/acpi.h"

#include <fmt/core.h>

#include <cstring>
#include <string>

#include "microvm/boot/aml.h"
#include "microvm/layout.h"

namespace hob::microvm {
namespace {

// Every table's first 36 bytes (ACPI 6.4, 5.2.6).
struct [[gnu::packed]] Header {
  char signature[4];
  uint32_t length = 0;
  uint8_t revision = 0;
  uint8_t checksum = 0;
  char oem[6] = {'H', 'O', 'B', 'V', 'M', 'M'};
  char oem_table[8] = {'H', 'O', 'B', 'V', 'M', 'M', ' ', ' '};
  uint32_t oem_revision = 1;
  char creator[4] = {'H', 'O', 'B', ' '};
  uint32_t creator_revision = 1;
};
static_assert(sizeof(Header) == 36);

// 5.2.5.3
struct [[gnu::packed]] Rsdp {
  char signature[8] = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '};
  uint8_t checksum = 0;
  char oem[6] = {'H', 'O', 'B', 'V', 'M', 'M'};
  uint8_t revision = 2;
  uint32_t rsdt = 0;
  uint32_t length = sizeof(Rsdp);
  uint64_t xsdt = 0;
  uint8_t extended_checksum = 0;
  uint8_t reserved[3] = {};
};
static_assert(sizeof(Rsdp) == 36);

constexpr size_t kFadtBytes = 276;  // 5.2.9, revision 6.5
constexpr size_t kFadtBootFlags = 109;
constexpr size_t kFadtFlags = 112;
constexpr size_t kFadtMinorRevision = 131;
constexpr size_t kFadtXDsdt = 140;
// IA-PC boot flags: there is an 8042; no VGA, no CMOS clock to be asked for the time, no message
// interrupts.
constexpr uint16_t kBootFlags = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5;
// Fixed flags: no power button, no sleep button, hardware-reduced.
constexpr uint32_t kFixedFlags = 1 << 4 | 1 << 5 | 1 << 20;

template <class T>
void put(std::string& table, size_t at, const T& value) {
  std::memcpy(table.data() + at, &value, sizeof value);
}

uint8_t checksum(std::string_view bytes) {
  uint8_t sum = 0;
  for (const char byte : bytes) sum = static_cast<uint8_t>(sum + static_cast<uint8_t>(byte));
  return static_cast<uint8_t>(-sum);
}

std::string table(const char (&signature)[5], uint8_t revision, std::string_view content) {
  Header header{.signature = {signature[0], signature[1], signature[2], signature[3]},
                .revision = revision};
  header.length = static_cast<uint32_t>(sizeof header + content.size());
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes += content;
  bytes[offsetof(Header, checksum)] = static_cast<char>(checksum(bytes));
  return bytes;
}

std::string dsdt(const AcpiDevices& devices) {
  aml::Bytes terms;
  for (size_t i = 0; i < devices.virtio.size(); ++i) {
    const MmioDevice& device = devices.virtio[i];
    terms += aml::device(
        fmt::format("V{:03X}", i),
        aml::name("_HID", aml::text("LNRO0005")) + aml::name("_UID", aml::integer(i)) +
            aml::name("_CCA", aml::integer(1)) +
            aml::name("_CRS", aml::resources(aml::memory32(device.base, layout::kVirtioMmioBytes) +
                                             aml::interrupt(device.gsi))));
  }
  if (devices.serial)
    terms += aml::device(
        "COM1", aml::name("_HID", aml::eisa_id("PNP0501")) + aml::name("_UID", aml::integer(0)) +
                    aml::name("_CRS", aml::resources(aml::interrupt(layout::kSerialGsi) +
                                                     aml::ports(layout::kSerialPort, 8))));
  terms += aml::device("PS2_",
                       aml::name("_HID", aml::eisa_id("PNP0303")) +
                           aml::name("_CRS", aml::resources(aml::ports(layout::kI8042Data, 1) +
                                                            aml::ports(layout::kI8042Command, 1) +
                                                            aml::interrupt(layout::kI8042Gsi))));
  // Microsoft's "Virtual Machine Generation ID": where the id lies, and a notification when it
  // changes.
  terms += aml::device(
      "VGEN",
      aml::name("_HID", aml::text("VMGENCTR")) + aml::name("_CID", aml::text("VM_Gen_Counter")) +
          aml::name("_DDN", aml::text("VM_Gen_Counter")) +
          aml::name("ADDR", aml::package(2, aml::integer(layout::kVmGenId) + aml::integer(0))));
  terms += aml::device(
      "GED_", aml::name("_HID", aml::text("ACPI0013")) + aml::name("_UID", aml::integer(0)) +
                  aml::name("_CRS", aml::resources(aml::interrupt(devices.generation_gsi))) +
                  aml::method("_EVT", 1,
                              aml::if_argument_is(devices.generation_gsi,
                                                  aml::notify("\\_SB_.VGEN", 0x80))));
  return table("DSDT", 6, aml::scope("\\_SB_", terms));
}

std::string fadt(uint64_t dsdt_address) {
  std::string content(kFadtBytes - sizeof(Header), '\0');
  put(content, kFadtBootFlags - sizeof(Header), kBootFlags);
  put(content, kFadtFlags - sizeof(Header), kFixedFlags);
  content[kFadtMinorRevision - sizeof(Header)] = 5;
  put(content, kFadtXDsdt - sizeof(Header), dsdt_address);
  std::memcpy(content.data() + 268 - sizeof(Header), "HOBVMM\0\0", 8);  // who the hypervisor is
  return table("FACP", 6, content);
}

std::string madt(int vcpus) {
  std::string content;
  const auto add = [&content](const auto& entry) {
    content.append(reinterpret_cast<const char*>(&entry), sizeof entry);
  };
  struct [[gnu::packed]] {
    uint32_t lapic = layout::kLapic;
    uint32_t flags = 0;
  } first;
  add(first);
  struct [[gnu::packed]] {  // 5.2.12.3
    uint8_t type = 1;
    uint8_t length = 12;
    uint8_t id = 0;
    uint8_t reserved = 0;
    uint32_t address = layout::kIoapic;
    uint32_t gsi_base = 0;
  } ioapic;
  add(ioapic);
  for (int i = 0; i < vcpus; ++i) {
    struct [[gnu::packed]] {  // 5.2.12.2
      uint8_t type = 0;
      uint8_t length = 8;
      uint8_t processor = 0;
      uint8_t apic = 0;
      uint32_t flags = 1;  // enabled
    } lapic;
    lapic.processor = lapic.apic = static_cast<uint8_t>(i);
    add(lapic);
  }
  return table("APIC", 6, content);
}

}  // namespace

Result<void> write_acpi(GuestMemory& memory, const AcpiDevices& devices) {
  GuestAddress next = layout::kSystemTables;
  const auto place = [&](const std::string& bytes) -> Result<GuestAddress> {
    const GuestAddress at = next;
    next = (at + bytes.size() + 15) & ~GuestAddress{15};
    if (next > layout::kVmGenId || !memory.write_bytes(at, std::as_bytes(std::span(bytes))))
      return fail(Code::kInvalid, "the guest's memory has no room for the ACPI tables");
    return at;
  };
  HOB_TRY(const GuestAddress dsdt_at, place(dsdt(devices)));
  HOB_TRY(const GuestAddress fadt_at, place(fadt(dsdt_at)));
  HOB_TRY(const GuestAddress madt_at, place(madt(devices.vcpus)));
  std::string entries(16, '\0');
  put(entries, 0, fadt_at);
  put(entries, 8, madt_at);
  HOB_TRY(const GuestAddress xsdt_at, place(table("XSDT", 1, entries)));
  Rsdp rsdp{.xsdt = xsdt_at};
  const std::string_view bytes(reinterpret_cast<const char*>(&rsdp), sizeof rsdp);
  rsdp.checksum = checksum(bytes.substr(0, 20));
  rsdp.extended_checksum = checksum(bytes);
  if (!memory.write(layout::kRsdp, rsdp))
    return fail(Code::kInvalid, "the guest's memory has no room for the ACPI tables");
  return {};
}

}  // namespace hob::microvm
