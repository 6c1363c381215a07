#include "guest/relay.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>

namespace hob::guest {
namespace {

bool passes() { return errno == EINTR || errno == EAGAIN; }

void make_unblocking(const Fd& fd) {
  if (fd) ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
}

class Relay {
 public:
  Relay(int container, const Fd& connection, FrameReader reader, Streams streams, pid_t process)
      : container_(container),
        connection_(connection),
        reader_(std::move(reader)),
        streams_(std::move(streams)),
        process_(process),
        handle_(static_cast<int>(::syscall(SYS_pidfd_open, process, 0))) {}

  void run() {
    make_unblocking(connection_);
    for (const Fd* fd : {&streams_.in, &streams_.out, &streams_.errors}) make_unblocking(*fd);
    bool here = handle_ && take_frames();
    while (here && !told()) here = step();
    if (exit_code_) return;
    ::kill(process_, SIGHUP);
    streams_ = Streams();
    wait_for_end();
  }

 private:
  bool told() const { return reported_ && unsent_.empty(); }

  // False: the other side is gone.
  bool step() {
    const bool hears = input_.size() < kRelayBytesMax;
    const bool prints = unsent_.size() < kRelayBytesMax;
    // A descriptor that is not asked would say over and over that its other end is closed.
    const auto asked = [](const Fd& fd, bool now, short events) {
      return pollfd{.fd = now ? fd.get() : -1, .events = events, .revents = 0};
    };
    std::array waiting{
        pollfd{.fd = connection_.get(),
               .events = static_cast<short>((hears ? POLLIN : 0) | (unsent_.empty() ? 0 : POLLOUT)),
               .revents = 0},
        asked(streams_.in, !input_.empty(), POLLOUT), asked(streams_.out, prints, POLLIN),
        asked(streams_.errors, prints, POLLIN), asked(handle_, !exit_code_, POLLIN)};
    if (::poll(waiting.data(), waiting.size(), -1) < 0) return errno == EINTR;
    if ((waiting[0].revents & POLLIN) != 0) {
      if (!hear()) return false;
    } else if ((waiting[0].revents & (POLLHUP | POLLERR)) != 0) {
      return false;
    }
    if (waiting[1].revents != 0) give_input();
    if (waiting[2].revents != 0) print(streams_.out, FrameKind::kOutput);
    if (waiting[3].revents != 0) print(streams_.errors, FrameKind::kErrors);
    if (waiting[4].revents != 0) wait_for_end();
    if (exit_code_ && !streams_.out && !streams_.errors && !reported_) {
      reported_ = true;
      append_frame(
          unsent_, FrameKind::kRecord, 0,
          encode(
              Report{.event = Event::kExited, .container = container_, .exit_code = *exit_code_}));
    }
    return send();
  }

  bool hear() {
    char bytes[8192];
    const ssize_t got = ::recv(connection_.get(), bytes, sizeof bytes, 0);
    if (got < 0 && passes()) return true;
    if (got <= 0) return false;
    reader_.feed({bytes, static_cast<size_t>(got)});
    return take_frames();
  }
  bool take_frames() {
    while (true) {
      const auto frame = reader_.next();
      if (!frame) return false;
      if (!*frame) break;
      if ((*frame)->kind == FrameKind::kInput) {
        // The end of input at a terminal is a character, which the other side sends.
        if ((*frame)->body.empty()) input_ended_ = !streams_.terminal;
        if (streams_.in) input_ += (*frame)->body;
      } else if ((*frame)->kind == FrameKind::kRecord) {
        const auto order = decode_order((*frame)->body);
        if (!order) return false;
        if (order->signal && !exit_code_) ::kill(process_, order->signal->number);
        if (order->window) set_window(streams_, *order->window);
      }
    }
    give_input();
    return true;
  }
  void give_input() {
    while (!input_.empty() && streams_.in) {
      const ssize_t written = ::write(streams_.in.get(), input_.data(), input_.size());
      if (written < 0 && passes()) return;
      if (written <= 0) {
        streams_.in.reset();  // it reads no more
        input_.clear();
        return;
      }
      input_.erase(0, static_cast<size_t>(written));
    }
    if (input_ended_) streams_.in.reset();
  }
  void print(Fd& from, FrameKind kind) {
    char bytes[16384];
    const ssize_t got = ::read(from.get(), bytes, sizeof bytes);
    if (got < 0 && passes()) return;
    if (got <= 0) return from.reset();  // a terminal that nobody holds: EIO
    append_frame(unsent_, kind, static_cast<uint8_t>(container_),
                 {bytes, static_cast<size_t>(got)});
  }
  bool send() {
    while (!unsent_.empty()) {
      const ssize_t sent = ::send(connection_.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL);
      if (sent < 0 && passes()) return true;
      if (sent <= 0) return false;
      unsent_.erase(0, static_cast<size_t>(sent));
    }
    return true;
  }
  void wait_for_end() {
    int status = 0;
    while (::waitpid(process_, &status, 0) < 0 && errno == EINTR) {
    }
    exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  const int container_;
  const Fd& connection_;
  FrameReader reader_;
  Streams streams_;
  const pid_t process_;
  const Fd handle_;
  std::string input_, unsent_;
  bool input_ended_ = false;
  std::optional<int> exit_code_;
  bool reported_ = false;
};

}  // namespace

void set_window(const Streams& streams, const WindowSize& size) {
  const winsize window{.ws_row = static_cast<unsigned short>(size.rows),
                       .ws_col = static_cast<unsigned short>(size.columns),
                       .ws_xpixel = 0,
                       .ws_ypixel = 0};
  if (streams.terminal) ::ioctl(streams.in.get(), TIOCSWINSZ, &window);
}

void relay(int container, const Fd& connection, FrameReader reader, Streams streams,
           pid_t process) {
  Relay(container, connection, std::move(reader), std::move(streams), process).run();
}

}  // namespace hob::guest
