#include "host/hold_server.h"

#include <algorithm>

#include "base/log.h"
#include "host/agent.h"

namespace hob::host {

namespace {
constexpr size_t kEdgeIdBytesMax = 64;
constexpr const char* kBucketName = "hob_host_wake_duration_seconds_bucket";
constexpr const char* kBucketHelp = "An edge's hold received to the frozen task running.";
}  // namespace

HoldServer::HoldServer(Agent& agent, Metrics& metrics)
    : agent_(agent),
      holds_(metrics.counter("hob_host_holds_total", "Tasks that edges asked to be awake.")),
      wakes_(metrics.counter("hob_host_wakes_total", "Times a frozen task was woken for an edge.")),
      wake_microseconds_(metrics.counter("hob_host_wake_duration_microseconds_total",
                                         "The sum of what the histogram counts.")),
      wake_bucket_rest_(metrics.counter(kBucketName, kBucketHelp, {{"le", "+Inf"}})),
      wake_count_(metrics.counter("hob_host_wake_duration_seconds_count", "Holds measured.")) {
  for (size_t i = 0; i < kWakeBuckets.size(); ++i) {
    wake_buckets_[i] =
        &metrics.counter(kBucketName, kBucketHelp, {{"le", fmt::format("{}", kWakeBuckets[i])}});
  }
  metrics.gauge("hob_host_edges", "Edges with a link to this host.",
                [gauge = edges_gauge_] { return static_cast<double>(gauge->load()); });
  metrics.gauge("hob_host_edges_limit", "The most edges this host serves.",
                [] { return static_cast<double>(kEdgesMax); });
}

HoldServer::~HoldServer() { HOB_ASSERT(!listener_); }

void HoldServer::start(Fd listener, std::set<uid_t> uids) {
  listener_ = std::make_unique<link::Listener>(
      agent_.executor_, std::move(listener), std::move(uids),
      [this](std::shared_ptr<link::Session> session) { return serve(std::move(session)); });
  listener_->start();
}

Async<> HoldServer::stop() {
  if (!listener_) co_return;
  co_await listener_->stop();
  listener_.reset();
  edges_.clear();
}

Async<> HoldServer::serve(std::shared_ptr<link::Session> session) {
  const Result<link::Message> first = co_await within(kEdgeHelloWithin, session->receive());
  if (!first) co_return;
  link::EdgeHello hello;
  if (const Result<void> understood = link::decode(*first, hello); !understood) {
    log::warn("link refused: it does not begin as an edge's",
              {{"error", understood.error().message}});
    co_return;
  }
  if (!join(hello.edge, session)) co_return;
  for (;;) {
    const Result<link::Message> message = co_await session->receive();
    if (!message) break;
    if (const Result<void> taken = take(hello.edge, *message); !taken) {
      // It may have been a hold: the edge asks again for all of them.
      log::error(
          "message from an edge refused",
          {{"edge", hello.edge.value}, {"type", message->type}, {"error", taken.error().message}});
      break;
    }
  }
  leave(hello.edge, session.get());
}

bool HoldServer::join(const EdgeId& id, const std::shared_ptr<link::Session>& session) {
  if (id.value.empty() || id.value.size() > kEdgeIdBytesMax) {
    log::warn("link refused: an edge without a name");
    return false;
  }
  if (!edges_.contains(id) && edges_.size() >= kEdgesMax) {
    log::warn("link refused: too many edges", {{"edges", edges_.size()}});
    return false;
  }
  Edge& edge = edges_[id];
  // It knows better than we which of its links is the living one.
  if (edge.session) edge.session->close();
  edge = {.session = session};
  *edges_gauge_ = static_cast<int>(edges_.size());
  for (auto& [task, actor] : agent_.tasks_) actor->edge_back(id);
  log::info("edge linked", {{"edge", id.value}});
  return true;
}

void HoldServer::leave(const EdgeId& id, const link::Session* session) {
  const auto found = edges_.find(id);
  if (found == edges_.end() || found->second.session.get() != session) return;  // a newer one's
  edges_.erase(found);
  *edges_gauge_ = static_cast<int>(edges_.size());
  for (auto& [task, actor] : agent_.tasks_) actor->edge_gone(id);
  log::warn("link to an edge lost; what it holds stays awake for a while", {{"edge", id.value}});
}

Result<void> HoldServer::take(const EdgeId& id, const link::Message& message) {
  const auto found = edges_.find(id);
  if (found == edges_.end() || message.type != "TargetHold") {
    log::debug("message from an edge ignored", {{"type", message.type}});
    return {};
  }
  if (message.body.size() > kHoldBytesMax)
    return fail(Code::kLimit, "a TargetHold of {} bytes", message.body.size());
  link::TargetHold said;
  HOB_CHECK(link::decode(message, said));
  if (said.hold.size() + said.release.size() > kTargetsNamedMax)
    return fail(Code::kLimit, "a TargetHold of {} tasks", said.hold.size() + said.release.size());

  Edge& edge = found->second;
  if (!std::exchange(edge.named_all, true)) release_unnamed(id, said);
  for (const TaskId& task : said.release) {
    edge.waiting.erase(task);
    if (const auto known = agent_.tasks_.find(task); known != agent_.tasks_.end())
      known->second->release(id);
  }
  const SteadyTime now = std::chrono::steady_clock::now();
  link::TargetsAwake answer;
  for (const TaskId& task : said.hold) {
    const auto known = agent_.tasks_.find(task);
    const Wakefulness is =
        known == agent_.tasks_.end() ? Wakefulness::kGone : known->second->wakefulness();
    if (is == Wakefulness::kGone) {
      answer.unknown.push_back(task);
      continue;
    }
    known->second->hold(id);
    if (is == Wakefulness::kAwake)
      answer.awake.push_back(task);
    else
      edge.waiting.try_emplace(task,
                               Hold{.since = now, .wakes = known->second->view().sleep.frozen});
  }
  holds_.add(said.hold.size());
  // A link that has ended is seen by its reader.
  if (!answer.awake.empty() || !answer.unknown.empty())
    static_cast<void>(edge.session->send(link::encode(answer)));
  return {};
}

void HoldServer::release_unnamed(const EdgeId& id, const link::TargetHold& whole) {
  const std::set<TaskId> named(whole.hold.begin(), whole.hold.end());
  for (auto& [task, actor] : agent_.tasks_) {
    if (actor->knows_edge(id) && !named.contains(task)) actor->release(id);
  }
}

void HoldServer::tell(const TaskId& task, Wakefulness wakefulness) {
  if (wakefulness == Wakefulness::kComing) return;
  const bool awake = wakefulness == Wakefulness::kAwake;
  bool woken = false;
  for (auto& [id, edge] : edges_) {
    const auto waiting = edge.waiting.extract(task);
    if (!waiting) continue;
    link::TargetsAwake answer;
    (awake ? answer.awake : answer.unknown).push_back(task);
    static_cast<void>(edge.session->send(link::encode(answer)));
    if (!awake || !waiting.mapped().wakes) continue;
    woken = true;
    measure(waiting.mapped().since);
  }
  if (woken) wakes_.add();
}

void HoldServer::measure(SteadyTime since) {
  const auto took = std::chrono::steady_clock::now() - since;
  const double seconds = std::chrono::duration<double>(took).count();
  for (size_t i = 0; i < kWakeBuckets.size(); ++i) {
    if (seconds <= kWakeBuckets[i]) wake_buckets_[i]->add();
  }
  wake_bucket_rest_.add();
  wake_count_.add();
  wake_microseconds_.add(
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(took).count()));
}

}  // namespace hob::host
