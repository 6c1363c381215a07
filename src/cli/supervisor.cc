#include "cli/supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/json.hpp>
#include <cerrno>

#include "base/ids.h"
#include "base/log.h"
#include "base/process.h"
#include "base/version.h"
#include "cli/kvm_probe.h"
#include "cli/local_certificate.h"
#include "cli/spawn.h"
#include "cli/supervisor_role.h"

namespace hob::cli {
namespace {
constexpr Duration kPortsFreeWithin{2'000};
constexpr Duration kPortsFreePoll{50};

namespace asio = boost::asio;
namespace json = boost::json;

constexpr Duration kTearDownWithin{120'000};
constexpr Duration kStableAfter{30'000};  // a run this long forgives earlier crashes
// Where a daemon finds what it inherits.
constexpr int kErrorsFd = 2;
constexpr int kReadyFd = 3;
constexpr int kFirstFd = 4;

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

Result<Fd> duplicate_of(const std::filesystem::path& path) {
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "opening " + path.string());
  return fd;
}

Result<Fd> listen_for(const std::filesystem::path& path, uid_t owner) {
  unlink(path.c_str());
  HOB_TRY(Fd fd, http::listen_unix(path.string(), 0600));
  if (chown(path.c_str(), owner, owner) != 0)
    return fail_errno(errno, "giving " + path.string() + " its owner");
  return fd;
}

}  // namespace

Supervisor::Supervisor(Executor executor, Instance instance,
                       std::function<void(const std::string&)> say)
    : executor_(executor),
      instance_(std::move(instance)),
      say_(std::move(say)),
      scope_(executor),
      upgrade_scope_(executor),
      ending_asked_(executor),
      finished_(executor) {}

Supervisor::~Supervisor() = default;

Result<std::string> find_hobd() {
  std::error_code error;
  const std::filesystem::path own = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return fail(Code::kUnavailable, "/proc is not mounted");
  for (const std::filesystem::path& place :
       {own.parent_path() / "hobd", own.parent_path().parent_path() / "sbin/hobd"}) {
    if (access(place.c_str(), X_OK) == 0) return place.string();
  }
  return fail(Code::kNotFound,
              "hobd is not beside {}; `make build` or `make install` puts it there", own.string());
}

Result<void> Supervisor::open_sockets() {
  // --public is for services: the API and its unencrypted keys stay on this machine.
  const std::string public_address = instance_.is_public ? "0.0.0.0" : "127.0.0.1";
  const auto listen = [](const std::string& address, uint16_t port, const char* what,
                         const char* flag) {
    Result<Fd> fd = http::listen_tcp(address, port);
    if (!fd && fd.error().code == Code::kExists) {
      return Result<Fd>(fail(Code::kExists,
                             "port {} for {} is taken by another program; choose one with {}", port,
                             what, flag));
    }
    return context(std::move(fd), "listening for {}", what);
  };
  HOB_TRY(api_socket_, listen("127.0.0.1", instance_.api_port, "the API", "--api-port"));
  HOB_TRY(http_socket_, listen(public_address, instance_.http_port, "services", "--http-port"));
  HOB_TRY(https_socket_,
          listen(public_address, instance_.https_port, "services by TLS", "--https-port"));
  HOB_TRY(link_socket_, listen_for(instance_.run() / "control.sock", kEdgeUid));
  HOB_TRY(hold_socket_, listen_for(instance_.run() / "host.sock", kEdgeUid));
  HOB_TRY(edge_metrics_socket_, listen_for(instance_.run() / "edge-metrics.sock", kControlUid));
  HOB_TRY(host_metrics_socket_, listen_for(instance_.run() / "host-metrics.sock", kControlUid));
  HOB_TRY(credentials_, duplicate_of(instance_.data / "credentials.json"));
  return {};
}

// The edge is a user who may not enter the logs' directory; with these it keeps its log within
// bounds all the same.
Result<void> Supervisor::open_access_log() {
  const auto open_log = [](const std::string& path, int how) -> Result<Fd> {
    Fd fd(open(path.c_str(), how | O_CREAT | O_CLOEXEC, 0640));
    if (!fd) return fail_errno(errno, "opening " + path);
    return fd;
  };
  const std::string path = instance_.log("access").string();
  HOB_TRY(access_log_, open_log(path, O_RDWR | O_APPEND));
  HOB_TRY(access_log_previous_, open_log(path + ".1", O_WRONLY));
  return {};
}

Result<Supervisor::Commands> Supervisor::make_commands() const {
  HOB_TRY(const std::string path, find_hobd());
  HOB_TRY(const std::shared_ptr<const Fd> program, open_program(path));
  const std::string zone = instance_.region + "a";
  const std::string link = (instance_.run() / "control.sock").string();
  const std::vector<std::string> common = {"--data",     instance_.data.string(),
                                           "--instance", instance_.id,
                                           "--region",   instance_.region,
                                           "--zone",     zone,
                                           "--link",     link,
                                           "--ready-fd", std::to_string(kReadyFd)};
  const auto make = [&](const char* name, const std::vector<std::string>& more,
                        const std::vector<int>& fds, uid_t uid) {
    DaemonCommand command{.argv = {path, "--role", name}, .program = program, .uid = uid};
    command.argv.insert(command.argv.end(), common.begin(), common.end());
    command.argv.insert(command.argv.end(), more.begin(), more.end());
    for (size_t i = 0; i < fds.size(); ++i)
      command.fds.emplace_back(fds[i], kFirstFd + static_cast<int>(i));
    return command;
  };
  Commands commands;
  std::vector<std::string> host_words = {
      "--metrics-fd",        "4",
      "--hold-fd",           "5",
      "--edge-uid",          std::to_string(kEdgeUid),
      "--cpu-overcommit",    fmt::format("{}", instance_.cpu_overcommit),
      "--memory-overcommit", fmt::format("{}", instance_.memory_overcommit)};
  if (runs_microvms(instance_.isolation, instance_.kernel())) host_words.emplace_back("--microvms");
  commands.host = make("host", host_words, {host_metrics_socket_.get(), hold_socket_.get()}, 0);
  commands.control = make(
      "control",
      {"--api-fd",         "4",
       "--link-fd",        "5",
       "--credentials-fd", "6",
       "--api-port",       std::to_string(instance_.api_port),
       "--http-port",      std::to_string(instance_.http_port),
       "--store",          instance_.store,
       "--edge-uid",       std::to_string(kEdgeUid),
       "--acme-directory", instance_.acme_directory,
       "--acme-contact",   instance_.acme_contact,
       "--acme-ca-file",   instance_.acme_ca ? instance_.acme_ca_file().string() : "",
       "--acme-challenge", instance_.acme_challenge.empty() ? "http-01" : instance_.acme_challenge,
       "--resolver",       instance_.resolver},
      {api_socket_.get(), link_socket_.get(), credentials_.get()}, kControlUid);
  commands.edge = make(
      "edge",
      {"--http-fd", "4", "--metrics-fd", "5", "--https-fd", "6", "--access-log-fd", "7",
       "--access-log-previous-fd", "8", "--host-socket", (instance_.run() / "host.sock").string()},
      {http_socket_.get(), edge_metrics_socket_.get(), https_socket_.get(), access_log_.get(),
       access_log_previous_.get()},
      kEdgeUid);
  commands.edge.network_namespace = instance_.run() / "netns" / "vpc";
  return commands;
}

void Supervisor::spawn(const std::shared_ptr<Role>& role) {
  role->kept = true;
  scope_.spawn(role->name, [this, role] { return keep(*role); });
}

Async<Result<void>> Supervisor::start() {
  Result<void> done = co_await start_all();
  if (done) {
    started_ = true;
    co_return done;
  }
  for (auto& role : roles_) {
    if (role->kept) co_await stop_role(*role);
  }
  if (server_) co_await server_->stop(Duration(0));
  scope_.cancel();
  co_await scope_.join();
  co_return done;
}

Async<Result<void>> Supervisor::start_all() {
  // After kill -9 the kernel lets go of an edge's listening socket a moment later than of its
  // process (io_uring).
  Result<void> opened = open_sockets();
  for (Duration waited{0};
       !opened && opened.error().code == Code::kExists && waited < kPortsFreeWithin;
       waited += kPortsFreePoll) {
    api_socket_.reset();
    http_socket_.reset();
    https_socket_.reset();
    co_await sleep_for(kPortsFreePoll);
    opened = open_sockets();
  }
  HOB_CO_CHECK(opened);
  HOB_CO_CHECK(open_access_log());
  HOB_CO_TRY(Fd control_socket, listen_for(instance_.run() / "supervisor.sock", 0));
  server_ = std::make_unique<http::Server>(
      executor_, std::move(control_socket),
      [this](const http::Request& request, http::BodyReader&,
             http::Responder& responder) -> Async<> { co_await answer(request, responder); });
  server_->start();
  scope_.spawn("signals", wait_for_signal());
  scope_.spawn("certificates", keep_certificates());

  HOB_CO_TRY(const Commands commands, make_commands());
  const auto add = [&](const char* name, DaemonCommand command) {
    roles_.push_back(std::make_shared<Role>(
        executor_, name, std::make_shared<LogFile>(instance_.log(name)), std::move(command)));
    return roles_.back();
  };
  host_ = add("host", commands.host);
  control_ = add("control", commands.control);
  edge_ = add("edge", commands.edge);
  spawn(host_);
  spawn(control_);
  HOB_CO_CHECK(co_await await_ready(*host_, true, kStartsMax));
  spawn(edge_);
  HOB_CO_CHECK(co_await await_ready(*control_, false, kStartsMax));
  HOB_CO_CHECK(co_await await_ready(*host_, false, kStartsMax));
  HOB_CO_CHECK(co_await await_ready(*edge_, false, kStartsMax));
  co_return Result<void>{};
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

// Starts the daemon again and again until it is stopped.
Async<> Supervisor::keep(Role& role) {
  Backoff backoff{.min = Duration(100), .max = Duration(10'000)};
  SystemRandom random;
  while (!role.stopping) {
    const auto started = std::chrono::steady_clock::now();
    int errors[2] = {-1, -1};
    int ready[2] = {-1, -1};
    HOB_ASSERT(pipe2(errors, O_CLOEXEC) == 0);
    HOB_ASSERT(pipe2(ready, O_CLOEXEC) == 0);
    // A daemon that logs must never wait for us: when the pipe is full its line is lost (log.cc).
    HOB_ASSERT(fcntl(errors[1], F_SETFL, O_NONBLOCK) == 0);
    Fd errors_in(errors[0]), errors_out(errors[1]), ready_in(ready[0]), ready_out(ready[1]);
    DaemonCommand command = role.command;
    command.argv.insert(command.argv.end(), role.first_time.begin(), role.first_time.end());
    role.first_time.clear();
    role.version.clear();
    command.fds.emplace_back(errors_out.get(), kErrorsFd);
    command.fds.emplace_back(ready_out.get(), kReadyFd);
    if (lseek(credentials_.get(), 0, SEEK_SET) < 0) log::warn("credentials cannot be read again");
    Result<Child> child = spawn_daemon(command);
    errors_out.reset();
    ready_out.reset();
    if (child) {
      role.pid = child->pid;
      // Something that the daemon left running may hold its stderr: what is there at the daemon's
      // end is all.
      Fd left_over(fcntl(errors_in.get(), F_DUPFD_CLOEXEC, 3));
      AsyncScope readers(executor_);
      readers.spawn("log", pump_errors(role, std::move(errors_in)));
      readers.spawn("ready", watch_ready(role, std::move(ready_in)));
      asio::posix::stream_descriptor pidfd(executor_, child->pidfd.release());
      boost::system::error_code error;
      co_await pidfd.async_wait(asio::posix::stream_descriptor::wait_read,
                                asio::redirect_error(asio::use_awaitable, error));
      int status = 0;
      waitpid(role.pid, &status, 0);
      role.pid = -1;
      readers.cancel();
      co_await readers.join();
      role.log->write(std::exchange(role.partial, {}));
      role.log->drain(left_over.get());
      const bool failed = !role.stopping && !role.replacing;
      if (failed) {
        log::warn("daemon ended",
                  {{"role", role.name},
                   {"exit", WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status)}});
      }
    } else {
      role.log->write(child.error().message + "\n");
      log::error("daemon not started", {{"role", role.name}, {"error", child.error().message}});
    }
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

Async<> Supervisor::keep_certificates() {
  while (true) {
    co_await sleep_for(kCertificateLook);
    const auto kept = keep_certificate(instance_, SystemClock().now());
    if (!kept) {
      log::error("certificate not renewed", {{"error", kept.error().message}});
    } else if (*kept == CertificateAction::kMakeAuthorityAndIssue) {
      log::warn("the local authority was near its end; `hob trust` installs the new one");
    }
  }
}

Async<> Supervisor::wait_for_signal() {
  asio::signal_set signals(executor_, SIGINT, SIGTERM, SIGHUP);
  while (true) {
    boost::system::error_code error;
    const int number =
        co_await signals.async_wait(asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return;
    if (number == SIGHUP) continue;  // the terminal it was started from has gone; it has not
    ending_ = number == SIGINT ? Ending::kDown : Ending::kLeaveTasks;
    ending_asked_.set();
  }
}

Async<Ending> Supervisor::wait() {
  co_await ending_asked_.wait();
  co_return ending_;
}

Async<Result<void>> Supervisor::stop(Ending ending) {
  upgrade_scope_.cancel();
  co_await upgrade_scope_.join();
  // The edges first, and together.
  const std::vector<std::shared_ptr<Role>> roles = roles_;
  for (const auto& role : roles) {
    if (role == host_ || role == control_) continue;
    role->stopping = true;
    if (role->pid > 0) kill(role->pid, SIGTERM);
  }
  for (const auto& role : roles) {
    if (role != host_ && role != control_) co_await stop_role(*role);
  }
  for (const auto& role : {control_, host_}) co_await stop_role(*role);
  if (ending == Ending::kDown) outcome_ = co_await tear_down(instance_);
  for (const char* name : {"control.sock", "host.sock", "edge-metrics.sock", "host-metrics.sock"}) {
    unlink((instance_.run() / name).c_str());
  }
  finished_.set();
  // Lets the answer to `hob down` out.
  co_await server_->stop(Duration(2000));
  unlink((instance_.run() / "supervisor.sock").c_str());
  scope_.cancel();
  co_await scope_.join();
  co_return outcome_;
}

std::string Supervisor::status() const {
  json::object roles;
  for (const auto& role : {control_, edge_, host_}) {
    if (role == nullptr) continue;  // not yet
    roles[role->name] = {{"pid", role->pid},
                         {"restarts", role->restarts},
                         {"ready", role->ready},
                         {"version", role->version}};
  }
  json::array draining;
  for (const auto& role : roles_) {
    if (role->handing_over)
      draining.push_back(json::object{{"pid", role->pid}, {"version", role->version}});
  }
  return json::serialize(json::object{{"pid", getpid()},
                                      {"version", kVersion},
                                      {"ready", started_},
                                      {"roles", roles},
                                      {"draining", draining},
                                      {"upgrading", upgrading_},
                                      {"upgrade_error", upgrade_error_}});
}

Async<> Supervisor::answer(const http::Request& request, http::Responder& responder) {
  http::Response response;
  response.headers.set("Content-Type", "application/json");
  if (request.method == "GET" && request.path == "/status") {
    response.body = status();
  } else if (request.method == "POST" && request.path == "/upgrade") {
    if (Result<void> begun = begin_upgrade(request.query); !begun) {
      response.status = 409;
      response.body = json::serialize(json::object{{"error", begun.error().message}});
    } else {
      response.body = "{}";
    }
  } else if (request.method == "POST" && request.path == "/down") {
    ending_ = Ending::kDown;
    ending_asked_.set();
    co_await finished_.wait();
    if (!outcome_) {
      response.status = 500;
      response.body = json::serialize(json::object{{"error", outcome_.error().message}});
    } else {
      response.body = "{}";
    }
  } else {
    response.status = 404;
    response.body = "{}";
  }
  // An error here is that the asker has gone: nobody to tell.
  static_cast<void>(co_await responder.respond(std::move(response)));
}

Async<Result<void>> tear_down(Instance instance) {
  HOB_CO_TRY(std::string program, find_hobd());
  Command command{.argv = {program, "--role", "host", "--tear-down", "--data",
                           instance.data.string(), "--instance", instance.id, "--region",
                           instance.region}};
  HOB_CO_CHECK(
      context(co_await run_ok(std::move(command), kTearDownWithin), "taking down what runs"));
  co_return Result<void>{};
}

}  // namespace hob::cli
