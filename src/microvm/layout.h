// Where things lie in the guest's physical address space, as Firecracker has them (x86-64).
//
// RAM starts at 0 and goes on above 4 GiB where it does not fit below the hole. The legacy 640 KiB
// to 1 MiB range is RAM to KVM, reserved to the guest.
#pragma once

#include <cstdint>

namespace hob::microvm::layout {

inline constexpr uint64_t kGdt = 0x500;
inline constexpr uint64_t kIdt = 0x520;
inline constexpr uint64_t kPvhStartInfo = 0x6000;
inline constexpr uint64_t kPvhModules = 0x6040;
inline constexpr uint64_t kPvhMemoryMap = 0x7000;
inline constexpr uint64_t kBootParameters =
    0x7000;  // Linux's "zero page"; never together with PVH's map
inline constexpr uint64_t kBootStack = 0x8ff0;
inline constexpr uint64_t kPml4 = 0x9000;
inline constexpr uint64_t kPdpt = 0xa000;
inline constexpr uint64_t kPageDirectory = 0xb000;
inline constexpr uint64_t kCommandLine = 0x20000;
inline constexpr uint64_t kCommandLineBytes = 2048;  // its terminating zero among them
inline constexpr uint64_t kSystemTables = 0x9fc00;   // ACPI's, up to kRsdp
inline constexpr uint64_t kRsdp = 0xe0000;
// The generation id, 16 bytes that change with each restore; behind the tables.
inline constexpr uint64_t kVmGenId = 0xdf000;
inline constexpr uint64_t kVmGenIdBytes = 16;
inline constexpr uint64_t kLowMemoryEnd = kSystemTables;
inline constexpr uint64_t kHighMemory =
    0x100000;  // the kernel, and the memory that the guest may use from there

inline constexpr uint64_t kMmioHole = 0xc0000000;  // up to 4 GiB
inline constexpr uint64_t kFourGib = uint64_t{1} << 32;
inline constexpr uint64_t kHighPlacement = uint64_t{1} << 30;  // of what lies behind the memory
inline constexpr uint64_t kVirtioMmio = 0xc0001000;
inline constexpr uint64_t kVirtioMmioBytes = 0x1000;
inline constexpr uint64_t kIoapic = 0xfec00000;
inline constexpr uint64_t kLapic = 0xfee00000;
inline constexpr uint64_t kKvmTss = 0xfffbd000;
inline constexpr uint64_t kKvmIdentityMap = 0xfffbc000;

inline constexpr uint32_t kSerialGsi = 4;
inline constexpr uint32_t kI8042Gsi = 1;
inline constexpr uint32_t kFirstDeviceGsi = 5;
inline constexpr uint32_t kLastDeviceGsi = 23;

inline constexpr uint16_t kSerialPort = 0x3f8;
inline constexpr uint16_t kI8042Data = 0x60;
inline constexpr uint16_t kI8042Command = 0x64;

static_assert(kPvhModules > kPvhStartInfo && kPvhMemoryMap > kPvhModules);
static_assert(kVmGenId > kSystemTables && kVmGenId + kVmGenIdBytes <= kRsdp);
static_assert(kCommandLine + kCommandLineBytes <= kSystemTables);

}  // namespace hob::microvm::layout
