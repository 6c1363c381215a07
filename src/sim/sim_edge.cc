#include "sim/sim_edge.h"

#include <arpa/inet.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <set>

#include "edge/limits.h"
#include "edge/measurements.h"
#include "sim/virtual_time.h"

namespace hob::sim {

namespace {
constexpr Duration kReportInterval{1'000};  // as edge.cc's
constexpr Duration kReportGap{10};
constexpr Duration kRest{100};  // before a request that every target refused tries again
constexpr Duration kHostRetry{50};
constexpr Duration kFailover{1'000};

uint64_t now_ms() { return static_cast<uint64_t>(virtual_time::now_us()) / 1000; }
}  // namespace

SimEdge::SimEdge(const Executor& executor, SeededRandom& random, EdgeId id, EdgeDisk& disk,
                 int64_t unlinked_since_us, EdgePorts ports)
    : executor_(executor),
      random_(random),
      id_(std::move(id)),
      disk_(disk),
      ports_(std::move(ports)),
      unlinked_since_us_(unlinked_since_us),
      report_soon_(executor),
      scope_(executor) {
  awake_ = std::make_shared<edge::AwakeController>(
      executor_, edge::AwakeController::Calls{
                     .tell_host = [this](const link::TargetHold& change) { tell_hosts(change); },
                     .serve_queues =
                         [this](edge::SharedService& service) {
                           boost::asio::post(
                               executor_, [this, alive = std::weak_ptr(awake_), id = service.id] {
                                 if (alive.lock()) serve_waiting(id);
                               });
                         },
                     .close_idle = [](std::shared_ptr<edge::SharedTarget>) {},
                     .report_soon = [this] { report_soon_.set(); }});
  if (disk_.table) {
    apply(*disk_.table);
    version_ = -1;
  }
}

void SimEdge::start() {
  scope_.spawn("edge link", [this] { return keep_link(); });
  scope_.spawn("edge reports", [this] { return keep_reporting(); });
  scope_.spawn("edge awake", [this] { return awake_->run(); });
  for (const std::string& host : ports_.hosts)
    scope_.spawn("edge host", [this, host] { return keep_host_link(host); });
}

Async<> SimEdge::stop() {
  if (session_) session_->close();
  for (auto& [host, link] : host_links_) {
    if (link.session) link.session->close();
  }
  scope_.cancel();
  co_await scope_.join();
  awake_.reset();
}

bool SimEdge::holds_link_to(const std::string& host) const {
  const auto found = host_links_.find(host);
  return found != host_links_.end() && found->second.session != nullptr;
}

int64_t SimEdge::host_linked_since_us(const std::string& host) const {
  return holds_link_to(host) ? host_links_.at(host).since_us : virtual_time::now_us();
}

void SimEdge::apply(const link::RouteTable& table) {
  if (table.version < version_) return;
  version_ = table.version;
  table_ = table;
  const auto routes = book_.compile(table);
  awake_->update(*routes, book_);
  std::map<std::string, std::shared_ptr<Service>> services;
  std::vector<std::shared_ptr<Pool>> before;
  for (const auto& [id, service] : services_)
    before.insert(before.end(), service->pools.begin(), service->pools.end());
  for (const auto& pool : before) pool->listed = false;
  by_host_.clear();
  for (const edge::ServiceRoute& route : routes->services) {
    auto& service = services[route.service->id];
    service = std::make_shared<Service>();
    service->route = route;
    for (const std::string& host : route.host_names) by_host_[host] = {.service = service};
    for (const edge::PoolRoute& each : route.pools) {
      const auto known = std::ranges::find_if(
          before, [&](const auto& pool) { return pool->route.pool == each.pool; });
      const auto pool = known == before.end() ? std::make_shared<Pool>() : *known;
      pool->route = each;
      pool->service = service;
      pool->listed = true;
      service->pools.push_back(pool);
      for (const std::string& host : each.host_names)
        by_host_[host] = {.service = service, .pool = pool};
    }
  }
  services_ = std::move(services);
  // Whose version is gone gets another's target.
  for (const auto& pool : before) {
    if (pool->listed) continue;
    for (const auto& waiter : pool->waiting) waiter->placed.set();
  }
  for (auto& [id, service] : services_) serve_waiting(id);
}

Async<> SimEdge::keep_link() {
  Backoff backoff{.min = Duration(50), .max = Duration(2'000)};
  for (;;) {
    auto connected = co_await ports_.control();
    if (connected) {
      session_ = *connected;
      version_ = -1;
      const std::shared_ptr<link::Session> session = session_;
      if (session->send(link::encode(link::EdgeHello{.edge = id_, .zone = "z", .version = "1"}))) {
        for (;;) {
          const auto message = co_await session->receive();
          if (!message) break;
          link::RouteTable table;
          if (message->type != "RouteTable") continue;  // it shows no certificates
          if (!link::decode(*message, table)) break;
          said_version_ = table.version;
          if (lies_) {
            report_soon_.set();
            co_await sleep_for(Duration(5'000));
          }
          apply(table);
          report_soon_.set();
          backoff.reset();
          disk_.table = table;
        }
      }
      session->close();
      session_ = nullptr;
      unlinked_since_us_ = virtual_time::now_us();
    }
    co_await sleep_for(backoff.next(random_.below(1000) / 1000.0));
  }
}

link::TargetHold SimEdge::part_of(const link::TargetHold& whole, const std::string& host) const {
  link::TargetHold part;
  for (const TaskId& task : whole.hold) {
    if (ports_.host_of(task) == host) part.hold.push_back(task);
  }
  for (const TaskId& task : whole.release) {
    if (ports_.host_of(task) == host) part.release.push_back(task);
  }
  return part;
}

void SimEdge::tell_hosts(const link::TargetHold& change) {
  for (auto& [host, link] : host_links_) {
    if (!link.session) continue;
    const link::TargetHold part = part_of(change, host);
    if (part.hold.empty() && part.release.empty()) continue;
    if (!link.session->send(link::encode(part))) link.session->close();
  }
}

Async<> SimEdge::keep_host_link(std::string host) {
  for (;;) {
    auto connected = co_await ports_.host(host);
    if (connected) {
      const std::shared_ptr<link::Session> session = *connected;
      const bool sent =
          session->send(link::encode(link::EdgeHello{.edge = id_, .zone = "z", .version = "1"})) &&
          session->send(link::encode(part_of(awake_->whole(), host)));
      if (sent) {
        host_links_[host] = {.session = session, .since_us = virtual_time::now_us()};
        for (;;) {
          const auto message = co_await session->receive();
          link::TargetsAwake answer;
          if (!message || !link::decode(*message, answer)) break;
          if (!forgets_answers_) awake_->answered(answer);
        }
        host_links_[host].session = nullptr;
      }
      session->close();
    }
    co_await sleep_for(kHostRetry);
  }
}

link::EdgeReport SimEdge::report() {
  link::EdgeReport report{.applied_version = lies_ ? said_version_ : table_.version};
  for (const auto& [key, target] : book_.targets()) {
    const int in_flight = target->in_flight();
    if (in_flight > 0 || target->draining.load())
      report.targets.push_back({.task = target->task, .in_flight = in_flight});
  }
  std::set<std::string> short_of_targets;
  for (const auto& [key, pool] : book_.pools()) {
    if (pool->short_of_targets.load()) short_of_targets.insert(key.first);
    if (pool->version.empty()) continue;
    const edge::PoolSum sum = edge::sum_of(*pool);
    int64_t& told = told_of_versions_[key];
    if (static_cast<int64_t>(sum.requests) > told) {
      report.versions.push_back({.service = key.first,
                                 .version = key.second,
                                 .requests_total = static_cast<int64_t>(sum.requests),
                                 .failures_total = static_cast<int64_t>(sum.failures)});
    }
    told = static_cast<int64_t>(sum.requests);
  }
  std::erase_if(told_of_versions_,
                [&](const auto& entry) { return !book_.pools().contains(entry.first); });
  for (const auto& [id, service] : book_.services()) {
    const edge::ServiceSum sum = edge::sum_of(*service);
    link::ServiceLoad& told = told_[id];
    const bool was_short = told.short_of_targets;
    const int64_t total = static_cast<int64_t>(sum.requests());
    const bool is_short = short_of_targets.contains(id);
    const bool idle = sum.in_flight == 0 && sum.queued == 0 && total == told.requests_total;
    told = {.service = id,
            .in_flight = static_cast<int>(sum.in_flight),
            .queued = static_cast<int>(sum.queued),
            .requests_total = total,
            .in_flight_us = std::max(told.in_flight_us, sum.in_flight_us),
            .service_us = static_cast<int64_t>(sum.service_us),
            .short_of_targets = is_short};
    if (!idle || is_short || was_short) report.services.push_back(told);
  }
  std::erase_if(told_, [&](const auto& entry) { return !book_.services().contains(entry.first); });
  return report;
}

Async<> SimEdge::keep_reporting() {
  for (;;) {
    const bool soon = co_await report_soon_.wait_for(kReportInterval);
    report_soon_.reset();
    if (session_ && !session_->send(link::encode(report()))) session_->close();
    if (soon) co_await sleep_for(kReportGap);
  }
}

// ---- requests, as worker.cc and exchange.cc decide ----

void SimEdge::ask(Pool& pool) {
  if (pool.route.pool->asked.exchange(true)) return;
  boost::asio::post(executor_, [awake = std::weak_ptr(awake_), shared = pool.route.pool] {
    if (const auto controller = awake.lock()) controller->asked(shared);
  });
}

std::shared_ptr<SimEdge::Pool> SimEdge::choose(const Service& service) {
  uint64_t sum = 0;
  for (const auto& pool : service.pools) sum += static_cast<uint64_t>(pool->route.share);
  if (sum == 0) return service.pools.front();
  return service.pools[edge::pick_version(service.pools.size(), sum, random_.bits(),
                                          [&](size_t i) { return service.pools[i]->route.share; })];
}

std::shared_ptr<edge::SharedTarget> SimEdge::try_target(
    const Service& service, Pool& pool, const std::vector<edge::SharedTarget*>& failed,
    bool fail_open) {
  const auto& targets = pool.route.targets;
  const auto view = [&](size_t i) {
    const int load = targets[i]->load.load();
    return edge::TargetView{
        .in_flight = load,
        .ejected = pool.ejections[targets[i]->task.value].ejected(now_ms()),
        .excluded = std::ranges::find(failed, targets[i].get()) != failed.end() ||
                    (fail_open && load >= edge::SharedTarget::kClosed)};
  };
  const auto picked = edge::pick_target(targets.size(), pool.route.near,
                                        service.route.max_concurrency, random_.bits(), view);
  if (!picked) return nullptr;
  const std::shared_ptr<edge::SharedTarget> target = targets[*picked];
  const int before = target->load.fetch_add(1);
  if (before + 1 >= pool.route.pool->signal_at.load()) ask(pool);
  return target;
}

void SimEdge::set_waiting_bit(Service& service) {
  const bool waits =
      std::ranges::any_of(service.pools, [](const auto& pool) { return !pool->waiting.empty(); });
  service.route.service->waiting_loops.store(waits ? 1 : 0);
}

Async<std::shared_ptr<edge::SharedTarget>> SimEdge::place(std::shared_ptr<Service> service,
                                                          std::shared_ptr<Pool> pool,
                                                          std::vector<edge::SharedTarget*> failed) {
  if (pool->waiting.empty()) {
    if (auto target = try_target(*service, *pool, failed, false)) co_return target;
  }
  const auto waiter = std::make_shared<Waiter>(executor_);
  waiter->failed = std::move(failed);
  pool->waiting.push_back(waiter);
  service->counts().queued.add();
  pool->counts().queued.add();
  set_waiting_bit(*service);
  if (!pool->route.pool->short_of_targets.load()) ask(*pool);
  const Duration limit{static_cast<int64_t>(service->route.queue_timeout_ms)};
  // A place that is free and passed over, since it failed lately, is better than none.
  bool placed = co_await waiter->placed.wait_for(std::min(limit, kFailover));
  if (!placed && limit > kFailover) {
    waiter->fail_open = true;
    waiter->target = try_target(*service, *pool, waiter->failed, true);
    placed = waiter->target || co_await waiter->placed.wait_for(limit - kFailover);
  }
  std::erase(pool->waiting, waiter);
  service->counts().queued.subtract();
  pool->counts().queued.subtract();
  set_waiting_bit(*service);
  if (pool->waiting.empty() && pool->route.pool->short_of_targets.load()) ask(*pool);
  serve_waiting(*service, *pool);  // who stood behind may have another's patience
  if (!placed && waiter->failed.empty()) {
    // Which may have changed while this one waited.
    const std::shared_ptr<Service> now_of = pool->service.lock();
    const int limit_now = (now_of ? now_of : service)->route.max_concurrency;
    std::vector<EdgePorts::Place> places;
    for (const auto& target : pool->route.targets)
      places.push_back({target, pool->ejections[target->task.value].ejected(now_ms())});
    ports_.waited_in_vain(places, std::min(limit_now, service->route.max_concurrency));
  }
  co_return waiter->target;
}

void SimEdge::serve_waiting(const std::string& id) {
  const auto found = services_.find(id);
  if (found == services_.end()) return;
  const std::shared_ptr<Service> service = found->second;
  for (const auto& pool : service->pools) serve_waiting(*service, *pool);
}

void SimEdge::serve_waiting(const Service& service, Pool& pool) {
  while (!pool.waiting.empty()) {
    const auto waiter = pool.waiting.front();
    waiter->target = try_target(service, pool, waiter->failed, waiter->fail_open);
    if (!waiter->target) return;
    pool.waiting.pop_front();
    waiter->placed.set();
  }
}

void SimEdge::release(const Service& service, Pool& pool, edge::SharedTarget& target) {
  const int before = target.load.fetch_sub(1);
  if ((before & (edge::SharedTarget::kClosed - 1)) == 1) {
    if (target.draining.load()) report_soon_.set();
    if (before >= edge::SharedTarget::kClosed) ask(pool);
  }
  serve_waiting(service, pool);
}

void SimEdge::gateway_failed(Pool& pool, edge::SharedTarget& target) {
  target.failing.store(true);
  if (pool.route.awake_min >= 0) ask(pool);
  size_t ejected = 0;
  for (const auto& other : pool.route.targets) {
    if (other.get() != &target && pool.ejections[other->task.value].ejected(now_ms())) ++ejected;
  }
  (void)pool.ejections[target.task.value].failed(now_ms(), ejected, pool.route.targets.size());
}

void SimEdge::send(std::string host_name, Duration service_time, std::function<void(Visit)> done) {
  scope_.spawn("visit", [this, host_name, service_time, done]() -> Async<> {
    done(co_await visit(host_name, service_time));
  });
}

Async<Visit> SimEdge::visit(std::string host_name, Duration service_time) {
  const auto found = by_host_.find(host_name);
  if (found == by_host_.end()) co_return Visit::kUnknownHost;
  const std::shared_ptr<Service> service = found->second.service;
  if (service->route.state == link::RouteState::kPaused) co_return Visit::kPaused;
  std::shared_ptr<Pool> pool = found->second.pool ? found->second.pool : choose(*service);
  service->counts().in_flight.begin(static_cast<uint64_t>(virtual_time::now_us()));
  ++in_flight_;
  struct Leave {
    int& count;
    ~Leave() { --count; }
  } const leave{in_flight_};
  const int64_t sent_us = virtual_time::now_us();
  const Visit visit = co_await serve(service, pool, service_time);
  const int64_t now = virtual_time::now_us();
  edge::ServiceCounts& counts = service->counts();
  counts.by_class[visit == Visit::kAnswered ? 2 : 5].add();
  if (visit == Visit::kAnswered) counts.service_us.add(static_cast<uint64_t>(now - sent_us));
  counts.in_flight.end(static_cast<uint64_t>(now));
  co_return visit;
}

Async<Visit> SimEdge::serve(std::shared_ptr<Service> service, std::shared_ptr<Pool> pool,
                            Duration service_time) {
  const int64_t give_up_us =
      virtual_time::now_us() + static_cast<int64_t>(service->route.queue_timeout_ms) * 1000;
  std::vector<edge::SharedTarget*> failed;
  for (;;) {
    if (!pool->listed) {
      const auto other = services_.find(service->route.service->id);
      if (other == services_.end()) co_return Visit::kNoTarget;
      service = other->second;
      pool = choose(*service);
      failed.clear();
    }
    pool->counts().in_flight.begin(static_cast<uint64_t>(virtual_time::now_us()));
    const auto target = co_await place(service, pool, failed);
    const std::shared_ptr<Service> now_of = pool->service.lock();
    if (now_of) service = now_of;
    if (!target) {
      pool->counts().in_flight.end(static_cast<uint64_t>(virtual_time::now_us()));
      if (!pool->listed && virtual_time::now_us() < give_up_us) continue;
      co_return Visit::kNoTarget;
    }
    char address[INET_ADDRSTRLEN] = {};
    ::inet_ntop(AF_INET, &target->address.sin_addr, address, sizeof address);
    const Served served = co_await ports_.request(target->task, address, service_time);
    pool->counts().in_flight.end(static_cast<uint64_t>(virtual_time::now_us()));
    release(*service, *pool, *target);
    if (served != Served::kRefused) {
      pool->counts().requests.add();
      if (served == Served::kCut) pool->counts().failures.add();
    }
    if (served == Served::kAnswered) {
      target->failing.store(false);
      pool->ejections[target->task.value].succeeded();
      co_return Visit::kAnswered;
    }
    gateway_failed(*pool, *target);
    if (served == Served::kCut) co_return Visit::kFailed;
    failed.push_back(target.get());
    const bool untried = std::ranges::any_of(pool->route.targets, [&](const auto& other) {
      return !other->closed() && std::ranges::find(failed, other.get()) == failed.end();
    });
    if (untried && failed.size() <= edge::kConnectRetriesMax) continue;
    if (virtual_time::now_us() >= give_up_us) co_return Visit::kFailed;
    co_await sleep_for(kRest);
    failed.clear();
  }
}

}  // namespace hob::sim
