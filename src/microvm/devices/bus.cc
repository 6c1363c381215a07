#include "microvm/devices/bus.h"

#include <algorithm>

#include "base/assert.h"

namespace hob::microvm {

void Bus::insert(uint64_t base, uint64_t length, BusDevice& device) {
  HOB_ASSERT(length > 0);
  const auto next = std::ranges::upper_bound(ranges_, base, {}, &Range::base);
  HOB_ASSERT(next == ranges_.end() || base + length <= next->base);
  HOB_ASSERT(next == ranges_.begin() || std::prev(next)->base + std::prev(next)->length <= base);
  ranges_.insert(next, {.base = base, .length = length, .device = &device});
}

const Bus::Range* Bus::find(uint64_t address, size_t bytes) const {
  const auto next = std::ranges::upper_bound(ranges_, address, {}, &Range::base);
  if (next == ranges_.begin()) return nullptr;
  const Range& range = *std::prev(next);
  const uint64_t offset = address - range.base;
  return offset < range.length && bytes <= range.length - offset ? &range : nullptr;
}

void Bus::read(uint64_t address, std::span<std::byte> data) const {
  const Range* range = find(address, data.size());
  if (range == nullptr) {
    std::ranges::fill(data, std::byte{0xff});
    return;
  }
  range->device->read(address - range->base, data);
}

void Bus::write(uint64_t address, std::span<const std::byte> data) const {
  if (const Range* range = find(address, data.size()))
    range->device->write(address - range->base, data);
}

uint64_t number_of(std::span<const std::byte> data) {
  uint64_t value = 0;
  for (size_t i = 0; i < data.size() && i < sizeof value; ++i)
    value |= std::to_integer<uint64_t>(data[i]) << (8 * i);
  return value;
}

void put_number(std::span<std::byte> data, uint64_t value) {
  for (size_t i = 0; i < data.size(); ++i)
    data[i] = static_cast<std::byte>(i < sizeof value ? value >> (8 * i) : 0);
}

}  // namespace hob::microvm
