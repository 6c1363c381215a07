#include "microvm/devices/console.h"

#include <poll.h>
#include <unistd.h>

#include <array>

namespace hob::microvm {

Console::Console(Loop& loop, const ConsoleOptions& options)
    : loop_(loop), input_(options.input), output_(options.output), clock_(options.clock) {
  if (options.limit) bucket_ = TokenBucket(*options.limit, clock_());
}

Result<std::unique_ptr<Console>> Console::create(Loop& loop, const ConsoleOptions& options) {
  std::unique_ptr<Console> console(new Console(loop, options));
  const int input = options.input;
  HOB_TRY(console->room_, Event::create());
  if (termios settings{}; input >= 0 && tcgetattr(input, &settings) == 0) {
    console->terminal_ = settings;
    cfmakeraw(&settings);
    (void)tcsetattr(input, TCSANOW, &settings);
  }
  return console;
}

Console::~Console() {
  loop_.forget(room_.fd());
  if (watched_) loop_.forget(input_);
  if (terminal_) (void)tcsetattr(input_, TCSANOW, &*terminal_);
}

void Console::read_into(std::function<size_t(std::span<const std::byte>)> take) {
  take_ = std::move(take);
  if (input_ < 0) return;
  watched_ = loop_.watch(input_, EPOLLIN, [this](uint32_t) { readable(); }).has_value();
  if (watched_)
    (void)loop_.watch(room_.fd(), EPOLLIN, [this](uint32_t) {
      room_.take();
      give();
    });
}

void Console::readable() {
  std::array<std::byte, 64> bytes{};
  const ssize_t got = read(input_, bytes.data(), bytes.size());
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {  // nobody types any more
    loop_.forget(input_);
    watched_ = false;
    return;
  }
  waiting_.assign(bytes.begin(), bytes.begin() + got);
  give();
}

void Console::give() {
  const size_t taken = take_(waiting_);
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(taken));
  if (watched_) (void)loop_.change(input_, waiting_.empty() ? EPOLLIN : 0);
}

void Console::write(std::byte byte) {
  if (bucket_.limits()) {
    if (bucket_.empty_until(clock_())) return;
    bucket_.charge(1);
  }
  pollfd room{.fd = output_, .events = POLLOUT, .revents = 0};
  if (output_ >= 0 && poll(&room, 1, 0) == 1) (void)!::write(output_, &byte, 1);
}

}  // namespace hob::microvm
