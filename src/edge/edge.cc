#include "edge/edge.h"

#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <set>
#include <thread>

#include "base/ids.h"
#include "base/log.h"
#include "edge/access_log.h"
#include "edge/acme_answers.h"
#include "edge/awake_controller.h"
#include "edge/certificates.h"
#include "edge/host_link.h"
#include "edge/measurements.h"
#include "edge/worker.h"
#include "link/link.h"

namespace hob::edge {
namespace {

constexpr size_t kIdDigits = 32;
constexpr size_t kRouteTableBytesMax = 64 * 1024 * 1024;
constexpr size_t kCertificateTableBytesMax = 512 * 1024 * 1024;
constexpr Duration kReportInterval{1'000};
// While requests wait for targets that do not exist yet: control follows how fast they come.
constexpr Duration kReportIntervalShort{25};
constexpr Duration kReportGap{10};  // between two that were asked for
constexpr Duration kDrainPoll{10};
constexpr Duration kCutOffWait{2'000};
constexpr Duration kTableAwaited{3'000};
constexpr Duration kLeavingToldWithin{10'000};
constexpr Duration kCertificatesLook{60'000};

uint16_t local_port(int fd) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

// What connections inherit from it, they need not be told one by one.
void prepare_listener(int fd) {
  // A loop that another one outran to a connection must not wait in accept().
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  const int one = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  // Who connects to us speaks first: a loop is woken once, when there is something to read.
  ::setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &kSilentSeconds, sizeof kSilentSeconds);
}

}  // namespace

class Edge::Impl {
 public:
  Impl(Options options, Executor executor, Metrics& metrics)
      : options_(std::move(options)),
        executor_(executor),
        scope_(executor),
        report_soon_(std::make_shared<Event>(executor)),
        has_table_(executor),
        serves_(executor),
        book_(options_.loops, options_.zone),
        measurements_(metrics) {}

  ~Impl() { HOB_ASSERT(threads_.empty()); }

  Result<void> start() {
    HOB_ASSERT(options_.loops >= 1 && options_.loops <= kLoopsMax);
    if (options_.access_log) {
      HOB_ASSERT(options_.access_log_previous);
      AccessLogFiles files{.current = std::move(options_.access_log),
                           .previous = std::move(options_.access_log_previous)};
      access_log_ = std::make_unique<AccessLog>(std::move(files), options_.loops);
    }
    SystemRandom random;
    id_ = own_id(random);
    make_awake_controller();
    context_.loops = options_.loops;
    context_.access_log = access_log_.get();
    context_.times = options_.times;
    context_.give_back_memory = [executor = executor_] {
      boost::asio::post(executor, [] { ::malloc_trim(0); });
    };
    context_.on_drained = [executor = executor_, event = report_soon_] {
      boost::asio::post(executor, [event] { event->set(); });
    };
    context_.ask = [executor = executor_,
                    awake = std::weak_ptr(awake_)](std::shared_ptr<SharedPool> pool) {
      boost::asio::post(executor, [awake, pool = std::move(pool)] {
        if (const auto controller = awake.lock()) controller->asked(pool);
      });
    };
    context_.wake = [this](size_t loop, SharedService& service) {
      Worker& worker = *workers_[loop];
      worker.loop().post([&worker, id = service.id] { worker.wake_service(id); });
    };
    std::vector<uint16_t> ports;
    context_.tls_from = options_.http_listeners.size();
    std::vector<Fd>& listeners = options_.http_listeners;
    std::move(options_.https_listeners.begin(), options_.https_listeners.end(),
              std::back_inserter(listeners));
    for (const Fd& listener : listeners) {
      ports.push_back(local_port(listener.get()));
      prepare_listener(listener.get());
    }
    for (size_t i = 0; i < options_.loops; ++i) {
      HOB_TRY(std::unique_ptr<Loop> loop, Loop::make(options_.io));
      workers_.push_back(std::make_unique<Worker>(std::move(loop), i, context_, ports));
    }
    load_kept_table();
    if (speaks_tls()) {
      load_kept_certificates();
      certified_keys_ = read_certificates(options_.certificates);
      const auto kept = load_ticket_keys();
      tickets_ = ticket_keys_at(kept, random, SystemClock().now());
      if (tickets_ != kept) keep_ticket_keys(tickets_);
      use_certificates();
      scope_.spawn("edge certificates", [this] { return keep_certificates(); });
    }
    for (auto& worker : workers_) {
      for (size_t i = 0; i < listeners.size(); ++i) {
        worker->loop().listen(listeners[i].get(), *worker, i);
      }
    }
    if (options_.takes_over) {
      scope_.spawn("edge takes over", [this] { return take_over(); });
    } else {
      run_loops();
    }
    scope_.spawn("edge reports", [this] { return keep_measuring(); });
    scope_.spawn("edge awake", [this] { return awake_->run(); });
    if (host_link_ != nullptr) scope_.spawn("edge host", [this] { return host_link_->run(); });
    if (!options_.control_socket.empty()) scope_.spawn("edge link", [this] { return keep_link(); });
    return {};
  }

  Async<> serving() { co_await serves_.wait(); }

  Async<> hand_over() {
    handed_over_ = true;
    log::info("edge hands over", {{"connections", usage().connections}});
    post_drain(Draining::kHandOver);
    report_soon_->set();
    while (has_connections()) co_await sleep_for(kDrainPoll);
    if (!options_.control_socket.empty()) co_await tell_leaving(kLeavingToldWithin);
    log::info("edge has handed over");
  }

  Async<> stop(Duration grace) {
    post_drain(Draining::kStop);
    Duration left = grace;
    while (has_connections() && left > Duration(0)) {
      co_await sleep_for(kDrainPoll);
      left -= kDrainPoll;
    }
    for (auto& worker : workers_) worker->loop().post([&w = *worker] { w.abort_all(); });
    left = kCutOffWait;
    while ((usage().connections > 0 || usage().upstream_connections > 0) && left > Duration(0)) {
      co_await sleep_for(kDrainPoll);
      left -= kDrainPoll;
    }
    if (handed_over_ && session_ != nullptr) co_await tell_leaving(kCutOffWait);
    for (auto& worker : workers_) worker->loop().stop();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    scope_.cancel();
    if (session_ != nullptr) session_->close();
    if (host_link_ != nullptr) host_link_->close();
    co_await scope_.join();
    measure();
    access_log_.reset();
  }

  bool has_connections() const {
    // In this order: what was accepted last is counted before its loop says that it listens no
    // more.
    const bool listening =
        std::ranges::any_of(workers_, [](const auto& w) { return w->listening(); });
    return !threads_.empty() && (listening || usage().connections > 0);
  }

  void apply(const link::RouteTable& table) {
    if (table.version < version_) return;
    version_ = table.version;
    const std::shared_ptr<const Routes> routes = book_.compile(table);
    awake_->update(*routes, book_);
    has_table_.set();
    // Before the routes: who is told that a table is applied counts on its answers.
    if (table.challenges != challenges_) {
      challenges_ = table.challenges;
      const auto answers = AcmeAnswers::make(challenges_, speaks_tls());
      for (auto& worker : workers_)
        worker->loop().post([&w = *worker, answers] { w.set_acme(answers); });
    }
    for (auto& worker : workers_) {
      worker->loop().post([&w = *worker, routes] { w.apply(*routes); });
    }
  }

  // Whether others are shown now.
  bool apply(link::CertificateTable table) {
    certificates_version_ = table.version;
    table.certificates = keep_usable(std::move(table.certificates), told_certificates_);
    const bool changed = table.certificates != told_certificates_;
    if (changed) {
      told_certificates_ = std::move(table.certificates);
      made_certificates_.reset();
    }
    use_certificates();
    return changed;
  }

  Async<> reload_certificates() {
    std::vector<CertifiedKey> found = co_await on_pool(
        pool_, [directory = options_.certificates] { return read_certificates(directory); });
    SystemRandom random;
    const TicketKeys tickets = ticket_keys_at(tickets_, random, SystemClock().now());
    if (found == certified_keys_ && tickets == tickets_) co_return;
    // Who has handed over must not overwrite what its successor keeps.
    if (tickets != tickets_ && !handed_over_)
      co_await on_pool(pool_, [this, tickets] { keep_ticket_keys(tickets); });
    certified_keys_ = std::move(found);
    tickets_ = tickets;
    made_certificates_.reset();
    use_certificates();
  }

  link::EdgeReport report() {
    link::EdgeReport report{
        .applied_version = INT64_MAX, .leaving = handed_over_, .certificates_version = INT64_MAX};
    for (const auto& worker : workers_) {
      report.applied_version = std::min(report.applied_version, worker->applied_version());
      report.certificates_version =
          std::min(report.certificates_version, worker->certificates_version());
    }
    for (const auto& [key, target] : book_.targets()) {
      const int in_flight = target->in_flight();
      if (in_flight > 0 || target->draining.load(std::memory_order_relaxed)) {
        report.targets.push_back({.task = target->task, .in_flight = in_flight});
      }
    }
    std::set<std::string> short_of_targets;
    for (const auto& [key, pool] : book_.pools()) {
      if (pool->short_of_targets.load(std::memory_order_relaxed))
        short_of_targets.insert(key.first);
      if (pool->version.empty()) continue;
      const PoolSum sum = sum_of(*pool);
      const link::VersionLoad load{.service = key.first,
                                   .version = key.second,
                                   .requests_total = static_cast<int64_t>(sum.requests),
                                   .failures_total = static_cast<int64_t>(sum.failures)};
      int64_t& told = told_of_versions_[key];
      if (load.requests_total > told) report.versions.push_back(load);
      told = load.requests_total;
    }
    std::erase_if(told_of_versions_,
                  [&](const auto& entry) { return !book_.pools().contains(entry.first); });
    for (const auto& [id, service] : book_.services()) {
      const ServiceSum sum = sum_of(*service);
      link::ServiceLoad& told = told_[id];
      const bool was_short = told.short_of_targets;
      const int64_t total = static_cast<int64_t>(sum.requests());
      const bool is_short = short_of_targets.contains(id);
      const bool idle = sum.in_flight == 0 && sum.queued == 0 && total == told.requests_total;
      told = {.service = id,
              .in_flight = static_cast<int>(sum.in_flight),
              .queued = static_cast<int>(sum.queued),
              .requests_total = total,
              // A request that ended a turn ago is noticed now: what was counted on for it is less.
              .in_flight_us = std::max(told.in_flight_us, sum.in_flight_us),
              .service_us = static_cast<int64_t>(sum.service_us),
              .short_of_targets = is_short};
      if (!idle || is_short || was_short) report.services.push_back(told);
    }
    std::erase_if(told_,
                  [&](const auto& entry) { return !book_.services().contains(entry.first); });
    return report;
  }

  Usage usage() const {
    Usage usage;
    for (const auto& worker : workers_) {
      const WorkerCounts& counts = worker->counts();
      usage.queued_peak_bytes = std::max(usage.queued_peak_bytes, counts.queued_peak_bytes.value());
      usage.buffers += worker->loop().buffers_in_use();
      usage.connections += counts.connections.value();
      usage.upstream_connections += counts.upstream_connections.value();
      usage.upstream_opened += counts.upstream_opened.value();
      usage.upstream_reused += counts.upstream_reused.value();
    }
    return usage;
  }

  std::string io_name() const { return workers_.empty() ? "" : workers_.front()->loop().name(); }

 private:
  // Until control has been told, with no request in hand, that this edge will not be back: else it
  // would wait for that before it stops any task. `limit`: control may be away for longer.
  Async<> tell_leaving(Duration limit) {
    const auto told = [this]() -> Async<Result<void>> {
      for (;; co_await sleep_for(kDrainPoll)) {
        const std::shared_ptr<link::Session> session = session_;
        const link::EdgeReport last = report();
        const bool busy = std::ranges::any_of(
            last.targets, [](const link::TargetLoad& load) { return load.in_flight > 0; });
        if (session == nullptr || busy || !session->send(link::encode(last))) continue;
        if (co_await session->flush()) co_return Result<void>{};
      }
    };
    if (!co_await within(limit, told())) log::warn("control has not heard that this edge leaves");
  }

  std::string table_path() const { return options_.directory + "/routes.json"; }
  std::string certificates_path() const { return options_.directory + "/certificates.json"; }
  std::string ticket_keys_path() const { return options_.directory + "/ticket-keys.json"; }
  bool speaks_tls() const { return options_.http_listeners.size() > context_.tls_from; }

  void run_loops() {
    for (auto& worker : workers_) {
      threads_.emplace_back([&loop = worker->loop()] { loop.run(); });
      ::pthread_setname_np(threads_.back().native_handle(), "edge-loop");
    }
    log::info("edge serves", {{"io", io_name()},
                              {"loops", options_.loops},
                              {"listeners", options_.http_listeners.size()}});
    serves_.set();
  }

  // The kept table may be of a moment ago, when another edge was asked to leave a task alone: the
  // two together must not send it anything.
  Async<> take_over() {
    co_await has_table_.wait_for(kTableAwaited);
    run_loops();
  }

  void post_drain(Draining how) {
    for (auto& worker : workers_) worker->loop().post([&w = *worker, how] { w.drain(how); });
  }

  void use_certificates() {
    if (speaks_tls() && !made_certificates_) {
      made_certificates_ = Certificates::make(certified_keys_, told_certificates_, tickets_);
      const auto& made = *made_certificates_;
      log::info("edge has certificates", {{"count", made != nullptr ? made->size() : 0}});
    }
    for (auto& worker : workers_) {
      worker->loop().post([&w = *worker, made = made_certificates_.value_or(nullptr),
                           version = certificates_version_] { w.set_certificates(made, version); });
    }
  }

  Async<> keep_certificates() {
    for (;;) {
      co_await sleep_for(kCertificatesLook);
      co_await reload_certificates();
    }
  }

  void load_kept_table() {
    if (options_.directory.empty()) return;
    auto text = read_file(table_path(), kRouteTableBytesMax);
    if (!text) return;  // the first start
    auto table = link::decode_route_table(*text);
    if (!table) {
      // Control tells the whole again; until then there is nothing to serve.
      log::error("kept route table cannot be read",
                 {{"path", table_path()}, {"error", table.error().message}});
      return;
    }
    apply(*table);
    // Control's numbering may have begun anew; what it says next holds.
    version_ = -1;
    has_table_.reset();
  }

  void load_kept_certificates() {
    if (options_.directory.empty()) return;
    auto text = read_file(certificates_path(), kCertificateTableBytesMax);
    if (!text) return;  // control never told any
    auto table = link::decode_certificate_table(*text);
    if (table)
      told_certificates_ = std::move(table->certificates);
    else
      log::error("kept certificates cannot be read",
                 {{"path", certificates_path()}, {"error", table.error().message}});
  }

  // On the pool, as keep_table(). They hold keys: nobody else may read them.
  void keep_certificate_table(const link::CertificateTable& table) const {
    if (options_.directory.empty()) return;
    const auto kept = write_file_durably(certificates_path(), link::encode_json(table), 0600);
    if (!kept) log::error("certificates cannot be kept", {{"error", kept.error().message}});
  }

  std::optional<TicketKeys> load_ticket_keys() const {
    if (options_.directory.empty()) return std::nullopt;
    auto text = read_file(ticket_keys_path(), kTicketKeysBytesMax);
    if (!text) return std::nullopt;
    auto keys = decode_ticket_keys(*text);
    if (keys) return std::move(*keys);
    log::error("kept ticket keys cannot be read",
               {{"path", ticket_keys_path()}, {"error", keys.error().message}});
    return std::nullopt;
  }

  // Waits for the disk.
  void keep_ticket_keys(const TicketKeys& keys) const {
    if (options_.directory.empty()) return;
    const auto kept = write_file_durably(ticket_keys_path(), encode(keys), 0600);
    if (!kept) log::error("ticket keys cannot be kept", {{"error", kept.error().message}});
  }

  // On the pool: it waits for the disk.
  void keep_table(const link::RouteTable& table) const {
    if (options_.directory.empty()) return;
    const auto kept = write_file_durably(table_path(), link::encode_json(table), 0600);
    if (!kept) log::error("route table cannot be kept", {{"error", kept.error().message}});
  }

  // The same over restarts: control then knows that the edge it waits for is back, and not another
  // one.
  EdgeId own_id(Random& random) const {
    EdgeId id{random_hex(random, kIdDigits)};
    if (options_.directory.empty()) return id;
    const std::string path = options_.directory + "/id";
    const auto known = read_file(path, kIdDigits);
    if (!options_.takes_over && known && known->size() == kIdDigits) return {*known};
    if (const auto kept = write_file_durably(path, id.value, 0600); !kept)
      log::warn("the edge's id cannot be kept", {{"error", kept.error().message}});
    return id;
  }

  void make_awake_controller() {
    AwakeController::Calls calls;
    if (!options_.host_socket.empty()) {
      calls.tell_host = [this](const link::TargetHold& change) { host_link_->tell(change); };
    }
    calls.serve_queues = [this](SharedService& service) {
      const uint64_t waiting = service.waiting_loops.load(std::memory_order_seq_cst);
      for (size_t i = 0; i < options_.loops; ++i) {
        if ((waiting >> i & 1) != 0) context_.wake(i, service);
      }
    };
    calls.close_idle = [this](std::shared_ptr<SharedTarget> target) {
      for (auto& worker : workers_)
        worker->loop().post([&w = *worker, target] { w.close_idle(target.get()); });
    };
    calls.report_soon = [this] { report_soon_->set(); };
    awake_ = std::make_shared<AwakeController>(executor_, std::move(calls));
    if (options_.host_socket.empty()) return;
    host_link_ = std::make_unique<HostLink>(
        scope_, options_.host_socket,
        link::EdgeHello{.edge = id_, .zone = options_.zone, .version = options_.version},
        HostLink::Calls{
            .whole = [this] { return awake_->whole(); },
            .answered = [this](const link::TargetsAwake& answer) { awake_->answered(answer); }});
  }

  Async<> keep_link() {
    SystemRandom random;
    Backoff backoff{.min = Duration(50), .max = Duration(2'000)};
    for (;;) {
      auto session = co_await link::connect(scope_, options_.control_socket);
      if (session) {
        session_ = *session;
        version_ = -1;
        told_of_versions_.clear();  // a new control is told the whole first
        const link::EdgeHello hello{
            .edge = id_, .zone = options_.zone, .version = options_.version};
        if (session_->send(link::encode(hello))) co_await follow(backoff);
        session_->close();
        session_ = nullptr;
        log::warn("link to control ended; serving on with the last routes");
      }
      uint8_t byte = 0;
      random.fill(&byte, 1);
      co_await sleep_for(backoff.next(byte / 256.0));
    }
  }

  // Until the link ends.
  Async<> follow(Backoff& backoff) {
    const std::shared_ptr<link::Session> session = session_;
    link::CertificateTable certificates;
    for (;;) {
      auto message = co_await session->receive();
      if (!message) co_return;
      if (message->type == "CertificateTable") {
        link::CertificateTable part;
        if (auto decoded = link::decode(*message, part); !decoded) {
          log::error("certificates cannot be read", {{"error", decoded.error().message}});
          co_return;
        }
        if (!collect(std::move(part), certificates)) continue;
        const bool changed = apply(std::exchange(certificates, {}));
        report_soon_->set();
        if (changed && !handed_over_) {
          // What is shown, not what was told.
          const link::CertificateTable shown{.version = certificates_version_,
                                             .certificates = told_certificates_};
          co_await on_pool(pool_, [this, shown] { keep_certificate_table(shown); });
        }
        continue;
      }
      if (message->type != "RouteTable") continue;  // a newer control's
      link::RouteTable table;
      if (auto decoded = link::decode(*message, table); !decoded) {
        log::error("route table cannot be read", {{"error", decoded.error().message}});
        co_return;
      }
      apply(table);
      report_soon_->set();  // says that it is applied, as soon as it is
      backoff.reset();      // control is well: the next link may be tried at once
      // Who has handed over must not overwrite what its successor keeps.
      if (!handed_over_) co_await on_pool(pool_, [this, table] { keep_table(table); });
    }
  }

  // True: `whole` is. What is beyond kCertificatesMax is left out.
  static bool collect(link::CertificateTable part, link::CertificateTable& whole) {
    whole.version = part.version;
    for (link::EdgeCertificate& each : part.certificates) {
      if (whole.certificates.size() == kCertificatesMax) break;
      whole.certificates.push_back(std::move(each));
    }
    return !part.more;
  }

  Async<> keep_measuring() {
    for (;;) {
      const bool is_short = std::ranges::any_of(
          told_, [](const auto& entry) { return entry.second.short_of_targets; });
      const bool soon =
          co_await report_soon_->wait_for(is_short ? kReportIntervalShort : kReportInterval);
      report_soon_->reset();
      // Loops apply a table within a turn; give them that.
      if (soon) co_await sleep_for(Duration(2));
      measure();
      if (session_ != nullptr) {
        if (!session_->send(link::encode(report()))) session_->close();
      }
      if (soon) co_await sleep_for(kReportGap);
    }
  }

  void measure() {
    measurements_.update(book_, workers_);
    if (access_log_ != nullptr) measurements_.set_log_lines_dropped(access_log_->dropped());
  }

  Options options_;
  std::vector<CertifiedKey> certified_keys_;              // as they were last read
  std::vector<link::EdgeCertificate> told_certificates_;  // by control
  int64_t certificates_version_ = 0;
  std::optional<std::shared_ptr<const Certificates>>
      made_certificates_;                        // of these; absent: not yet
  std::vector<link::AcmeChallenge> challenges_;  // of the last table
  TicketKeys tickets_;
  Executor executor_;
  BlockingPool pool_{1};
  AsyncScope scope_;
  std::shared_ptr<Event> report_soon_;
  Event has_table_;  // a newer one than the kept one
  Event serves_;
  RouteBook book_;
  Measurements measurements_;
  WorkerContext context_;
  std::unique_ptr<AccessLog> access_log_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::thread> threads_;
  std::shared_ptr<link::Session> session_;
  std::map<std::string, link::ServiceLoad> told_;           // by service
  std::map<RouteBook::PoolKey, int64_t> told_of_versions_;  // requests_total
  EdgeId id_{};
  std::shared_ptr<AwakeController> awake_;
  std::unique_ptr<HostLink> host_link_;
  int64_t version_ = -1;
  bool handed_over_ = false;
};

Edge::Edge(Options options, Executor executor, Metrics& metrics)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(executor), metrics)) {}
Edge::~Edge() = default;
Result<void> Edge::start() { return impl_->start(); }
Async<> Edge::serving() { return impl_->serving(); }
Async<> Edge::hand_over() { return impl_->hand_over(); }
Async<> Edge::stop(Duration grace) { return impl_->stop(grace); }
void Edge::apply(const link::RouteTable& table) { impl_->apply(table); }
void Edge::apply(link::CertificateTable table) { impl_->apply(std::move(table)); }
Async<> Edge::reload_certificates() { return impl_->reload_certificates(); }
link::EdgeReport Edge::report() { return impl_->report(); }
std::string Edge::io_name() const { return impl_->io_name(); }
Edge::Usage Edge::usage() const { return impl_->usage(); }

}  // namespace hob::edge
