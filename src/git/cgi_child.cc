#include "git/cgi_child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include <sys/pidfd.h>  // glibc 2.36 forgets to say so
}

#include <boost/asio/buffer.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <cerrno>

#include "base/spawn_child.h"
#include "git/limits.h"
#include "git/push_hook.h"

namespace hob::git {

namespace asio = boost::asio;
using Stream = asio::posix::stream_descriptor;

namespace {

constexpr size_t kReadBytes = 32 * 1024;
constexpr size_t kErrorsBytesMax = 2000;

struct Pipe {
  Fd read{};
  Fd write{};
};

Result<Pipe> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return fail_errno(errno, "making a pipe");
  return Pipe{Fd(fds[0]), Fd(fds[1])};
}

Async<Result<std::string>> read_some(Stream& from) {
  std::string piece(kReadBytes, '\0');
  boost::system::error_code error;
  const size_t got = co_await from.async_read_some(
      asio::buffer(piece), asio::redirect_error(asio::use_awaitable, error));
  co_await throw_if_cancelled();
  if (error && error != asio::error::eof)
    co_return fail(Code::kUnavailable, "reading from git: {}", error.message());
  piece.resize(got);
  co_return piece;
}

Async<Result<void>> write_all(Stream& to, std::string bytes) {
  if (!to.is_open()) co_return fail(Code::kUnavailable, "the pipe to git is closed");
  size_t at = 0;
  while (at < bytes.size()) {
    boost::system::error_code error;
    at += co_await to.async_write_some(asio::buffer(bytes.data() + at, bytes.size() - at),
                                       asio::redirect_error(asio::use_awaitable, error));
    co_await throw_if_cancelled();
    if (error) co_return fail(Code::kUnavailable, "writing to git: {}", error.message());
  }
  co_return Result<void>();
}

}  // namespace

