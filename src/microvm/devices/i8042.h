// The keyboard controller: as much of it as Linux looks at, for two things. A write of 0xFE to its
// command port resets the machine, which ends it; and Ctrl+Alt+Del can be typed, which asks the
// guest to shut down. Any thread.
#pragma once

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

inline constexpr size_t kKeyboardBytesMax = 16;

// For snapshots.
struct I8042State {
  std::string output{};  // not read by the guest yet
  uint8_t control = 0;
  uint8_t output_port = 0;
  uint8_t command = 0;
};
BOOST_DESCRIBE_STRUCT(I8042State, (), (output, control, output_port, command))

class I8042 final : public BusDevice {
 public:
  // `on_reset` is called once for each reset asked for, on the vCPU's thread.
  I8042(Event& interrupt, std::function<void()> on_reset);

  void read(uint64_t offset,
            std::span<std::byte> data) override;  // from port 0x60: 0 data, 4 status
  void write(uint64_t offset, std::span<const std::byte> data) override;
  // False: the guest has not read earlier keys, there is no room.
  bool type_ctrl_alt_del();
  struct Counts {
    uint64_t reads = 0, writes = 0, resets = 0;
  };
  Counts counts() {
    const std::lock_guard lock(mutex_);
    return counts_;
  }

  I8042State save() const;
  // Interrupts if there is something to read. kCorrupt: more bytes than there may be.
  Result<void> restore(const I8042State& state);

 private:
  void put(std::initializer_list<uint8_t> bytes);
  void raise_if_wanted();

  mutable std::mutex mutex_;
  Event& interrupt_;
  std::function<void()> on_reset_;
  std::deque<uint8_t> output_;
  uint8_t control_ = 0x05;  // keyboard interrupt on, self test passed, no translation
  uint8_t output_port_ = 0;
  Counts counts_;
  uint8_t command_ = 0;  // whose parameter byte comes next; 0: none's
};

}  // namespace hob::microvm
