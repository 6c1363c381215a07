// COM1: a 16550A whose line is a file descriptor.
//
// Output is written as it comes, byte for byte; a reader that is slow holds nobody up: what its
// descriptor does not take is dropped. What is typed waits until there is room for it. Any thread.
#pragma once

#include <array>
#include <boost/describe.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>

#include "base/result.h"
#include "microvm/devices/bus.h"
#include "microvm/devices/event.h"

namespace hob::microvm {

inline constexpr size_t kSerialInputBytesMax = 64;

// For snapshots.
struct SerialState {
  std::string input{};
  uint8_t interrupt_enable = 0;
  bool transmit_interrupt = false;
  uint8_t line_control = 0;
  uint8_t modem_control = 0;
  uint8_t scratch = 0;
  uint16_t divisor = 0;
  bool fifo = false;
};
BOOST_DESCRIBE_STRUCT(SerialState, (),
                      (input, interrupt_enable, transmit_interrupt, line_control, modem_control,
                       scratch, divisor, fifo))

class Serial final : public BusDevice {
 public:
  // `write_byte`: called under the device's lock, must not wait. Both must outlive it.
  // `on_room`: likewise, when there is room again for input that was not taken.
  Serial(Event& interrupt, std::function<void(std::byte)> write_byte,
         std::function<void()> on_room = {});
  // How many of them the guest will read; the rest is not taken.
  size_t type(std::span<const std::byte> bytes);
  struct Counts {
    uint64_t reads = 0, writes = 0, missed_reads = 0, missed_writes = 0;
  };
  Counts counts() const {
    const std::lock_guard lock(mutex_);
    return counts_;
  }

  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;

  SerialState save() const;
  // Interrupts if the guest waits for it. kCorrupt: more input than there may be.
  Result<void> restore(const SerialState& state);

 private:
  uint8_t read_register(uint64_t offset);
  void write_register(uint64_t offset, uint8_t value);
  void raise_if_wanted();

  mutable std::mutex mutex_;
  Event& interrupt_;
  std::function<void(std::byte)> write_byte_;
  std::function<void()> on_room_;
  bool input_waits_ = false;  // not all that was typed was taken
  std::deque<std::byte> input_;
  uint8_t interrupt_enable_ = 0;
  bool transmit_interrupt_ = false;  // the transmitter has become empty, and it was not told yet
  uint8_t line_control_ = 0;
  uint8_t modem_control_ = 0x08;
  uint8_t scratch_ = 0;
  uint16_t divisor_ = 12;  // 9600 baud, as after reset; changes nothing
  bool fifo_ = false;
  Counts counts_;
};

}  // namespace hob::microvm
