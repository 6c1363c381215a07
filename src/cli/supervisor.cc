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
#include "cli/microvms.h"
#include "cli/local_certificate.h"
#include "cli/spawn.h"
#include "cli/supervisor_role.h"
#include "cli/supervisor_succession.h"

namespace hob::cli {
namespace {
constexpr Duration kPortsFreeWithin{2'000};
constexpr Duration kPortsFreePoll{50};

// Files of run/, and their names among files_.
constexpr const char* kLinkSocket = "control.sock";
constexpr const char* kHoldSocket = "host.sock";
constexpr const char* kEdgeMetricsSocket = "edge-metrics.sock";
constexpr const char* kHostMetricsSocket = "host-metrics.sock";
constexpr const char* kSupervisorSocket = "supervisor.sock";

namespace asio = boost::asio;
namespace json = boost::json;

constexpr Duration kTearDownWithin{120'000};
// Where a daemon finds what it inherits.
constexpr int kFirstFd = 4;
constexpr int kOwnMetricsFd = 9;  // of edges
constexpr const char* kEdgeMetricsPrefix = "edge-metrics-";  // control reads them (daemon/control.cc)

Result<Fd> duplicate_of(const std::filesystem::path& path) {
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "opening " + path.string());
  return fd;
}

Result<Fd> open_log(const std::string& path, int how) {
  Fd fd(open(path.c_str(), how | O_CREAT | O_CLOEXEC, 0640));
  if (!fd) return fail_errno(errno, "opening " + path);
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

Supervisor::Supervisor(Executor executor, Instance instance, Fd lock,
                       std::function<void(const std::string&)> say)
    : executor_(executor),
      instance_(std::move(instance)),
      say_(std::move(say)),
      lock_(std::move(lock)),
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

// What is not there yet: a supervisor that takes another's place has what that one had.
Result<void> Supervisor::open_files() {
  const auto keep = [&](const char* name, auto&& make) -> Result<void> {
    if (files_.contains(name)) return {};
    HOB_TRY(Fd fd, make());
    files_.emplace(name, std::move(fd));
    return {};
  };
  const auto tcp = [&](const char* name, const std::string& address, uint16_t port,
                       const char* what, const char* flag) {
    return keep(name, [&]() -> Result<Fd> {
      Result<Fd> fd = http::listen_tcp(address, port);
      if (!fd && fd.error().code == Code::kExists) {
        return fail(Code::kExists, "port {} for {} is taken by another program; choose one with {}",
                    port, what, flag);
      }
      return context(std::move(fd), "listening for {}", what);
    });
  };
  const auto local = [&](const char* name, uid_t owner) {
    return keep(name, [&] { return listen_for(instance_.run() / name, owner); });
  };
  // --public is for services: the API and its unencrypted keys stay on this machine.
  const std::string public_address = instance_.is_public ? "0.0.0.0" : "127.0.0.1";
  HOB_CHECK(tcp("api", "127.0.0.1", instance_.api_port, "the API", "--api-port"));
  HOB_CHECK(tcp("http", public_address, instance_.http_port, "services", "--http-port"));
  HOB_CHECK(tcp("https", public_address, instance_.https_port, "services by TLS", "--https-port"));
  HOB_CHECK(local(kLinkSocket, kEdgeUid));
  HOB_CHECK(local(kHoldSocket, kEdgeUid));
  HOB_CHECK(local(kEdgeMetricsSocket, kControlUid));
  HOB_CHECK(local(kHostMetricsSocket, kControlUid));
  HOB_CHECK(keep("credentials", [&] { return duplicate_of(instance_.data / "credentials.json"); }));
  // The edge is a user who may not enter the logs' directory; with these it keeps its log within
  // bounds all the same.
  const std::string log = instance_.log("access").string();
  HOB_CHECK(keep("access-log", [&] { return open_log(log, O_RDWR | O_APPEND); }));
  HOB_CHECK(keep("access-log-previous", [&] { return open_log(log + ".1", O_WRONLY); }));
  return local(kSupervisorSocket, 0);
}

Result<Supervisor::Commands> Supervisor::make_commands() const {
  HOB_TRY(const std::string path, find_hobd());
  HOB_TRY(const std::shared_ptr<const Fd> program, open_program(path));
  const std::string zone = instance_.region + "a";
  const std::string link = (instance_.run() / kLinkSocket).string();
  const std::vector<std::string> common = {"--data",     instance_.data.string(),
                                           "--instance", instance_.id,
                                           "--region",   instance_.region,
                                           "--zone",     zone,
                                           "--link",     link,
                                           "--ready-fd", std::to_string(kReadyFd)};
  const auto make = [&](const char* name, const std::vector<std::string>& more,
                        const std::vector<const char*>& files, uid_t uid) {
    DaemonCommand command{.argv = {path, "--role", name}, .program = program, .uid = uid};
    command.argv.insert(command.argv.end(), common.begin(), common.end());
    command.argv.insert(command.argv.end(), more.begin(), more.end());
    for (size_t i = 0; i < files.size(); ++i)
      command.fds.emplace_back(files_.at(files[i]).get(), kFirstFd + static_cast<int>(i));
    return command;
  };
  Commands commands;
  std::vector<std::string> host_words = {
      "--metrics-fd",        "4",
      "--hold-fd",           "5",
      "--edge-uid",          std::to_string(kEdgeUid),
      "--api-port",          std::to_string(instance_.api_port),
      "--cpu-overcommit",    fmt::format("{}", instance_.cpu_overcommit),
      "--memory-overcommit", fmt::format("{}", instance_.memory_overcommit)};
  const bool able = check_microvms(instance_.kernel()).has_value();
  if (runs_microvms(instance_.isolation, able)) host_words.emplace_back("--microvms");
  if (able) host_words.emplace_back("--can-microvm");
  commands.host = make("host", host_words, {kHostMetricsSocket, kHoldSocket}, 0);
  commands.control =
      make("control",
           {"--api-fd", "4", "--link-fd", "5", "--credentials-fd", "6", "--api-port",
            std::to_string(instance_.api_port), "--http-port", std::to_string(instance_.http_port),
            "--store", instance_.store, "--edge-uid", std::to_string(kEdgeUid), "--acme-directory",
            instance_.acme_directory, "--acme-contact", instance_.acme_contact, "--acme-ca-file",
            instance_.acme_ca ? instance_.acme_ca_file().string() : "", "--acme-challenge",
            instance_.acme_challenge.empty() ? "http-01" : instance_.acme_challenge, "--resolver",
            instance_.resolver, "--acme-eab-kid", instance_.acme_eab_kid, "--ocsp-responders",
            instance_.ocsp_responders.empty() ? "public" : instance_.ocsp_responders},
           {"api", kLinkSocket, "credentials"}, kControlUid);
  commands.edge = make("edge",
                       {"--http-fd", "4", "--metrics-fd", "5", "--https-fd", "6", "--access-log-fd",
                        "7", "--access-log-previous-fd", "8", "--host-socket",
                        (instance_.run() / kHoldSocket).string()},
                       {"http", kEdgeMetricsSocket, "https", "access-log", "access-log-previous"},
                       kEdgeUid);
  commands.edge.network_namespace = instance_.run() / "netns" / "vpc";
  return commands;
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

// Answers people, hears signals, renews certificates.
Result<void> Supervisor::serve() {
  HOB_CHECK(listen_to_people());
  scope_.spawn("signals", wait_for_signal());
  scope_.spawn("certificates", keep_certificates());
  return {};
}

Result<void> Supervisor::listen_to_people() {
  Fd listener(fcntl(files_.at(kSupervisorSocket).get(), F_DUPFD_CLOEXEC, 3));
  if (!listener) return fail_errno(errno, "keeping the supervisor's socket");
  server_ = std::make_unique<http::Server>(
      executor_, std::move(listener),
      [this](const http::Request& request, http::BodyReader&,
             http::Responder& responder) -> Async<> { co_await answer(request, responder); });
  server_->start();
  return {};
}

// An edge that is to be started. Its own socket for metrics is read from when it drains: by then
// the one that has a fixed name is its successor's.
Result<std::shared_ptr<Supervisor::Role>> Supervisor::make_edge(DaemonCommand command,
                                                                std::shared_ptr<LogFile> log) {
  std::filesystem::path path;
  for (size_t i = 0; path.empty() || std::filesystem::exists(path); ++i)
    path = instance_.run() / fmt::format("{}{}.sock", kEdgeMetricsPrefix, i);
  HOB_TRY(Fd socket, listen_for(path, kControlUid));
  command.argv.insert(command.argv.end(), {"--own-metrics-fd", std::to_string(kOwnMetricsFd)});
  command.fds.emplace_back(socket.get(), kOwnMetricsFd);
  const auto edge =
      std::make_shared<Role>(executor_, "edge", std::move(log), std::move(command));
  edge->metrics_socket = std::move(socket);
  edge->metrics_path = path;
  roles_.push_back(edge);
  return edge;
}

// An edge that has ended, or never was.
void Supervisor::forget(const std::shared_ptr<Role>& edge) {
  unlink(edge->metrics_path.c_str());
  std::erase(roles_, edge);
}

void Supervisor::remove_metrics_sockets() const {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(instance_.run(), error)) {
    if (entry.path().filename().string().starts_with(kEdgeMetricsPrefix))
      unlink(entry.path().c_str());
  }
}

Async<Result<void>> Supervisor::start_all() {
  // After kill -9 the kernel lets go of an edge's listening socket a moment later than of its
  // process (io_uring).
  Result<void> opened = open_files();
  for (Duration waited{0};
       !opened && opened.error().code == Code::kExists && waited < kPortsFreeWithin;
       waited += kPortsFreePoll) {
    files_.clear();
    co_await sleep_for(kPortsFreePoll);
    opened = open_files();
  }
  HOB_CO_CHECK(opened);
  remove_metrics_sockets();
  HOB_CO_CHECK(serve());

  HOB_CO_TRY(const Commands commands, make_commands());
  const auto add = [&](const char* name, DaemonCommand command) {
    roles_.push_back(std::make_shared<Role>(
        executor_, name, std::make_shared<LogFile>(instance_.log(name)), std::move(command)));
    return roles_.back();
  };
  host_ = add("host", commands.host);
  control_ = add("control", commands.control);
  HOB_CO_TRY(edge_, make_edge(commands.edge, std::make_shared<LogFile>(instance_.log("edge"))));
  spawn(host_);
  spawn(control_);
  HOB_CO_CHECK(co_await await_ready(*host_, true, kStartsMax));
  spawn(edge_);
  HOB_CO_CHECK(co_await await_ready(*control_, false, kStartsMax));
  HOB_CO_CHECK(co_await await_ready(*host_, false, kStartsMax));
  HOB_CO_CHECK(co_await await_ready(*edge_, false, kStartsMax));
  co_return Result<void>{};
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
  unblock_signals();  // a predecessor may have blocked them, for us to hear
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
  for (const char* name : {kLinkSocket, kHoldSocket, kEdgeMetricsSocket, kHostMetricsSocket})
    unlink((instance_.run() / name).c_str());
  remove_metrics_sockets();
  finished_.set();
  // Lets the answer to `hob down` out.
  co_await server_->stop(Duration(2000));
  unlink((instance_.run() / kSupervisorSocket).c_str());
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
