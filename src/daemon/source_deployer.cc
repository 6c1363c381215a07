#include "daemon/source_deployer.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <cerrno>
#include <cstdlib>

#include "base/log.h"
#include "base/spawn_child.h"
#include "git/deploy_order.h"

namespace hob::daemon {

namespace asio = boost::asio;
namespace fs = std::filesystem;

fs::path deployer_socket(const fs::path& data) { return data / "run" / "deployer.sock"; }

namespace {

constexpr size_t kReadBytes = 16 * 1024;
constexpr size_t kLineBytesMax = 16 * 1024;        // longer ones are cut
constexpr size_t kTextBytesMax = 8 * 1024 * 1024;  // of one deployment; beyond: no more is told

// `hob`: beside this program in a build tree, in bin beside its sbin where it is installed.
std::string cli_program() {
  std::error_code error;
  const fs::path own = fs::read_symlink("/proc/self/exe", error).parent_path();
  const fs::path beside = own / "hob";
  return (fs::exists(beside, error) ? beside : own.parent_path() / "bin" / "hob").string();
}

Command command_of(const git::DeployOrder& order, const fs::path& data, uint16_t api_port) {
  Command command{.argv = {cli_program(), "deploy",
                           fmt::format("http://127.0.0.1:{}/git/{}.git#{}", api_port, order.service,
                                       order.commit),
                           "--name", order.service, "--data", data.string()},
                  .environment = std::map<std::string, std::string>{
                      {"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
                      {"HOME", "/nonexistent"},
                      {"LC_ALL", "C.UTF-8"},
                      {"HOB_GIT_USER", order.fetch_user},
                      {"HOB_GIT_TOKEN", order.fetch_password},
                      {"HOB_ACCESS_KEY_ID", order.access_key},
                      {"HOB_SECRET_ACCESS_KEY", order.secret_key}}};
  // What the instance was started with: where builds keep their state, the way out, sanitizers.
  for (const char* name : {"HOB_BUILD_STATE", "http_proxy", "https_proxy", "no_proxy",
                           "HTTPS_PROXY", "NO_PROXY", "ASAN_OPTIONS", "UBSAN_OPTIONS"}) {
    if (const char* value = std::getenv(name)) (*command.environment)[name] = value;
  }
  return command;
}

// The child and what it prints; killed with this object.
class Run {
 public:
  static Result<std::unique_ptr<Run>> start(const Executor& executor, const Command& command) {
    int fds[2];
    if (::pipe2(fds, O_CLOEXEC) != 0) return fail_errno(errno, "making a pipe");
    const Fd write(fds[1]);
    std::unique_ptr<Run> run(new Run(executor, fds[0]));
    const Fd nothing(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!nothing) return fail_errno(errno, "opening /dev/null");
    HOB_TRY(run->pid_,
            spawn_child(command,
                        {.input = nothing.get(), .output = write.get(), .errors = write.get()}));
    return run;
  }
  ~Run() {
    if (pid_ <= 0) return;
    // Its hob-build, told by its parent's death, ends and cleans up.
    ::kill(pid_, SIGKILL);
    reap();
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  // Empty: the end.
  Async<Result<std::string>> read() {
    std::string piece(kReadBytes, '\0');
    boost::system::error_code error;
    const size_t got = co_await output_.async_read_some(
        asio::buffer(piece), asio::redirect_error(asio::use_awaitable, error));
    co_await throw_if_cancelled();
    if (error && error != asio::error::eof)
      co_return fail(Code::kUnavailable, "reading from hob deploy: {}", error.message());
    piece.resize(got);
    co_return piece;
  }
  // After the end of its output.
  int reap() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }

 private:
  Run(const Executor& executor, int output) : output_(executor, output) {}
  asio::posix::stream_descriptor output_;
  pid_t pid_ = -1;
};

// Each whole line of `text` as one of the answer's; what is left stays.
std::string take_lines(std::string& text) {
  std::string lines;
  for (size_t end = 0;
       (end = text.find('\n')) != std::string::npos || text.size() > kLineBytesMax;) {
    const size_t size = std::min({end, text.size(), kLineBytesMax});
    lines.append(git::kSayWord).append(text, 0, size).append("\n");
    text.erase(0, end == size ? size + 1 : size);
  }
  return lines;
}

Async<Result<void>> deploy(Command command, http::Responder& responder) {
  const Executor executor = co_await asio::this_coro::executor;
  HOB_CO_TRY(const std::unique_ptr<Run> run, Run::start(executor, command));
  http::Headers headers;
  headers.set("Content-Type", "text/plain; charset=utf-8");
  HOB_CO_CHECK(co_await responder.begin(200, std::move(headers), std::nullopt));
  std::string text;
  size_t told = 0;
  for (;;) {
    HOB_CO_TRY(std::string piece, co_await run->read());
    if (piece.empty()) break;
    text += piece;
    std::string lines = take_lines(text);
    if (lines.empty() || told > kTextBytesMax) continue;
    told += lines.size();
    HOB_CO_CHECK(co_await responder.write(std::move(lines)));  // control is gone: ended
  }
  const int status = run->reap();
  std::string last(status == 0 ? git::kDoneWord : git::kFailedWord);
  if (!text.empty())
    last = fmt::format("{}{}\n{}", git::kSayWord, text.substr(0, kLineBytesMax), last);
  HOB_CO_CHECK(co_await responder.write(last + "\n"));
  co_return co_await responder.end();
}

}  // namespace

Result<std::unique_ptr<http::Server>> serve_deployments(Executor executor, fs::path data,
                                                        uint16_t api_port) {
  // Control's user is whose folder control's is.
  struct stat control {};
  if (::stat((data / "control").c_str(), &control) != 0) return std::unique_ptr<http::Server>();
  const fs::path path = deployer_socket(data);
  HOB_TRY(Fd listener, http::listen_unix(path, 0600));
  if (::chown(path.c_str(), control.st_uid, control.st_gid) != 0)
    return fail_errno(errno, "giving " + path.string() + " to control's user");
  auto running = std::make_shared<size_t>(0);
  auto handler = [data, api_port, running](const http::Request& request, http::BodyReader& body,
                                           http::Responder& responder) -> Async<> {
    http::Response refused{.status = 404};
    if (request.method == "POST" && request.path == "/deploy") {
      const Result<std::string> text = co_await http::read_all(body, git::kDeployOrderBytesMax);
      const Result<git::DeployOrder> order =
          text ? git::decode_deploy_order(*text) : fail(text.error());
      refused.status = order ? 503 : 400;
      if (order && *running < kDeploymentsMax) {
        const auto leave = [](size_t* count) { --*count; };
        ++*running;
        const std::unique_ptr<size_t, decltype(leave)> turn(running.get(), leave);
        const Result<void> ended = co_await within(
            kDeploymentWithin, deploy(command_of(*order, data, api_port), responder));
        if (!ended) log::info("a pushed deployment was left", {{"error", ended.error().message}});
        co_return;
      }
    }
    // The asker may have gone.
    static_cast<void>(co_await responder.respond(std::move(refused)));
  };
  auto server = std::make_unique<http::Server>(executor, std::move(listener), std::move(handler));
  server->start();
  return server;
}

}  // namespace hob::daemon
