#include "base/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>

#include "base/spawn_child.h"

extern "C" {
#include <sys/pidfd.h>  // glibc 2.36 forgets to say so
}

#include <algorithm>
#include <cerrno>
#include <chrono>

namespace hob {

namespace asio = boost::asio;

namespace {

constexpr size_t kLastLinesMax = 10;  // of a failed command's output, in the error
constexpr size_t kLastBytesMax = 2000;

struct Pipe {
  Fd read{};
  Fd write{};
};

Result<Pipe> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return fail_errno(errno, "making a pipe");
  return Pipe{Fd(fds[0]), Fd(fds[1])};
}

// What the child reads on stdin: a file in memory, so that nobody has to feed it (and no SIGPIPE
// can come of it).
Result<Fd> make_input(const std::string& content) {
  if (content.empty()) {
    Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!null) return fail_errno(errno, "opening /dev/null");
    return null;
  }
  Fd fd(::memfd_create("stdin", MFD_CLOEXEC));
  if (!fd) return fail_errno(errno, "memfd_create");
  for (size_t at = 0; at < content.size();) {
    const ssize_t wrote =
        ::pwrite(fd.get(), content.data() + at, content.size() - at, static_cast<off_t>(at));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return fail_errno(errno, "writing a command's input");
    at += static_cast<size_t>(wrote);
  }
  return fd;
}

void set_non_blocking(const Fd& fd) {
  ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
}

// A running child and what it prints. Everything is waited for through one epoll descriptor, by a
// loop or by a thread. Destroyed while the child runs: kills it and its process group.
class Child {
 public:
  static Result<std::unique_ptr<Child>> start(const Command& command);
  ~Child() {
    if (pid_ <= 0) return;
    kill();
    reap();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  int epoll_fd() const { return epoll_.get(); }
  // Moves what can be moved without waiting. True: the child has ended, `exit()` is complete.
  // Grandchildren that still hold the pipes are not waited for.
  bool pump();
  Exit take_exit() { return std::move(exit_); }

 private:
  Child() = default;
  void watch(const Fd& fd);
  void drain(Fd& fd, std::string& into);
  void kill() { ::kill(-pid_, SIGKILL); }
  void reap();

  pid_t pid_ = -1;
  Fd pidfd_;
  Fd epoll_;
  Fd output_;
  Fd errors_;
  Exit exit_;
};

Result<std::unique_ptr<Child>> Child::start(const Command& command) {
  HOB_ASSERT(!command.argv.empty());
  HOB_TRY(const Fd input, make_input(command.input));
  HOB_TRY(Pipe output, make_pipe());
  HOB_TRY(Pipe errors, make_pipe());
  std::unique_ptr<Child> child(new Child);
  child->epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!child->epoll_) return fail_errno(errno, "epoll_create1");
  HOB_TRY(child->pid_, spawn_child(command, {.input = input.get(),
                                             .output = output.write.get(),
                                             .errors = errors.write.get()}));
  child->pidfd_ = Fd(::pidfd_open(child->pid_, 0));
  if (!child->pidfd_) return fail_errno(errno, "pidfd_open");
  child->output_ = std::move(output.read);
  child->errors_ = std::move(errors.read);
  for (const Fd* fd : {&child->pidfd_, &child->output_, &child->errors_}) child->watch(*fd);
  set_non_blocking(child->output_);
  set_non_blocking(child->errors_);
  return child;
}

void Child::watch(const Fd& fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd.get();
  HOB_ASSERT(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd.get(), &event) == 0);
}

void Child::drain(Fd& fd, std::string& into) {
  char buffer[16384];
  while (fd) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return fd.reset();
    const size_t room = kOutputBytesMax - into.size();
    into.append(buffer, std::min(static_cast<size_t>(got), room));
  }
}

bool Child::pump() {
  siginfo_t info{};
  const bool ended =
      ::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
      info.si_pid != 0;
  // After the end has been seen, so that nothing it wrote is missed.
  drain(output_, exit_.output);
  drain(errors_, exit_.errors);
  if (!ended) return false;
  reap();
  return true;
}

void Child::reap() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  exit_.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

Async<Result<Exit>> wait_for(Child& child) {
  // The descriptor stays the child's: a copy goes to Asio.
  asio::posix::stream_descriptor ready(co_await asio::this_coro::executor,
                                       ::fcntl(child.epoll_fd(), F_DUPFD_CLOEXEC, 3));
  while (!child.pump()) {
    boost::system::error_code error;
    co_await ready.async_wait(asio::posix::stream_descriptor::wait_read,
                              asio::redirect_error(asio::use_awaitable, error));
    co_await throw_if_cancelled();
    if (error) co_return fail(Code::kUnavailable, "waiting for a child: {}", error.message());
  }
  co_return child.take_exit();
}

// The end of what it printed, for people.
std::string last_lines(const Exit& exit) {
  std::string_view text = exit.errors.empty() ? exit.output : exit.errors;
  while (text.ends_with('\n')) text.remove_suffix(1);
  if (text.size() > kLastBytesMax) text.remove_prefix(text.size() - kLastBytesMax);
  size_t from = text.size();
  for (size_t lines = 0; lines < kLastLinesMax && from != std::string_view::npos && from > 0;
       ++lines) {
    from = text.rfind('\n', from - 1);
  }
  if (from != std::string_view::npos && from > 0) text.remove_prefix(from + 1);
  return std::string(text);
}

}  // namespace

Async<Result<Exit>> run(Command command, Duration timeout) {
  HOB_CO_TRY(const std::unique_ptr<Child> child, Child::start(command));
  Result<Exit> exit = co_await within(timeout, wait_for(*child));
  co_return context(std::move(exit), "{}", command.argv[0]);
}

Result<Exit> run_blocking(const Command& command, Duration timeout) {
  HOB_TRY(const std::unique_ptr<Child> child, Child::start(command));
  const auto until = std::chrono::steady_clock::now() + timeout;
  while (!child->pump()) {
    const auto left = std::chrono::ceil<Duration>(until - std::chrono::steady_clock::now());
    if (left <= Duration(0)) {
      return fail(Code::kTimeout, "{}: took longer than {} ms", command.argv[0], timeout.count());
    }
    epoll_event event{};
    ::epoll_wait(child->epoll_fd(), &event, 1,
                 static_cast<int>(std::min<Duration::rep>(left.count(), 60'000)));
  }
  return child->take_exit();
}

Async<Result<std::string>> run_ok(Command command, Duration timeout) {
  const std::string program = command.argv.empty() ? "" : command.argv[0];
  HOB_CO_TRY(Exit exit, co_await run(std::move(command), timeout));
  if (exit.status != 0) {
    co_return fail(Code::kUnavailable, "{} ended with status {}: {}", program, exit.status,
                   last_lines(exit));
  }
  co_return std::move(exit.output);
}

}  // namespace hob
