// The far side of COM1: two descriptors of this process, which may be a terminal, pipes or nothing.
#pragma once

#include <termios.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "microvm/devices/event.h"
#include "microvm/devices/timer.h"
#include "microvm/loop.h"
#include "microvm/virtio/rate_limiter.h"

namespace hob::microvm {

// Neither descriptor is closed.
struct ConsoleOptions {
  int input = -1;                             // -1: nothing is typed
  int output = -1;                            // -1: what is said goes nowhere
  std::optional<TokenBucketOptions> limit{};  // bytes of output; what is over it is dropped
  MonotonicClock clock = &std::chrono::steady_clock::now;
};

class Console {
 public:
  // A terminal is the guest's alone until the end: it gets each key as it is pressed, Ctrl+C too.
  static Result<std::unique_ptr<Console>> create(Loop& loop, const ConsoleOptions& options);
  ~Console();

  // From now on what is typed is given to `take`, on the loop, which says how much of it was taken;
  // the rest waits for `has_room`. An input that cannot be waited for (a file) is not read.
  void read_into(std::function<size_t(std::span<const std::byte>)> take);
  void has_room() const { room_.signal(); }  // any thread
  // Waits for nobody: what the descriptor does not take is dropped. Any thread, one at a time.
  void write(std::byte byte);

 private:
  Console(Loop& loop, const ConsoleOptions& options);
  void readable();
  void give();
  Loop& loop_;
  const int input_;
  const int output_;
  const MonotonicClock clock_;
  TokenBucket bucket_;
  Event room_;
  bool watched_ = false;
  std::function<size_t(std::span<const std::byte>)> take_;
  std::optional<termios> terminal_;  // as it was
  std::vector<std::byte> waiting_;   // read, and not taken
};

}  // namespace hob::microvm
