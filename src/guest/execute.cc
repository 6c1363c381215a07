#include "guest/execute.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>

#include "guest/relay.h"

namespace hob::guest {
namespace {

constexpr int kNotExecuted = 127;

// And the command's ends of them.
struct Ends {
  Streams ours{};
  Fd in{}, out{}, errors{};  // with a terminal the first alone
};

Result<Ends> open_terminal(const Execute& command) {
  Ends ends{.ours = {.terminal = true}};
  Streams& ours = ends.ours;
  ours.in = Fd(::open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
  int locked = 0;
  if (!ours.in || ::ioctl(ours.in.get(), TIOCSPTLCK, &locked) != 0)
    return fail_errno(errno, "opening a terminal");
  ends.in = Fd(::ioctl(ours.in.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  ours.out = Fd(::dup(ours.in.get()));
  if (!ends.in || !ours.out) return fail_errno(errno, "opening a terminal");
  set_window(ours, {.rows = command.rows, .columns = command.columns});
  return ends;
}

Result<Ends> open_pipes() {
  int pipes[3][2];
  for (auto& pair : pipes) {
    if (::pipe2(pair, O_CLOEXEC) != 0) return fail_errno(errno, "making a pipe");
  }
  return Ends{.ours = {.in = Fd(pipes[0][1]), .out = Fd(pipes[1][0]), .errors = Fd(pipes[2][0])},
              .in = Fd(pipes[0][0]),
              .out = Fd(pipes[1][1]),
              .errors = Fd(pipes[2][1])};
}

// In the command's process. Returns if it cannot be executed, having said why.
void become(const Prepared& container, const Execute& command, const Ends& ends) {
  reset_signals();
  ::setsid();
  const int in = ends.in.get();
  if (command.terminal) ::ioctl(in, TIOCSCTTY, 0);
  ::dup2(in, 0);
  ::dup2(command.terminal ? in : ends.out.get(), 1);
  ::dup2(command.terminal ? in : ends.errors.get(), 2);
  const std::string text = execute_program(container, command.arguments).message + "\n";
  (void)!::write(2, text.data(), text.size());
}

void send_report(const Fd& connection, const Report& report) {
  std::string bytes;
  append_frame(bytes, FrameKind::kRecord, 0, encode(report));
  // A new connection's buffer takes so little at once.
  (void)!::send(connection.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

Result<pid_t> start_command(const Prepared& container, pid_t first_process, const Execute& command,
                            Streams& streams) {
  HOB_CHECK(enter_container(container, first_process));
  HOB_TRY(Ends ends, command.terminal ? open_terminal(command) : open_pipes());
  const pid_t process = ::fork();
  if (process < 0) return fail_errno(errno, "making a process");
  if (process == 0) {
    become(container, command, ends);
    ::_exit(kNotExecuted);
  }
  streams = std::move(ends.ours);
  return process;
}

}  // namespace

pid_t execute_in(const Prepared& container, pid_t first_process, const Execute& command,
                 Fd connection, FrameReader reader) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  reset_signals();
  ::signal(SIGPIPE, SIG_IGN);
  // Of init's files it keeps its connection alone: others end when init closes them.
  const Fd own(::dup2(connection.release(), 3));
  ::close_range(4, ~0U, 0);
  ::fcntl(own.get(), F_SETFD, FD_CLOEXEC);
  Streams streams;
  const auto process = start_command(container, first_process, command, streams);
  if (!process) {
    send_report(own, {.event = Event::kFailed,
                      .container = container.index,
                      .invalid = process.error().code == Code::kInvalid,
                      .reason = process.error().message});
  } else {
    relay(container.index, own, std::move(reader), std::move(streams), *process);
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
