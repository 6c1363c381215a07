// The life of a daemon: started again and again until it is stopped, its log and its words read.
#include "cli/supervisor_role.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/json.hpp>
#include <cerrno>
#include <cstring>

#include "base/ids.h"
#include "base/log.h"

namespace hob::cli {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

constexpr Duration kStableAfter{30'000};  // a run this long forgives earlier crashes
constexpr Duration kLookAgain{100};       // for a daemon whose end cannot be waited for
constexpr int kErrorsFd = 2;              // where a daemon finds it

// The message of a daemon's log line, for people; the line itself where it is none.
std::string words_of(const std::string& line) {
  boost::system::error_code error;
  const json::value value = json::parse(line, error);
  if (error || !value.is_object()) return line;
  std::string words;
  for (const auto& [key, field] : value.as_object()) {
    if (key == "time" || key == "at" || key == "level" || key == "process") continue;
    if (!words.empty()) words += ", ";
    if (key != "event") words += std::string(key) + "=";
    words += field.is_string() ? std::string(field.as_string()) : json::serialize(field);
  }
  return words;
}

void tell_not_started(const std::string& role, LogFile& log, const Error& error) {
  log.write(error.message + "\n");
  log::error("daemon not started", {{"role", role}, {"error", error.message}});
}

// Another descriptor for the same, to read from while this one is kept.
Fd copy_of(const Fd& fd) { return Fd(fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)); }

}  // namespace

void Supervisor::spawn(const std::shared_ptr<Role>& role) {
  role->kept = true;
  scope_.spawn(role->name, [this, role] { return keep(*role); });
}

// Waits for "prepared" (first_word) or "ready".
Async<Result<void>> Supervisor::await_ready(Role& role, bool first_word, int starts_max) {
  const auto deadline = std::chrono::steady_clock::now() + kReadyWithin;
  while (!(role.ready || (first_word && role.prepared))) {
    std::string words;
    for (const std::string& line : role.log->last_lines()) words += "\n  " + words_of(line);
    const std::string path = instance_.log(role.name).string();
    if (role.failures >= starts_max) {
      co_return fail(Code::kUnavailable, "{} does not start; its log ({}) ends:{}", role.name, path,
                     words);
    }
    const auto left =
        std::chrono::duration_cast<Duration>(deadline - std::chrono::steady_clock::now());
    if (left <= Duration(0)) {
      co_return fail(Code::kTimeout, "{} was not ready within {} s; its log ({}) ends:{}",
                     role.name, kReadyWithin.count() / 1000, path, words);
    }
    if (ending_asked_.is_set()) co_return fail(Code::kCancelled, "stopped while starting");
    role.changed.reset();
    // Not longer than a moment, to hear Ctrl-C.
    co_await role.changed.wait_for(std::min(left, Duration(200)));
  }
  co_return Result<void>{};
}

