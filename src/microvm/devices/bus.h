// Which device answers at an address: one bus for ports, one for memory-mapped registers.
//
// Filled before the vCPUs run, read by all of them at once afterwards; so a device guards itself.
// What nobody answers reads as all ones, as on hardware, and writes to it are dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace hob::microvm {

// `offset` is from the device's base and less than its length; `data` has 1, 2, 4 or 8 bytes that
// do not reach beyond it. Called on vCPU threads, several at once.
class BusDevice {
 public:
  virtual ~BusDevice() = default;
  virtual void read(uint64_t offset, std::span<std::byte> data) = 0;
  virtual void write(uint64_t offset, std::span<const std::byte> data) = 0;
};

class Bus {
 public:
  // The range must be free. The device must outlive the bus.
  void insert(uint64_t base, uint64_t length, BusDevice& device);
  void read(uint64_t address, std::span<std::byte> data) const;
  void write(uint64_t address, std::span<const std::byte> data) const;

 private:
  struct Range {
    uint64_t base = 0;
    uint64_t length = 0;
    BusDevice* device = nullptr;
  };
  const Range* find(uint64_t address, size_t bytes) const;
  std::vector<Range> ranges_;  // by base
};

// `data` as a little-endian number, and back; what is longer than the number is zero.
uint64_t number_of(std::span<const std::byte> data);
void put_number(std::span<std::byte> data, uint64_t value);

}  // namespace hob::microvm
