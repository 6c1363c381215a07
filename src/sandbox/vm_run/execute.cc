#include "sandbox/vm_run/execute.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <optional>

#include "base/file.h"
#include "guest/frame.h"
#include "sandbox/microvm_layout.h"

namespace hob::sandbox {
namespace {

constexpr size_t kLineBytesMax = 32;
constexpr size_t kWaitingBytesMax = 256 * 1024;  // for one side; beyond, the other waits
constexpr int kAnswerMilliseconds = 10'000;      // for the machine to take the connection

bool passes() { return errno == EINTR || errno == EAGAIN; }

Result<Fd> connect_to_guest() {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string_view(kVsockFile).copy(address.sun_path, sizeof address.sun_path - 1);
  if (!fd || ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail(Code::kNotFound, "the task runs in no microVM, or has ended");
  const std::string ask = fmt::format("CONNECT {}\n", guest::kOrderPort);
  if (::send(fd.get(), ask.data(), ask.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(ask.size()))
    return fail_errno(errno, "asking the microVM");
  std::string line;
  while (!line.ends_with('\n') && line.size() < kLineBytesMax) {
    char byte = 0;
    pollfd waiting{.fd = fd.get(), .events = POLLIN, .revents = 0};
    if (::poll(&waiting, 1, kAnswerMilliseconds) == 0)
      return fail(Code::kTimeout, "the microVM does not answer; it may be asleep");
    if (::recv(fd.get(), &byte, 1, 0) != 1)
      return fail(Code::kUnavailable, "the microVM refuses the connection");
    line += byte;
  }
  ::fcntl(fd.get(), F_SETFL, O_NONBLOCK);
  return fd;
}

// Ours, which passes each key while this lives.
class RawTerminal {
 public:
  RawTerminal() {
    if (::tcgetattr(STDIN_FILENO, &before_) != 0) return;
    termios raw = before_;
    ::cfmakeraw(&raw);
    set_ = ::tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
  }
  ~RawTerminal() {
    if (set_) ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  termios before_{};
  bool set_ = false;
};

std::optional<guest::WindowSize> window_size() {
  winsize size{};
  if (::ioctl(STDIN_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0) return std::nullopt;
  return guest::WindowSize{.rows = size.ws_row, .columns = size.ws_col};
}

class Execution {
 public:
  Execution(const ExecutePlan& plan, Fd connection, Fd resized)
      : terminal_(plan.terminal), connection_(std::move(connection)), resized_(std::move(resized)) {
    guest::Execute command{.arguments = plan.words, .terminal = plan.terminal};
    if (const auto window = plan.terminal ? window_size() : std::nullopt) {
      command.rows = window->rows;
      command.columns = window->columns;
    }
    order({.execute = std::move(command)});
  }

  Result<int> run() {
    while (true) {
      if (failure_) return fail(*failure_);
      if (exit_code_ && waiting_[0].empty() && waiting_[1].empty()) return *exit_code_;
      if (gone_ && waiting_[0].empty() && waiting_[1].empty())
        return fail(Code::kUnavailable, "the microVM has ended");
      step();
    }
  }

 private:
  void order(const guest::Order& order) {
    guest::append_frame(unsent_, guest::FrameKind::kRecord, 0, guest::encode(order));
  }
  // Our own streams may be others', too, and are left blocking: what they are given at once is no
  // more than is sure to be taken.
  void step() {
    const bool hears =
        !gone_ && !exit_code_ && waiting_[0].size() + waiting_[1].size() < kWaitingBytesMax;
    const bool reads = !input_ended_ && !gone_ && !exit_code_ && unsent_.size() < kWaitingBytesMax;
    const auto asked = [](int fd, bool now, short events) {
      return pollfd{.fd = now ? fd : -1, .events = events, .revents = 0};
    };
    std::array ready{
        asked(connection_.get(), hears || (!gone_ && !unsent_.empty()),
              static_cast<short>((hears ? POLLIN : 0) | (unsent_.empty() ? 0 : POLLOUT))),
        asked(STDIN_FILENO, reads, POLLIN), asked(STDOUT_FILENO, !waiting_[0].empty(), POLLOUT),
        asked(STDERR_FILENO, !waiting_[1].empty(), POLLOUT),
        asked(resized_.get(), terminal_, POLLIN)};
    if (::poll(ready.data(), ready.size(), -1) < 0) return;
    if ((ready[0].revents & POLLOUT) != 0) send();
    if ((ready[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0) hear();
    if (ready[1].revents != 0) read_input();
    if (ready[2].revents != 0) print(0);
    if (ready[3].revents != 0) print(1);
    if (ready[4].revents != 0) resize();
  }
  void send() {
    const ssize_t sent = ::send(connection_.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL);
    if (sent > 0) unsent_.erase(0, static_cast<size_t>(sent));
    if (sent < 0 && !passes()) unsent_.clear();  // its end, or what it said before, can be read
  }
  void hear() {
    char bytes[16384];
    const ssize_t got = ::recv(connection_.get(), bytes, sizeof bytes, 0);
    if (got < 0 && passes()) return;
    if (got <= 0) {
      gone_ = true;
      return;
    }
    reader_.feed({bytes, static_cast<size_t>(got)});
    while (!exit_code_ && !failure_) {
      auto frame = reader_.next();
      if (!frame) failure_ = frame.error();
      if (!frame || !*frame) return;
      take(**frame);
    }
  }
  void take(const guest::Frame& frame) {
    if (frame.kind == guest::FrameKind::kOutput) waiting_[0] += frame.body;
    if (frame.kind == guest::FrameKind::kErrors) waiting_[1] += frame.body;
    if (frame.kind != guest::FrameKind::kRecord) return;
    const auto report = guest::decode_report(frame.body);
    if (!report) {
      failure_ = report.error();
    } else if (report->event == guest::Event::kExited) {
      exit_code_ = report->exit_code;
    } else if (report->event == guest::Event::kFailed) {
      failure_ = Error{.code = report->invalid ? Code::kInvalid : Code::kUnavailable,
                       .message = report->reason};
    }
  }
  void read_input() {
    char bytes[16384];
    const ssize_t got = ::read(STDIN_FILENO, bytes, sizeof bytes);
    if (got < 0 && passes()) return;
    input_ended_ = got <= 0;
    // Empty: the end.
    guest::append_frame(unsent_, guest::FrameKind::kInput, 0,
                        {bytes, static_cast<size_t>(std::max<ssize_t>(got, 0))});
  }
  void print(size_t stream) {
    std::string& text = waiting_[stream];
    const ssize_t written = ::write(stream == 0 ? STDOUT_FILENO : STDERR_FILENO, text.data(),
                                    std::min<size_t>(text.size(), PIPE_BUF));
    if (written > 0) text.erase(0, static_cast<size_t>(written));
    if (written < 0 && !passes()) text.clear();  // nobody reads it
  }
  void resize() {
    signalfd_siginfo ignored{};
    (void)!::read(resized_.get(), &ignored, sizeof ignored);
    if (const auto window = window_size()) order({.window = *window});
  }

  const bool terminal_;
  const Fd connection_, resized_;
  guest::FrameReader reader_{guest::kReportBytesMax};
  std::string unsent_;
  std::array<std::string, 2> waiting_;  // for standard output and errors
  bool input_ended_ = false;
  bool gone_ = false;
  std::optional<int> exit_code_;
  std::optional<Error> failure_;
};

}  // namespace

Result<int> execute_in_machine(const ExecutePlan& plan) {
  if (::chdir(plan.bundle.c_str()) != 0) return fail_errno(errno, plan.bundle);
  HOB_TRY(Fd connection, connect_to_guest());
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t resizes;
  ::sigemptyset(&resizes);
  ::sigaddset(&resizes, SIGWINCH);
  ::sigprocmask(SIG_BLOCK, &resizes, nullptr);
  Fd resized(::signalfd(-1, &resizes, SFD_CLOEXEC));
  if (!resized) return fail_errno(errno, "signalfd");
  std::optional<RawTerminal> raw;
  if (plan.terminal) raw.emplace();
  return Execution(plan, std::move(connection), std::move(resized)).run();
}

}  // namespace hob::sandbox
