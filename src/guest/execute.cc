#include "guest/execute.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace hob::guest {
namespace {

constexpr int kNotExecuted = 127;

// What the command reads and writes: a terminal, or three pipes. Ours are `in`, `out`, `errors`.
struct Streams {
  Fd in{}, out{}, errors{};
  Fd command_in{}, command_out{}, command_errors{};
  bool terminal = false;
};

void set_window(const Streams& streams, int rows, int columns) {
  const winsize size{.ws_row = static_cast<unsigned short>(rows),
                     .ws_col = static_cast<unsigned short>(columns),
                     .ws_xpixel = 0,
                     .ws_ypixel = 0};
  if (streams.terminal) ::ioctl(streams.in.get(), TIOCSWINSZ, &size);
}

Result<Streams> open_terminal(const Execute& command) {
  Streams streams{.terminal = true};
  streams.in = Fd(::open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
  int locked = 0;
  if (!streams.in || ::ioctl(streams.in.get(), TIOCSPTLCK, &locked) != 0)
    return fail_errno(errno, "opening a terminal");
  streams.command_in = Fd(::ioctl(streams.in.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  streams.out = Fd(::dup(streams.in.get()));
  if (!streams.command_in || !streams.out) return fail_errno(errno, "opening a terminal");
  set_window(streams, command.rows, command.columns);
  return streams;
}

Result<Streams> open_pipes() {
  int ends[3][2];
  for (auto& pair : ends) {
    if (::pipe2(pair, O_CLOEXEC) != 0) return fail_errno(errno, "making a pipe");
  }
  return Streams{.in = Fd(ends[0][1]),
                 .out = Fd(ends[1][0]),
                 .errors = Fd(ends[2][0]),
                 .command_in = Fd(ends[0][0]),
                 .command_out = Fd(ends[1][1]),
                 .command_errors = Fd(ends[2][1])};
}

// In the command's process. Returns if it cannot be executed, having said why.
void become(const Prepared& container, const Execute& command, Streams& streams) {
  reset_signals();
  ::setsid();
  const int in = streams.command_in.get();
  if (streams.terminal) ::ioctl(in, TIOCSCTTY, 0);
  ::dup2(in, 0);
  ::dup2(streams.terminal ? in : streams.command_out.get(), 1);
  ::dup2(streams.terminal ? in : streams.command_errors.get(), 2);
  const std::string text = execute_program(container, command.arguments).message + "\n";
  (void)!::write(2, text.data(), text.size());
}

bool send_all(const Fd& connection, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(connection.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool send_report(const Fd& connection, const Report& report) {
  std::string bytes;
  append_frame(bytes, FrameKind::kRecord, 0, encode(report));
  return send_all(connection, bytes);
}

// Between one command and its connection. Blocking writes are right: each waits for the other side
// and for nobody else.
class Relay {
 public:
  Relay(int container, Fd connection, FrameReader reader, Streams streams, pid_t process)
      : container_(container),
        connection_(std::move(connection)),
        reader_(std::move(reader)),
        streams_(std::move(streams)),
        process_(process) {}

  void run() {
    take_frames();
    while (streams_.out || streams_.errors) {
      std::array<pollfd, 3> waiting{
          pollfd{.fd = connection_.get(), .events = POLLIN, .revents = 0},
          pollfd{.fd = streams_.out.get(), .events = POLLIN, .revents = 0},
          pollfd{.fd = streams_.errors.get(), .events = POLLIN, .revents = 0}};
      if (::poll(waiting.data(), waiting.size(), -1) < 0) continue;
      if (waiting[0].revents != 0 && !hear()) break;
      if (waiting[1].revents != 0) pass(streams_.out, FrameKind::kOutput);
      if (waiting[2].revents != 0) pass(streams_.errors, FrameKind::kErrors);
    }
    if (!connection_) ::kill(process_, SIGHUP);  // nobody is there any more
    int status = 0;
    while (::waitpid(process_, &status, 0) < 0 && errno == EINTR) {
    }
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (connection_)
      send_report(connection_,
                  {.event = Event::kExited, .container = container_, .exit_code = code});
  }

 private:
  // False: the other side is gone.
  bool hear() {
    char bytes[8192];
    const ssize_t got = ::recv(connection_.get(), bytes, sizeof bytes, 0);
    if (got < 0 && errno == EINTR) return true;
    if (got > 0) reader_.feed({bytes, static_cast<size_t>(got)});
    if (got > 0 && take_frames()) return true;
    connection_.reset();
    return false;
  }
  bool take_frames() {
    while (true) {
      const auto frame = reader_.next();
      if (!frame) return false;
      if (!*frame) return true;
      if ((*frame)->kind == FrameKind::kInput) {
        input((*frame)->body);
      } else if ((*frame)->kind == FrameKind::kRecord) {
        const auto order = decode_order((*frame)->body);
        if (!order) return false;
        if (order->signal) ::kill(process_, order->signal->number);
        if (order->window) set_window(streams_, order->window->rows, order->window->columns);
      }
    }
  }
  void input(std::string_view bytes) {
    // The end of input at a terminal is a character, which the other side sends.
    if (bytes.empty() && !streams_.terminal) streams_.in.reset();
    while (!bytes.empty() && streams_.in) {
      const ssize_t written = ::write(streams_.in.get(), bytes.data(), bytes.size());
      if (written < 0 && (errno == EINTR || errno == EAGAIN)) {
        pollfd room{.fd = streams_.in.get(), .events = POLLOUT, .revents = 0};
        ::poll(&room, 1, -1);
        continue;
      }
      if (written <= 0) return streams_.in.reset();
      bytes.remove_prefix(static_cast<size_t>(written));
    }
  }
  void pass(Fd& from, FrameKind kind) {
    char bytes[16384];
    const ssize_t got = ::read(from.get(), bytes, sizeof bytes);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (got <= 0) return from.reset();  // a terminal that nobody holds: EIO
    std::string frame;
    append_frame(frame, kind, static_cast<uint8_t>(container_), {bytes, static_cast<size_t>(got)});
    if (!send_all(connection_, frame)) {
      connection_.reset();
      streams_.out.reset();
      streams_.errors.reset();
    }
  }

  int container_;
  Fd connection_;
  FrameReader reader_;
  Streams streams_;
  pid_t process_;
};

Result<pid_t> start_command(const Prepared& container, pid_t first_process, const Execute& command,
                            Streams& streams) {
  HOB_CHECK(enter_container(container, first_process));
  HOB_TRY(streams, command.terminal ? open_terminal(command) : open_pipes());
  const pid_t process = ::fork();
  if (process < 0) return fail_errno(errno, "making a process");
  if (process == 0) {
    become(container, command, streams);
    ::_exit(kNotExecuted);
  }
  streams.command_in.reset();
  streams.command_out.reset();
  streams.command_errors.reset();
  return process;
}

}  // namespace

pid_t execute_in(const Prepared& container, pid_t first_process, const Execute& command,
                 Fd connection, FrameReader reader) {
  const pid_t relay = ::fork();
  if (relay != 0) return relay;
  reset_signals();
  ::signal(SIGPIPE, SIG_IGN);
  // Of init's files it keeps its connection alone: others end when init closes them.
  const Fd own(::dup2(connection.release(), 3));
  ::close_range(4, ~0U, 0);
  ::fcntl(own.get(), F_SETFD, FD_CLOEXEC);
  ::fcntl(own.get(), F_SETFL, ::fcntl(own.get(), F_GETFL) & ~O_NONBLOCK);
  Streams streams;
  const auto process = start_command(container, first_process, command, streams);
  if (!process) {
    send_report(own, {.event = Event::kFailed,
                      .container = container.index,
                      .invalid = process.error().code == Code::kInvalid,
                      .reason = process.error().message});
  } else {
    Relay(container.index, Fd(::dup(own.get())), std::move(reader), std::move(streams), *process)
        .run();
  }
  ::shutdown(own.get(), SHUT_RDWR);
  ::_exit(0);
}

pid_t check_health_in(const Prepared& container, pid_t first_process,
                      const std::vector<std::string>& command) {
  const pid_t checker = ::fork();
  if (checker != 0) return checker;
  reset_signals();
  ::setpgid(0, 0);  // to be ended with its command
  ::close_range(3, ~0U, 0);
  if (!enter_container(container, first_process)) ::_exit(kNotExecuted);
  const pid_t process = ::fork();
  if (process == 0) {
    const Fd null(::open("/dev/null", O_RDWR));
    for (const int number : {0, 1, 2}) ::dup2(null.get(), number);
    static_cast<void>(execute_program(container, command));
    ::_exit(kNotExecuted);
  }
  int status = 0;
  while (process > 0 && ::waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  ::_exit(process > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1);
}

}  // namespace hob::guest
