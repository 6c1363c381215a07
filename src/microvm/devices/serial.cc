#include "microvm/devices/serial.h"

#include <algorithm>

namespace hob::microvm {
namespace {

// Registers and bits of the 16550A's data sheet.
enum : uint64_t {
  kData,
  kInterruptEnable,
  kInterruptId,
  kLineControl,
  kModemControl,
  kLineStatus,
  kModemStatus,
  kScratch
};
constexpr uint8_t kEnableReceived = 1;
constexpr uint8_t kEnableTransmitted = 2;
constexpr uint8_t kIdNone = 1;
constexpr uint8_t kIdTransmitted = 2;
constexpr uint8_t kIdReceived = 4;
constexpr uint8_t kIdFifo = 0xc0;
constexpr uint8_t kDivisorLatch = 0x80;
constexpr uint8_t kLoopback = 0x10;
constexpr uint8_t kStatusReceived = 1;
constexpr uint8_t kStatusTransmitterEmpty = 0x60;  // holding and shift register
// Carrier, data set ready, clear to send.
constexpr uint8_t kModemConnected = 0xb0;

}  // namespace

Serial::Serial(Event& interrupt, std::function<void(std::byte)> write_byte,
               std::function<void()> on_room)
    : interrupt_(interrupt), write_byte_(std::move(write_byte)), on_room_(std::move(on_room)) {}

size_t Serial::type(std::span<const std::byte> bytes) {
  const std::lock_guard lock(mutex_);
  const size_t taken = std::min(bytes.size(), kSerialInputBytesMax - input_.size());
  input_.insert(input_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
  input_waits_ = taken < bytes.size();
  raise_if_wanted();
  return taken;
}

void Serial::read(uint64_t offset, std::span<std::byte> data) {
  const std::lock_guard lock(mutex_);
  ++(data.size() == 1 ? counts_.reads : counts_.missed_reads);
  put_number(data, data.size() == 1 ? read_register(offset) : 0);
}

void Serial::write(uint64_t offset, std::span<const std::byte> data) {
  const std::lock_guard lock(mutex_);
  ++(data.size() == 1 ? counts_.writes : counts_.missed_writes);
  if (data.size() == 1) write_register(offset, std::to_integer<uint8_t>(data[0]));
}

uint8_t Serial::read_register(uint64_t offset) {
  switch (offset) {
    case kData: {
      if ((line_control_ & kDivisorLatch) != 0) return static_cast<uint8_t>(divisor_);
      if (input_.empty()) return 0;
      const auto value = std::to_integer<uint8_t>(input_.front());
      input_.pop_front();
      if (input_.empty() && std::exchange(input_waits_, false) && on_room_) on_room_();
      raise_if_wanted();
      return value;
    }
    case kInterruptEnable:
      return (line_control_ & kDivisorLatch) != 0 ? static_cast<uint8_t>(divisor_ >> 8)
                                                  : interrupt_enable_;
    case kInterruptId: {
      const uint8_t fifo = fifo_ ? kIdFifo : 0;
      if (!input_.empty() && (interrupt_enable_ & kEnableReceived) != 0) return fifo | kIdReceived;
      if (std::exchange(transmit_interrupt_, false)) return fifo | kIdTransmitted;
      return fifo | kIdNone;
    }
    case kLineControl:
      return line_control_;
    case kModemControl:
      return modem_control_;
    case kLineStatus:
      return static_cast<uint8_t>(kStatusTransmitterEmpty | (input_.empty() ? 0 : kStatusReceived));
    case kModemStatus:
      if ((modem_control_ & kLoopback) == 0) return kModemConnected;
      // The outputs come back as inputs: request to send, data terminal ready, and the two others.
      return static_cast<uint8_t>((modem_control_ & 2) << 3 | (modem_control_ & 1) << 5 |
                                  (modem_control_ & 4) << 4 | (modem_control_ & 8) << 4);
    default:
      return scratch_;
  }
}

void Serial::write_register(uint64_t offset, uint8_t value) {
  switch (offset) {
    case kData:
      if ((line_control_ & kDivisorLatch) != 0) {
        divisor_ = static_cast<uint16_t>((divisor_ & 0xff00) | value);
        return;
      }
      if ((modem_control_ & kLoopback) != 0) {
        if (input_.size() < kSerialInputBytesMax) input_.push_back(static_cast<std::byte>(value));
      } else {
        write_byte_(static_cast<std::byte>(value));
      }
      if ((interrupt_enable_ & kEnableTransmitted) != 0) transmit_interrupt_ = true;
      return raise_if_wanted();
    case kInterruptEnable:
      if ((line_control_ & kDivisorLatch) != 0) {
        divisor_ = static_cast<uint16_t>((divisor_ & 0xff) | value << 8);
        return;
      }
      // Enabling it while the transmitter is empty, which ours always is, tells so.
      if ((value & ~interrupt_enable_ & kEnableTransmitted) != 0) transmit_interrupt_ = true;
      if ((value & kEnableTransmitted) == 0) transmit_interrupt_ = false;
      interrupt_enable_ = value & 0x0f;
      return raise_if_wanted();
    case kInterruptId:  // FIFO control when written
      fifo_ = (value & 1) != 0;
      if ((value & 2) != 0) input_.clear();
      return;
    case kLineControl:
      line_control_ = value;
      return;
    case kModemControl:
      modem_control_ = value & 0x1f;
      return;
    case kScratch:
      scratch_ = value;
      return;
    default:
      return;
  }
}

void Serial::raise_if_wanted() {
  const bool received = !input_.empty() && (interrupt_enable_ & kEnableReceived) != 0;
  if (received || transmit_interrupt_) interrupt_.signal();
}

SerialState Serial::save() const {
  const std::lock_guard lock(mutex_);
  SerialState state{.interrupt_enable = interrupt_enable_,
                    .transmit_interrupt = transmit_interrupt_,
                    .line_control = line_control_,
                    .modem_control = modem_control_,
                    .scratch = scratch_,
                    .divisor = divisor_,
                    .fifo = fifo_};
  for (const std::byte byte : input_) state.input += static_cast<char>(byte);
  return state;
}

Result<void> Serial::restore(const SerialState& state) {
  if (state.input.size() > kSerialInputBytesMax)
    return fail(Code::kCorrupt, "COM1 has {} bytes waiting, at most {}", state.input.size(),
                kSerialInputBytesMax);
  const std::lock_guard lock(mutex_);
  input_.clear();
  for (const char byte : state.input) input_.push_back(static_cast<std::byte>(byte));
  interrupt_enable_ = state.interrupt_enable & 0x0f;
  transmit_interrupt_ = state.transmit_interrupt;
  line_control_ = state.line_control;
  modem_control_ = state.modem_control & 0x1f;
  scratch_ = state.scratch;
  divisor_ = state.divisor;
  fifo_ = state.fifo;
  raise_if_wanted();
  return {};
}

}  // namespace hob::microvm