Async<> Supervisor::keep(Role& role) {
  Backoff backoff{.min = Duration(100), .max = Duration(10'000)};
  SystemRandom random;
  while (!role.stopping || role.pid > 0) {
    const auto started = std::chrono::steady_clock::now();
    if (role.pid <= 0) start_daemon(role);
    if (role.pid > 0) co_await outlive(role);
    if (role.stopping) break;
    if (std::exchange(role.replacing, false)) {
      role.ready = role.prepared = false;
      role.failures = 0;
      role.changed.set();
      continue;
    }
    ++role.restarts;
    role.failures = role.ready ? 1 : role.failures + 1;
    role.ready = false;
    role.prepared = false;
    role.changed.set();
    if (std::chrono::steady_clock::now() - started > kStableAfter) backoff.reset();
    uint32_t draw = 0;
    random.fill(&draw, sizeof draw);
    co_await sleep_for(backoff.next(draw / 4294967296.0));
  }
  role.ended.set();
}

// role.pid says whether it runs then; why it does not is in its log.
void Supervisor::start_daemon(Role& role) {
  int errors[2] = {-1, -1};
  int words[2] = {-1, -1};
  // A daemon that logs must never wait for us: when the pipe is full its line is lost (log.cc).
  const bool made = pipe2(errors, O_CLOEXEC | O_NONBLOCK) == 0 && pipe2(words, O_CLOEXEC) == 0;
  const int error = errno;
  Fd errors_in(errors[0]), errors_out(errors[1]), words_in(words[0]), words_out(words[1]);
  if (!made) {
    tell_not_started(role.name, *role.log, fail_errno(error, "making a pipe").error());
    return;
  }
  DaemonCommand command = role.command;
  command.argv.insert(command.argv.end(), role.first_time.begin(), role.first_time.end());
  role.first_time.clear();
  role.version.clear();
  command.fds.emplace_back(errors_out.get(), kErrorsFd);
  command.fds.emplace_back(words_out.get(), kReadyFd);
  if (lseek(files_.at("credentials").get(), 0, SEEK_SET) < 0)
    log::warn("credentials cannot be read again");
  Result<Child> child = spawn_daemon(command);
  if (!child) {
    tell_not_started(role.name, *role.log, child.error());
    return;
  }
  role.pid = child->pid;
  role.pidfd = std::move(child->pidfd);
  role.errors = std::move(errors_in);
  role.words = std::move(words_in);
}

// Returns when the daemon that runs has ended.
Async<> Supervisor::outlive(Role& role) {
  if (!making_way_) listen_to(role);
  asio::posix::stream_descriptor pidfd(executor_, role.pidfd.release());
  int status = 0;
  while (waitpid(role.pid, &status, WNOHANG) == 0) {
    boost::system::error_code error;
    co_await pidfd.async_wait(asio::posix::stream_descriptor::wait_read,
                              asio::redirect_error(asio::use_awaitable, error));
    if (error) co_await sleep_for(kLookAgain);
  }
  role.pid = -1;
  co_await listen_no_more(role);
  role.log->write(std::exchange(role.partial, {}));
  // Something that the daemon left running may hold its stderr: what is there at the daemon's end
  // is all.
  role.log->drain(role.errors.get());
  role.errors.reset();
  role.words.reset();
  if (!role.stopping && !role.replacing) {
    log::warn("daemon ended",
              {{"role", role.name},
               {"exit", WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status)}});
  }
}

void Supervisor::listen_to(Role& role) {
  role.readers = std::make_shared<AsyncScope>(executor_);
  Fd errors = copy_of(role.errors), words = copy_of(role.words);
  if (!errors || !words) {
    // Unheard it would never be ready.
    log::error("daemon cannot be listened to", {{"role", role.name}, {"error", strerror(errno)}});
    kill(role.pid, SIGKILL);
    return;
  }
  role.readers->spawn("log", pump_errors(role, std::move(errors)));
  role.readers->spawn("ready", watch_ready(role, std::move(words)));
}

Async<> Supervisor::listen_no_more(Role& role) {
  const std::shared_ptr<AsyncScope> readers = role.readers;
  if (readers == nullptr) co_return;
  readers->cancel();
  co_await readers->join();
}

Async<> Supervisor::pump_errors(Role& role, Fd errors) {
  asio::posix::stream_descriptor stream(executor_, errors.release());
  std::array<char, 16 * 1024> buffer;
  while (true) {
    boost::system::error_code error;
    const size_t got = co_await stream.async_read_some(
        asio::buffer(buffer), asio::redirect_error(asio::use_awaitable, error));
    if (error) break;
    // Whole lines: a successor may be writing to the same log.
    role.partial.append(buffer.data(), got);
    const size_t end = role.partial.rfind('\n') + 1;  // npos + 1 is 0
    role.log->write(std::string_view(role.partial).substr(0, end));
    role.partial.erase(0, end);
    if (role.partial.size() > kLogLineBytesMax) role.partial.resize(kLogLineBytesMax);
  }
}

Async<> Supervisor::watch_ready(Role& role, Fd ready) {
  asio::posix::stream_descriptor stream(executor_, ready.release());
  std::array<char, 64> buffer;
  std::string said;
  while (true) {
    boost::system::error_code error;
    const size_t got = co_await stream.async_read_some(
        asio::buffer(buffer), asio::redirect_error(asio::use_awaitable, error));
    if (error) break;
    if (said.size() < 256) said.append(buffer.data(), got);
    role.prepared = role.prepared || said.find("prepared\n") != std::string::npos;
    role.ready = role.ready || said.find("ready\n") != std::string::npos;
    if (said.starts_with("version ") && said.find('\n') != std::string::npos)
      role.version = said.substr(8, said.find('\n') - 8);
    if (role.ready) role.failures = 0;
    role.changed.set();
  }
}

Async<> Supervisor::stop_role(Role& role) {
  role.stopping = true;
  const auto deadline = std::chrono::steady_clock::now() + kDaemonStopWithin;
  bool killed = false;
  while (!role.ended.is_set()) {
    // Each time round: it may have been between two lives when asked first.
    if (role.pid > 0) kill(role.pid, killed ? SIGKILL : SIGTERM);
    const auto left =
        std::chrono::duration_cast<Duration>(deadline - std::chrono::steady_clock::now());
    killed = killed || left <= Duration(0);
    co_await role.ended.wait_for(killed ? Duration(1000) : std::min(left, Duration(2000)));
  }
}

}  // namespace hob::cli