class CgiChild::Impl {
 public:
  explicit Impl(const Executor& executor)
      : input(executor), output(executor), asks(executor), hears(executor), end(executor) {}
  ~Impl() {
    if (pid > 0 && !reaped) reap();
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // The group: git's own children, the hook's shell, too.
  void kill() const { ::kill(-pid, SIGKILL); }
  // While it is not waited for, its number is no other group's.
  int reap() {
    kill();
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    reaped = true;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }

  Stream input;
  Stream output;
  Stream asks;
  Stream hears;
  Stream end;  // its pidfd
  Fd errors;   // a file in memory
  pid_t pid = -1;
  bool reaped = false;
};

CgiChild::CgiChild(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CgiChild::~CgiChild() = default;

Result<std::unique_ptr<CgiChild>> CgiChild::start(const Executor& executor, CgiStart start) {
  auto impl = std::make_unique<Impl>(executor);
  HOB_TRY(Pipe input, make_pipe());
  HOB_TRY(Pipe output, make_pipe());
  impl->errors = Fd(::memfd_create("stderr", MFD_CLOEXEC));
  if (!impl->errors) return fail_errno(errno, "memfd_create");
  Command command{
      .argv = {"prlimit", fmt::format("--as={}", kChildMemoryBytesMax),
               fmt::format("--cpu={}", kChildCpuSecondsMax),
               fmt::format("--fsize={}", kRepositoryBytesMax), "--core=0", "git", "http-backend"},
      .environment = std::move(start.environment),
      .directory = "/"};
  Pipe asks;
  Pipe hears;
  if (start.has_hook) {
    HOB_TRY(asks, make_pipe());
    HOB_TRY(hears, make_pipe());
    command.fds = {{asks.write.get(), kHookAsksFd}, {hears.read.get(), kHookHearsFd}};
  }
  HOB_TRY(impl->pid, spawn_child(command, {.input = input.read.get(),
                                           .output = output.write.get(),
                                           .errors = impl->errors.get()}));
  const int pidfd = ::pidfd_open(impl->pid, 0);
  if (pidfd < 0) return fail_errno(errno, "pidfd_open");
  impl->end.assign(pidfd);
  impl->input.assign(input.write.release());
  impl->output.assign(output.read.release());
  if (start.has_hook) {
    impl->asks.assign(asks.read.release());
    impl->hears.assign(hears.write.release());
  }
  return std::unique_ptr<CgiChild>(new CgiChild(std::move(impl)));
}

Async<Result<void>> CgiChild::write(std::string bytes) {
  return write_all(impl_->input, std::move(bytes));
}

void CgiChild::end_input() {
  boost::system::error_code ignored;
  impl_->input.close(ignored);
}

Async<Result<std::string>> CgiChild::read() { return read_some(impl_->output); }
Async<Result<std::string>> CgiChild::read_hook() { return read_some(impl_->asks); }
Async<Result<void>> CgiChild::write_hook(std::string bytes) {
  return write_all(impl_->hears, std::move(bytes));
}

void CgiChild::kill() { impl_->kill(); }

Async<int> CgiChild::wait() {
  boost::system::error_code error;
  co_await impl_->end.async_wait(Stream::wait_read,
                                 asio::redirect_error(asio::use_awaitable, error));
  co_await throw_if_cancelled();
  co_return impl_->reap();
}

std::string CgiChild::errors() const {
  std::string text(kErrorsBytesMax, '\0');
  const off_t size = ::lseek(impl_->errors.get(), 0, SEEK_END);
  const off_t from = std::max<off_t>(0, size - static_cast<off_t>(kErrorsBytesMax));
  const ssize_t got = ::pread(impl_->errors.get(), text.data(), text.size(), from);
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return text;
}

std::map<std::string, std::string> git_environment(const std::filesystem::path& hooks,
                                                   uint64_t push_bytes_max) {
  const std::vector<std::pair<std::string, std::string>> settings = {
      {"core.hooksPath", hooks.string()},
      {"core.fsmonitor", "false"},
      {"core.logAllRefUpdates", "false"},
      {"core.fsync", "committed,reference"},  // what is accepted is there after a power cut
      {"core.packedGitWindowSize", "32m"},
      {"core.packedGitLimit", "256m"},
      {"core.bigFileThreshold", "32m"},
      {"gc.auto", "0"},
      {"http.receivepack", "true"},
      {"pack.threads", "1"},
      {"pack.windowMemory", "128m"},
      {"protocol.allow", "never"},  // nothing of ours fetches from elsewhere here
      {"receive.advertisePushOptions", "false"},
      {"receive.autogc", "false"},
      {"receive.denyCurrentBranch", "ignore"},
      {"receive.denyDeletes", "false"},
      {"receive.denyNonFastForwards", "false"},  // a rewritten history is deployed like another
      {"receive.fsckObjects", "true"},
      {"receive.maxInputSize", std::to_string(push_bytes_max)},
      // Always a pack, so that a push's objects are few files that can be linked
      // (Repositories::keep).
      {"receive.unpackLimit", "1"},
      {"transfer.hideRefs", "refs/hob"},
      {"transfer.unpackLimit", "1"},
      {"uploadpack.allowFilter", "true"},
      // By id, too, with version 0 of the protocol: version 2 gives any object away as it is.
      {"uploadpack.allowAnySHA1InWant", "true"},
  };
  std::map<std::string, std::string> environment = {
      {"GIT_CONFIG_NOSYSTEM", "1"},
      {"GIT_CONFIG_GLOBAL", "/dev/null"},
      {"GIT_CONFIG_COUNT", std::to_string(settings.size())},
      {"GIT_TERMINAL_PROMPT", "0"},
      {"HOME", "/nonexistent"},
      {"LC_ALL", "C"},
      {"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
  };
  for (size_t i = 0; i < settings.size(); ++i) {
    environment[fmt::format("GIT_CONFIG_KEY_{}", i)] = settings[i].first;
    environment[fmt::format("GIT_CONFIG_VALUE_{}", i)] = settings[i].second;
  }
  return environment;
}

}  // namespace hob::git
