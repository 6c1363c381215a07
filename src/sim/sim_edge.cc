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
constexpr Duration kHostRetry{50};

constexpr size_t kLoopsMax = 2;

edge::LoopTime loop_time() {
  const auto now = static_cast<uint64_t>(virtual_time::now_us());
  return {.us = now, .ms = now / 1'000};
}
}  // namespace

SimEdge::SimEdge(const Executor& executor, SeededRandom& random, EdgeId id, EdgeDisk& disk,
                 int64_t unlinked_since_us, EdgePorts ports)
    : executor_(executor),
      random_(random),
      id_(std::move(id)),
      disk_(disk),
      ports_(std::move(ports)),
      book_(1 + static_cast<size_t>(random.below(kLoopsMax))),
      unlinked_since_us_(unlinked_since_us),
      report_soon_(executor),
      scope_(executor) {
  awake_ = std::make_shared<edge::AwakeController>(
      executor_,
      edge::AwakeController::Calls{
          .tell_host = [this](const link::TargetHold& change) { tell_hosts(change); },
          .serve_queues = [this](edge::SharedService& service) { serve_queues(service.id); },
          .close_idle = [](std::shared_ptr<edge::SharedTarget>) {},
          .report_soon = [this] { report_soon_.set(); }});
  for (size_t i = 0; i < book_.loops(); ++i) loops_.push_back(make_loop(i, book_.loops()));
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
  link::RouteTable applied = table;
  if (overfills_) {
    for (link::Route& route : applied.routes) ++route.max_concurrency;
  }
  const auto routes = book_.compile(applied);
  awake_->update(*routes, book_);
  for (const auto& loop : loops_) loop->apply(*routes, loop_time());
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

// ---- requests ----

std::unique_ptr<edge::Queues> SimEdge::make_loop(size_t index, size_t loops) {
  const auto tell = [](edge::QueuedRequest& request, edge::Turn turn) {
    auto& mine = static_cast<Request&>(request);
    mine.turn = turn;
    mine.told.set();
  };
  edge::Queues::Calls calls{
      .given = [tell](edge::QueuedRequest& of) { tell(of, edge::Turn::kGiven); },
      .waits = [tell](edge::QueuedRequest& of) { tell(of, edge::Turn::kWaits); },
      .refused = tell,
      .unlisted = [](edge::Target&) {},
      .look_again = [this](const std::string& id) { serve_queues(id); },
      .wake = [this](size_t, edge::SharedService& service) { serve_queues(service.id); },
      .ask =
          [this](std::shared_ptr<edge::SharedPool> pool) {
            boost::asio::post(executor_, [awake = std::weak_ptr(awake_), pool] {
              if (const auto controller = awake.lock()) controller->asked(pool);
            });
          },
      .drained = [this] { report_soon_.set(); }};
  return std::make_unique<edge::Queues>(
      edge::Queues::Options{
          .loop = index, .loops = loops, .random = {random_.bits(), random_.bits()}},
      std::move(calls));
}

void SimEdge::serve_queues(const std::string& service) {
  boost::asio::post(executor_, [this, alive = std::weak_ptr(awake_), service] {
    if (!alive.lock()) return;
    for (const auto& loop : loops_) loop->wake_service(service, loop_time());
  });
}

void SimEdge::send(Ask ask, std::function<void(Visit)> done) {
  scope_.spawn("visit", [this, ask, done]() -> Async<> { done(co_await visit(ask)); });
}

Async<Visit> SimEdge::visit(Ask ask) {
  edge::Queues& queues = *loops_[static_cast<size_t>(random_.bits() % loops_.size())];
  const edge::Destination* way = queues.find(ask.host_name);
  if (way == nullptr) co_return Visit::kUnknownHost;
  Request request(executor_);
  request.service_ = way->service;
  if (way->pool) request.pin(way->pool);
  const bool sticky = way->service->sticky;
  if (sticky && ask.cookie->until_us > virtual_time::now_us())
    queues.recall(request, *way, {.version = ask.cookie->version, .target = ask.cookie->target});
  request.own = request.sticky_;
  if (strays_) request.sticky_ = nullptr;
  request.began_ms = loop_time().ms;
  request.limit = way->service->route.max_concurrency;
  queues.begin(request, loop_time());
  ++in_flight_;
  // As Exchange::finish(), however it ends.
  struct End {
    SimEdge& edge;
    edge::Queues& queues;
    Request& request;
    uint64_t began_us;
    bool answered = false;
    ~End() {
      const edge::LoopTime now = loop_time();
      queues.stop_waiting(request, now);
      queues.release(request);
      request.leave_pool(now);
      edge::ServiceCounts& counts = *request.service_->counts;
      counts.by_class[answered ? 2 : 5].add();
      counts.service_us.add(now.us - began_us - request.queued_us_);
      counts.in_flight.end(now.us);
      --edge.in_flight_;
    }
  } end{*this, queues, request, loop_time().us};
  const Visit visit = co_await serve(queues, request, ask);
  end.answered = visit == Visit::kAnswered;
  co_return visit;
}

Async<edge::Turn> SimEdge::placed(edge::Queues& queues, Request& request, edge::Turn turn) {
  while (turn == edge::Turn::kWaits) {
    const uint64_t due = queues.due(request), now = loop_time().ms;
    if (due > now) (void)co_await request.told.wait_for(Duration(static_cast<int64_t>(due - now)));
    request.told.reset();
    const auto told = std::exchange(request.turn, std::nullopt);
    turn = told ? *told : queues.look(request, loop_time());
  }
  co_return turn;
}

// It would have had a place.
void SimEdge::check_waited(const Request& request) const {
  if (request.pool_ == nullptr || std::ranges::count(request.failed_, nullptr) != 3) return;
  std::vector<EdgePorts::Place> places;
  for (const auto& target : request.pool_->targets)
    places.push_back({target->shared, target->ejection.ejected(loop_time().ms)});
  // The limit may have changed while it waited.
  ports_.waited_in_vain(places, std::min(request.limit, request.service_->route.max_concurrency));
}

void SimEdge::check_own(const Request& request) const {
  const std::shared_ptr<edge::Target>& own = request.own;
  // Who rested was refused by its own, and has all before it again.
  if (own == nullptr || own == request.target_ || request.fail_open_ ||
      request.rests_since_ms_ != 0)
    return;
  const auto& targets = request.pool_->targets;
  const bool usable = std::ranges::find(targets, own) != targets.end() &&
                      own->ejection.until < request.began_ms && !request.has_failed(*own);
  if (usable) ports_.strayed(own->shared->task, request.target_->shared->task);
}

Async<Visit> SimEdge::serve(edge::Queues& queues, Request& request, const Ask& ask) {
  edge::Turn turn = queues.dispatch(request, loop_time());
  for (;;) {
    turn = co_await placed(queues, request, turn);
    if (turn == edge::Turn::kNoTarget) check_waited(request);
    if (turn == edge::Turn::kPaused) co_return Visit::kPaused;
    if (turn == edge::Turn::kConnectFailed) co_return Visit::kFailed;
    if (turn != edge::Turn::kGiven) co_return Visit::kNoTarget;
    check_own(request);
    char address[INET_ADDRSTRLEN] = {};
    ::inet_ntop(AF_INET, &request.target_->shared->address.sin_addr, address, sizeof address);
    const Served served =
        co_await ports_.request(request.target_->shared->task, address, ask.service_time);
    if (served == Served::kAnswered) break;
    if (served == Served::kRefused) {
      turn = queues.connect_failed(request, false, loop_time());
      continue;
    }
    request.unanswered_ = true;
    queues.gateway_failed(request, loop_time());
    if (!queues.lost(request, ask.idempotent, loop_time())) co_return Visit::kFailed;
    request.count_retry();
    turn = queues.dispatch(request, loop_time());
  }
  queues.answered(request);
  queues.ended_well(request);
  if (const auto seconds = static_cast<int64_t>(request.pool_->settings.sticky_seconds)) {
    *ask.cookie = {.version = request.pool_->shared->token,
                   .target = request.target_->shared->token,
                   .until_us = virtual_time::now_us() + seconds * 1'000'000};
  }
  co_return Visit::kAnswered;
}

}  // namespace hob::sim
