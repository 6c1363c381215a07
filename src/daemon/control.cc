// Control's process: the store, everything that is desired, and the API over it. A user of its own.
#include <unistd.h>

#include <boost/json.hpp>

#include "api/endpoint.h"
#include "aws/apprunner/handler.h"
#include "aws/ecr/handler.h"
#include "aws/logs/handler.h"
#include "aws/sts/handler.h"
#include "base/file.h"
#include "base/log.h"
#include "base/sealed.h"
#include "certify/acme_client.h"
#include "certify/dns.h"
#include "cluster/cluster.h"
#include "daemon/hob_service.h"
#include "daemon/options.h"
#include "daemon/process.h"
#include "daemon/push_deployments.h"
#include "daemon/runner_builders.h"
#include "daemon/runner_images.h"
#include "git/remote.h"
#include "identity/directory.h"
#include "identity/sts.h"
#include "image/catalog.h"
#include "image/ecr.h"
#include "image/registry.h"
#include "link/link.h"
#include "observe/logs.h"
#include "observe/logs_api.h"
#include "runner/runner.h"
#include "store/sqlite_store.h"

namespace hob::daemon {
namespace {

constexpr size_t kBlockingThreads = 4;
constexpr size_t kOutsideThreads = 4;  // for what waits on others: the store must not wait with it
constexpr Duration kStopGrace{3'000};
constexpr size_t kCredentialsBytesMax = 4096;
constexpr Duration kRelayWithin{5'000};
constexpr size_t kMetricsBytesMax = 4 * 1024 * 1024;
constexpr size_t kEdgesAskedMax = 8;  // above those the supervisor lets drain

struct FirstAccount {
  std::string id{};
  std::string key{};
  Secret<std::string> secret{};
};

// From the descriptor, from its beginning: a restarted control gets the same one.
Result<FirstAccount> read_credentials(int fd) {
  std::string text(kCredentialsBytesMax, '\0');
  const ssize_t got = pread(fd, text.data(), text.size(), 0);
  if (got < 0) return fail_errno(errno, "reading the first account's keys");
  text.resize(static_cast<size_t>(got));
  boost::system::error_code error;
  const boost::json::value value = boost::json::parse(text, error);
  if (error || !value.is_object())
    return fail(Code::kCorrupt, "credentials.json is not what hob wrote");
  const auto text_of = [&](const char* name) {
    const boost::json::value* field = value.as_object().if_contains(name);
    return field != nullptr && field->is_string() ? std::string(field->as_string()) : std::string();
  };
  return FirstAccount{text_of("account"), text_of("accessKeyId"),
                      Secret<std::string>(text_of("secretAccessKey"))};
}

// Everything of control, in the order it is made; each part outlives those below it.
class Control {
 public:
  Control(Options options, const Executor& executor, std::unique_ptr<store::Store> store,
          Secret<std::string> sealing_key)
      : options_(std::move(options)),
        executor_(executor),
        pool_(kBlockingThreads),
        outside_pool_(kOutsideThreads),
        fetcher_(outside_pool_),
        acme_(acme_settings(options_), fetcher_, clock_),
        dns_(outside_pool_, options_.resolver),
        store_(std::move(store)),
        directory_(*store_, executor_, clock_, random_),
        logs_(options_.data / "control" / "logs", pool_, clock_),
        blobs_(options_.data / "control" / "registry", pool_),
        repositories_(*store_, blobs_, clock_, random_),
        catalog_(*store_),
        registry_(repositories_, pool_, check_caller(), options_.api_port),
        images_(*store_, executor_, catalog_, directory_, options_.api_port, options_.region),
        builders_(repositories_, directory_, cluster_, options_.api_port),
        runner_(*store_, executor_, clock_, random_, images_, logs_, domain_ports(),
                {.region = options_.region,
                 .sealing_key = std::move(sealing_key),
                 .builders = &builders_}),
        cluster_(*store_, executor_, clock_, random_, cluster_ports()),
        ecr_(repositories_, blobs_, directory_, "127.0.0.1:" + std::to_string(options_.api_port)),
        git_repositories_(options_.data / "control" / "git", outside_pool_),
        pushes_(*store_, directory_, options_.data),
        git_remote_(git_repositories_, pushes_, remote_authentication(directory_)),
        logs_api_(logs_, options_.region),
        endpoint_(directory_, clock_, random_, metrics_, options_.region),
        work_(executor_) {}

  Async<Result<void>> start() {
    HOB_CO_CHECK(context(co_await directory_.start(), "loading accounts"));
    HOB_CO_TRY(FirstAccount first, read_credentials(options_.credentials_fd));
    HOB_CO_CHECK(co_await directory_.ensure_account(first.id, "first", first.key, first.secret));
    HOB_CO_CHECK(context(co_await logs_.open(), "opening the logs"));
    HOB_CO_CHECK(context(co_await blobs_.open(), "opening the registry"));
    co_await images_.start();
    cluster_.start();
    runner_.start();
    endpoint_.add(aws::apprunner::make_service(runner_.api()));
    endpoint_.add(aws::ecr::make_service(ecr_));
    endpoint_.add(aws::logs::make_service(logs_api_));
    endpoint_.add(aws::sts::make_service(sts_));
    endpoint_.add(make_hob_service(directory_, catalog_, runner_.api(), *store_));
    endpoint_.mount("/v2", registry_.handler());
    HOB_CO_CHECK(context(co_await git_repositories_.open(), "opening the git repositories"));
    endpoint_.mount("/git", git_remote_.handler());
    work_.spawn("registry collection", registry_.run());
    endpoint_.mount("/metrics",
                    [this](const http::Request& request, http::BodyReader&,
                           http::Responder& responder) -> Async<> {
                      return answer_metrics(request, responder);
                    });
    links_ = std::make_unique<link::Listener>(
        executor_, Fd(options_.link_fd), std::set<uid_t>{0, options_.edge_uid},
        [this](std::shared_ptr<link::Session> session) -> Async<> {
          return cluster_.serve(std::move(session));
        });
    links_->start();
    server_ = std::make_unique<http::Server>(executor_, Fd(options_.api_fd), endpoint_.handler());
    server_->start();
    co_return Result<void>{};
  }

  Async<> stop() {
    if (server_) co_await server_->stop(kStopGrace);
    if (links_) co_await links_->stop();
    work_.cancel();
    co_await work_.join();
    co_await runner_.stop();
    co_await cluster_.stop();
    co_await images_.stop();
    co_await directory_.stop();
  }

 private:
  image::RegistryAuthentication check_caller() {
    return [this](std::string user, std::string password) -> Async<Result<image::RegistryCaller>> {
      if (user != "AWS") co_return fail(Code::kDenied, "the user name is AWS");
      HOB_CO_TRY(const identity::RegistryGrant grant, directory_.check_registry_password(password));
      co_return image::RegistryCaller{.account = grant.account,
                                      .may_push = grant.scope == identity::RegistryScope::kPush};
    };
  }

  static certify::AcmeSettings acme_settings(const Options& options) {
    certify::AcmeSettings settings{.directory = options.acme_directory,
                                   .contact = options.acme_contact,
                                   .ca_file = options.acme_ca_file};
    if (options.acme_eab_kid.empty()) return settings;
    auto key = read_file(options.data / "control" / "acme-eab.key", kCredentialsBytesMax);
    if (!key) {
      // Domains then say that the authority wants one.
      log::error("the ACME account's key cannot be read", {{"error", key.error().message}});
      return settings;
    }
    settings.external_key_id = options.acme_eab_kid;
    settings.external_mac_key = std::move(*key);
    return settings;
  }

  runner::DomainPorts domain_ports() {
    return {.acme = &acme_,
            .dns = &dns_,
            .fetcher = &fetcher_,
            .responders = options_.ocsp_responders == "any" ? certify::Responders::kAny
                                                            : certify::Responders::kPublic,
            .way = options_.acme_way == "tls-alpn-01" ? certify::AcmeWay::kTlsAlpn
                                                      : certify::AcmeWay::kHttp,
            .answered =
                [this](const link::AcmeChallenge& challenge) {
                  return cluster_.edges_answer(challenge);
                },
            .shown =
                [this](const std::string& account, const std::string& certificate,
                       const std::string& host) {
                  return cluster_.edges_show(account, certificate, host);
                }};
  }

  cluster::ClusterPorts cluster_ports() {
    return {.credentials =
                [this](const std::string& account, link::ImageSource source) {
                  return images_.with_credentials(account, std::move(source));
                },
            .store_logs = [this](link::LogBatch batch) -> Async<Result<void>> {
              observe::StreamName name{
                  .account = batch.account, .group = batch.group, .stream = batch.stream};
              HOB_CO_CHECK(
                  co_await logs_.append(std::move(name), std::move(batch.lines), batch.position));
              co_return Result<void>{};
            },
            .load = [this](const EdgeId& edge,
                           const link::EdgeReport& report) { runner_.edge_reported(edge, report); },
            .build_report =
                [this](link::BuildReport report) { runner_.build_reported(std::move(report)); }};
  }

  Async<Result<std::string>> metrics_of(std::filesystem::path socket) {
    http::Request ask{.method = "GET", .target = "/metrics", .path = "/metrics"};
    HOB_CO_TRY(http::Response answer,
               co_await http::fetch({.host = socket.string()}, std::move(ask), "", kRelayWithin,
                                    kMetricsBytesMax));
    co_return std::move(answer.body);
  }

  // With edges that drain, whose lines have the label "draining". One that does not answer has
  // ended, or is about to: it is left out.
  Async<Result<std::string>> edge_metrics() {
    HOB_CO_TRY(std::string serving, co_await metrics_of(options_.data / "run/edge-metrics.sock"));
    std::vector<std::filesystem::path> sockets;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(options_.data / "run", error)) {
      if (entry.path().filename().string().starts_with("edge-metrics-") &&
          sockets.size() < kEdgesAskedMax)
        sockets.push_back(entry.path());
    }
    std::vector<std::string> texts{std::move(serving)};
    for (const std::filesystem::path& socket : sockets) {
      if (Result<std::string> text = co_await metrics_of(socket)) texts.push_back(std::move(*text));
    }
    co_return merge_expositions(texts);
  }

  // /metrics is control's own; /metrics/edge and /metrics/host are theirs, which listen on sockets
  // beside us.
  Async<> answer_metrics(const http::Request& request, http::Responder& responder) {
    http::Response response;
    const std::string path = request.path;
    Result<std::string> text{""};
    if (path == "/metrics") {
      text = metrics_.render();
    } else if (path == "/metrics/edge") {
      text = co_await edge_metrics();
    } else if (path == "/metrics/host") {
      text = co_await metrics_of(options_.data / "run/host-metrics.sock");
    } else {
      response.status = 404;
    }
    if (text) {
      response.body = std::move(*text);
    } else {
      response = {.status = 503, .body = "no answer from it: " + text.error().message + "\n"};
    }
    response.headers.set("Content-Type", "text/plain; version=0.0.4");
    // The asker may have gone.
    static_cast<void>(co_await responder.respond(std::move(response)));
  }

  Options options_;
  Executor executor_;
  BlockingPool pool_;
  BlockingPool outside_pool_;
  SystemClock clock_;
  certify::CurlFetcher fetcher_;
  certify::AcmeClient acme_;
  certify::ResolverDns dns_;
  SystemRandom random_;
  Metrics metrics_;
  std::unique_ptr<store::Store> store_;
  identity::Directory directory_;
  observe::Logs logs_;
  image::BlobStore blobs_;
  image::Repositories repositories_;
  image::Catalog catalog_;
  image::Registry registry_;
  RunnerImages images_;
  RunnerBuilders builders_;
  runner::Runner runner_;
  cluster::Cluster cluster_;
  image::Ecr ecr_;
  git::Repositories git_repositories_;
  PushDeployments pushes_;
  git::Remote git_remote_;
  observe::LogsApi logs_api_;
  identity::Sts sts_;
  api::Endpoint endpoint_;
  AsyncScope work_;
  std::unique_ptr<link::Listener> links_;
  std::unique_ptr<http::Server> server_;
};

}  // namespace

Async<Result<void>> run_control(Options options) {
  const Executor executor = co_await boost::asio::this_coro::executor;
  HOB_CO_TRY(std::unique_ptr<store::Store> store,
             context(store::open_sqlite(options.data / "control" / "store.db", executor),
                     "opening the store"));
  SystemRandom random;
  HOB_CO_TRY(Secret<std::string> sealing_key,
             context(load_or_make_sealing_key(options.data / "control" / "sealing.key", random),
                     "opening the key of kept secrets"));
  Control control(options, executor, std::move(store), std::move(sealing_key));
  Result<void> started = co_await control.start();
  if (started) {
    log::info("control is ready");
    tell_supervisor(options, "ready");
    co_await wait_for_end();
  }
  co_await control.stop();
  co_return started;
}

}  // namespace hob::daemon
