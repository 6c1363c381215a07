#include "microvm/devices/i8042.h"

#include <array>
#include <utility>

namespace hob::microvm {
namespace {

constexpr uint64_t kDataPort = 0;
constexpr uint64_t kCommandPort = 4;
constexpr uint8_t kOutputFull = 1;
constexpr uint8_t kKeyboardInterrupt = 1;  // in the control byte
// Commands to the controller.
constexpr uint8_t kReadControl = 0x20;
constexpr uint8_t kWriteControl = 0x60;
constexpr uint8_t kTest = 0xaa;
constexpr uint8_t kReadOutputPort = 0xd0;
constexpr uint8_t kWriteOutputPort = 0xd1;
constexpr uint8_t kReset = 0xfe;
constexpr uint8_t kAcknowledged = 0xfa;  // the keyboard's answer to what is sent to it
constexpr uint8_t kTestPassed = 0x55;

}  // namespace

I8042::I8042(Event& interrupt, std::function<void()> on_reset)
    : interrupt_(interrupt), on_reset_(std::move(on_reset)) {}

void I8042::put(std::initializer_list<uint8_t> bytes) {
  if (output_.size() + bytes.size() > kKeyboardBytesMax) return;
  output_.insert(output_.end(), bytes);
}

void I8042::raise_if_wanted() {
  if (!output_.empty() && (control_ & kKeyboardInterrupt) != 0) interrupt_.signal();
}

void I8042::read(uint64_t offset, std::span<std::byte> data) {
  const std::lock_guard lock(mutex_);
  ++counts_.reads;
  uint8_t value = 0;
  if (offset == kCommandPort) {
    value = output_.empty() ? 0 : kOutputFull;
  } else if (offset == kDataPort && !output_.empty()) {
    value = output_.front();
    output_.pop_front();
    raise_if_wanted();
  }
  put_number(data, value);
}

void I8042::write(uint64_t offset, std::span<const std::byte> data) {
  const auto value = std::to_integer<uint8_t>(data[0]);
  const bool reset = offset == kCommandPort && value == kReset;
  {
    const std::lock_guard lock(mutex_);
    ++(reset ? counts_.resets : counts_.writes);
  }
  if (reset) return on_reset_();
  const std::lock_guard lock(mutex_);
  if (offset == kCommandPort) {
    command_ = 0;
    switch (value) {
      case kReadControl:
        put({control_});
        break;
      case kTest:
        put({kTestPassed});
        break;
      case kReadOutputPort:
        put({output_port_});
        break;
      case kWriteControl:
      case kWriteOutputPort:
        command_ = value;
        break;
      default:
        break;
    }
  } else if (offset == kDataPort) {
    switch (std::exchange(command_, 0)) {
      case kWriteControl:
        control_ = value;
        break;
      case kWriteOutputPort:
        output_port_ = value;
        break;
      default:
        put({kAcknowledged});
        break;
    }
  }
  raise_if_wanted();
}

bool I8042::type_ctrl_alt_del() {
  const std::lock_guard lock(mutex_);
  // Scan codes of set 2, not translated, as the control byte says: Ctrl, Alt, Delete pressed.
  constexpr std::array<uint8_t, 4> kKeys = {0x14, 0x11, 0xe0, 0x71};
  if (output_.size() + kKeys.size() > kKeyboardBytesMax) return false;
  output_.insert(output_.end(), kKeys.begin(), kKeys.end());
  raise_if_wanted();
  return true;
}

I8042State I8042::save() const {
  const std::lock_guard lock(mutex_);
  return {.output = std::string(output_.begin(), output_.end()),
          .control = control_,
          .output_port = output_port_,
          .command = command_};
}

Result<void> I8042::restore(const I8042State& state) {
  if (state.output.size() > kKeyboardBytesMax)
    return fail(Code::kCorrupt, "the keyboard has {} bytes waiting, at most {}",
                state.output.size(), kKeyboardBytesMax);
  const std::lock_guard lock(mutex_);
  output_.assign(state.output.begin(), state.output.end());
  control_ = state.control;
  output_port_ = state.output_port;
  command_ = state.command;
  raise_if_wanted();
  return {};
}

}  // namespace hob::microvm
