#include "cluster/cluster.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/log.h"
#include "cluster/edge_gateway.h"
#include "cluster/host_gateway.h"
#include "cluster/keys.h"
#include "cluster/placement.h"
#include "cluster/routes.h"
#include "cluster/service_changes.h"
#include "cluster/service_decision.h"
#include "cluster/state.h"
#include "cluster/task_state.h"
#include "store/cache.h"

namespace hob::cluster {

namespace {
constexpr size_t kReportsPerStepMax = 500;
constexpr Duration kStoreRetry{1'000};  // after a commit failed for another reason than a conflict
constexpr Duration kConflictWait{200};  // for the change that made the conflict to come in
constexpr Duration kSleepMax{60'000};   // clocks are set: look again in any case
}  // namespace

class Cluster::Impl {
 public:
  Impl(store::Store& store, const Executor& executor, const Clock& clock, Random& random,
       ClusterPorts ports)
      : store_(store),
        clock_(clock),
        random_(random),
        ports_(std::move(ports)),
        cache_(store, executor,
               {std::string(kServicesPrefix), std::string(kTasksPrefix), std::string(kHostsPrefix),
                std::string(kEdgesPrefix), std::string(kCertificatesPrefix),
                std::string(kChallengesPrefix)},
               [this](const std::string& key, const store::Entry* entry) { changed(key, entry); }),
        expected_(executor),
        wake_(executor),
        committed_(executor),
        scope_(executor),
        hosts_(state_, ports_, clock, scope_, clock.now(), [this] { wake_.set(); }),
        edges_(
            ports_, clock, clock.now(), [this] { traffic_changed(); },
            [this](const std::set<std::string>& services) { outcomes_told(services); }) {}

  void start() {
    cache_.start();
    scope_.spawn("cluster", run());
  }

  Async<> stop() {
    hosts_.close();
    edges_.close();
    scope_.cancel();
    co_await scope_.join();
    co_await cache_.stop();
  }

  Async<> serve(std::shared_ptr<link::Session> session) {
    Result<link::Message> hello = co_await session->receive();
    if (!hello) co_return;
    // Before the records are here, every host would be told to run nothing.
    co_await expected_.wait();
    link::HostHello host;
    link::EdgeHello edge;
    // The host agent alone is root here: an edge must not pass for a host, which is told secrets.
    if (hello->type == "HostHello" && session->peer_uid() == 0 && decode(*hello, host) &&
        !host.host.empty()) {
      co_await hosts_.serve(session, std::move(host));
    } else if (hello->type == "EdgeHello" && decode(*hello, edge) && !edge.edge.empty()) {
      co_await edges_.serve(session, std::move(edge));
    } else {
      log::error("link refused", {{"message", hello->type}, {"uid", session->peer_uid()}});
    }
    session->close();
  }

  const EdgeGateway& edges() const { return edges_; }
  HostGateway& hosts() { return hosts_; }

 private:
  void changed(const std::string& key, const store::Entry* entry) {
    const std::string service = state_.apply(key, entry);
    if (!service.empty()) dirty_.insert(service);
    routes_stale_ = true;
    wake_.set();
  }

  void traffic_changed() {
    dirty_.insert(unsettled_.begin(), unsettled_.end());
    wake_.set();
  }

  void outcomes_told(const std::set<std::string>& services) {
    for (const std::string& service : services) {
      const auto judged = judged_.find(service);
      if (judged == judged_.end()) continue;
      dirty_.insert(judged->second);
      wake_.set();
    }
  }

  Async<> run() {
    co_await cache_.listed();
    std::vector<EdgeId> known;
    for (const auto& [key, item] : state_.edges()) known.push_back(item.record.id);
    edges_.expect(known);
    expected_.set();
    for (;;) {
      wake_.reset();
      next_.reset();
      const store::Revision seen = cache_.revision();
      // Each step on what the one before has written, so that no decision is made on a view without
      // it.
      const Outcome reported = co_await store_reports();
      tell();
      const Outcome decided = co_await decide_all();
      if (reported.failed || decided.failed) {
        co_await sleep_for(kStoreRetry);
      } else if (reported.conflict || decided.conflict) {
        co_await cache_.changed_within(seen, kConflictWait);
      } else if (!decided.wrote && !hosts_.has_reports()) {
        co_await wait();
      }
    }
  }

  Async<> wait() {
    Duration delay = kSleepMax;
    if (next_) delay = std::clamp(*next_ - clock_.now(), Duration(1), kSleepMax);
    co_await wake_.wait_for(delay);
  }

  void wake_at(std::optional<Instant> at) {
    if (at && (!next_ || *at < *next_)) next_ = at;
  }

  // Hosts and edges: what is so now.
  void tell() {
    hosts_.sync();
    if (!std::exchange(routes_stale_, false)) return;
    std::map<std::string, const Service*> services;
    std::map<std::string, std::vector<const Task*>> tasks;
    for (const auto& [key, item] : state_.services()) {
      services.emplace(key, &item.record);
      for (const std::string& task : state_.tasks_of_service(key))
        tasks[key].push_back(&state_.task(task)->record);
    }
    std::vector<link::AcmeChallenge> challenges;
    for (const auto& [key, item] : state_.challenges()) {
      challenges.push_back({.host_name = item.record.host_name,
                            .token = item.record.token,
                            .key_authorization = item.record.key_authorization});
    }
    std::map<std::string, const Certificate*> certificates;
    for (const auto& [key, item] : state_.certificates()) certificates.emplace(key, &item.record);
    // First: a name that is routed has its certificate.
    edges_.publish(decide_certificates(services, certificates), cache_.revision());
    edges_.publish(decide_routes(services, tasks), std::move(challenges), cache_.revision());
  }

  // ---- writing ----

  struct Outcome {
    bool wrote = false;
    bool conflict = false;  // somebody else was first: decide again
    bool failed = false;    // the store cannot write now
  };

  // All at once, so that they share one wait for the disk; returns when the cache has what they
  // wrote.
  Async<Outcome> commit_all(std::vector<store::Transaction> transactions,
                            std::vector<bool>* done = nullptr) {
    Outcome outcome;
    if (transactions.empty()) co_return outcome;
    struct Shared {
      size_t left = 0;
      std::vector<Result<store::Revision>> results{};
    };
    const auto shared = std::make_shared<Shared>(Shared{.left = transactions.size()});
    shared->results.resize(transactions.size());
    committed_.reset();
    for (size_t i = 0; i < transactions.size(); ++i) {
      scope_.spawn(
          "cluster commit",
          [this, shared, i, transaction = std::move(transactions[i])]() mutable -> Async<> {
            shared->results[i] = co_await store_.commit(std::move(transaction));
            if (--shared->left == 0) committed_.set();
          });
    }
    while (shared->left > 0) {
      co_await committed_.wait();
      if (shared->left > 0) committed_.reset();
    }
    store::Revision newest = 0;
    for (const Result<store::Revision>& result : shared->results) {
      if (done != nullptr) done->push_back(result.has_value());
      if (result) {
        outcome.wrote = true;
        newest = std::max(newest, *result);
      } else if (result.error().code == Code::kConflict) {
        outcome.conflict = true;
      } else {
        // A transaction that breaks a rule of the store will not get better: it must not hold up
        // the others.
        const Code code = result.error().code;
        outcome.failed = outcome.failed || (code != Code::kLimit && code != Code::kInvalid);
        log::error("cluster cannot write", {{"error", result.error().message}});
      }
    }
    co_await cache_.reach(newest);
    co_return outcome;
  }

  static store::Transaction put_task(const State::Item<Task>& item, const Task& task) {
    const std::string key = key_of(task);
    return {.expect = {{key, item.revision}}, .put = {{key, encode_over(task, item.json)}}};
  }

  Async<Outcome> store_reports() {
    std::vector<link::TaskReport> reports;
    std::vector<store::Transaction> transactions;
    for (link::TaskReport& report : hosts_.take_reports(kReportsPerStepMax)) {
      const auto* item = state_.task(report.task);
      if (item == nullptr || state_.unreadable(key_of(item->record))) continue;
      const Task task = merged(item->record, report, clock_.now());
      store::Transaction transaction = put_task(*item, task);
      if (transaction.put.begin()->second == encode_over(item->record, item->json))
        continue;  // nothing new
      if (task.status != item->record.status || task.health != item->record.health) log_task(task);
      reports.push_back(std::move(report));
      transactions.push_back(std::move(transaction));
    }
    std::vector<bool> done;
    const Outcome outcome = co_await commit_all(std::move(transactions), &done);
    for (size_t i = 0; i < done.size(); ++i) {
      if (!done[i]) hosts_.give_back(std::move(reports[i]));
    }
    co_return outcome;
  }

  static void log_task(const Task& task) {
    log::info("task reported", {{"task", task.id.value},
                                {"service", task.service},
                                {"status", static_cast<int>(task.status)},
                                {"health", static_cast<int>(task.health)},
                                {"reason", task.stopped_reason}});
  }

  Async<Outcome> decide_all() {
    const Instant now = clock_.now();
    std::vector<store::Transaction> transactions;
    add_hosts(transactions);
    add_edges(now, transactions);
    const std::vector<HostView> hosts = hosts_.hosts();
    std::optional<Instant> lost_at;
    add_services(now, lost_hosts(hosts, now, lost_at), transactions);
    wake_at(lost_at);
    wake_at(edges_.tracker().changes_at(now));
    const std::set<std::string> busy = keys_of(transactions);
    add_gone_hosts(now, hosts, busy, transactions);
    add_placements(now, hosts, busy, transactions);
    co_return co_await commit_all(std::move(transactions));
  }

  static std::set<std::string> keys_of(const std::vector<store::Transaction>& transactions) {
    std::set<std::string> keys;
    for (const store::Transaction& transaction : transactions) {
      for (const auto& [key, revision] : transaction.expect) keys.insert(key);
    }
    return keys;
  }

  void add_hosts(std::vector<store::Transaction>& transactions) {
    for (const Host& host : hosts_.stale_records()) {
      transactions.push_back({.put = {{host_key(host.id.value), encode(host)}}});
    }
  }

  void add_edges(Instant now, std::vector<store::Transaction>& transactions) {
    for (const Edge& edge : edges_.edges()) {
      const auto known = state_.edges().find(edge_key(edge.id.value));
      if (known != state_.edges().end() && known->second.record.version == edge.version) continue;
      transactions.push_back({.put = {{edge_key(edge.id.value), encode(edge)}}});
    }
    for (const auto& [key, item] : state_.edges()) {
      if (edges_.tracker().forgotten(item.record.id, now))
        transactions.push_back({.remove = {key}});
    }
  }

  void add_services(Instant now, std::vector<HostId> lost,
                    std::vector<store::Transaction>& transactions) {
    std::set<HostId> lost_now(lost.begin(), lost.end());
    if (lost_now != lost_) {
      lost_ = std::move(lost_now);
      for (const auto& [key, item] : state_.services()) dirty_.insert(key);
    }
    if (const auto at = edges_.tracker().changes_at(tracker_seen_); at && *at <= now) {
      dirty_.insert(unsettled_.begin(), unsettled_.end());
    }
    tracker_seen_ = now;
    for (const auto& [key, at] : service_wakes_) {
      if (at <= now) dirty_.insert(key);
    }
    for (const std::string& key : std::exchange(dirty_, {})) add_service(key, now, transactions);
    for (const auto& [key, at] : service_wakes_) wake_at(at);
  }

  void add_service(const std::string& key, Instant now,
                   std::vector<store::Transaction>& transactions) {
    service_wakes_.erase(key);
    unsettled_.erase(key);
    if (state_.unreadable(key)) return;  // left alone until somebody mends it
    const auto* item = state_.service(key);
    if (item == nullptr) {
      keeping_.erase(key);
      std::erase_if(judged_, [&key](const auto& each) { return each.second == key; });
      return add_orphans(key, now, transactions);
    }
    ServiceView view{.service = item->record,
                     .lost_hosts = lost_,
                     .edges_settled = edges_.tracker().settled(now),
                     .crowded = crowded_};
    note_versions(key, view);
    bool unsettled = false;
    for (const std::string& task_key : state_.tasks_of_service(key)) {
      const Task& task = view.tasks.emplace_back(state_.task(task_key)->record);
      if (!is_present(task)) continue;
      view.traffic[task.id] = edges_.tracker().traffic(task.id, now);
      unsettled = unsettled || task.draining_since || !view.traffic[task.id].ready;
    }
    if (unsettled) unsettled_.insert(key);
    const ServiceChanges changes = changes_of(view, decide_service(view, now), now, random_);
    if (changes.wake_at) service_wakes_[key] = *changes.wake_at;
    if (changes.empty()) return;
    // Decided on the service as it was: whoever changed it meanwhile wants another decision.
    store::Transaction transaction{.expect = {{key, item->revision}}};
    if (changes.remove_service) transaction.remove.push_back(key);
    if (changes.service) transaction.put[key] = encode_over(*changes.service, item->json);
    const auto expect = [&](const std::string& task_key) {
      const auto* known = state_.task(task_key);
      transaction.expect[task_key] = known == nullptr ? store::kAbsent : known->revision;
      return known;
    };
    for (const Task& task : changes.put) {
      const std::string task_key = key_of(task);
      const auto* known = expect(task_key);
      transaction.put[task_key] = known == nullptr ? encode(task) : encode_over(task, known->json);
    }
    for (const TaskId& id : changes.remove) {
      const std::string task_key = key_of(state_.task(id)->record);
      expect(task_key);
      transaction.remove.push_back(task_key);
    }
    dirty_.insert(key);  // once more on what this writes, or if it fails
    transactions.push_back(std::move(transaction));
  }

  // What edges say of them, and whether the next thing they say is to be looked at.
  void note_versions(const std::string& key, ServiceView& view) {
    const Service& service = view.service;
    judged_.erase(service.name);
    keeping_.erase(key);
    for (const Deployment& deployment : service.deployments) {
      view.outcomes[deployment.id] = edges_.outcomes().of(service.name, deployment.id);
      if (deployment.kept_since) keeping_.insert(key);
    }
    if (service.deployments.empty()) return;
    const Deployment& newest = service.deployments.front();
    if (newest.rollout == RolloutState::kInProgress && newest.step > 0) judged_[service.name] = key;
  }

  // Tasks whose service's record is gone: stopped, then forgotten.
  void add_orphans(const std::string& key, Instant now,
                   std::vector<store::Transaction>& transactions) {
    for (const std::string& task_key : state_.tasks_of_service(key)) {
      const auto* item = state_.task(task_key);
      if (item->record.service.empty()) continue;  // a task of its own
      if (!is_present(item->record)) {
        dirty_.insert(key);  // once more, should the store fail: nothing else would change here
        transactions.push_back({.expect = {{task_key, item->revision}}, .remove = {task_key}});
        continue;
      }
      if (item->record.desired == link::DesiredStatus::kStopped) continue;
      dirty_.insert(key);
      Task task = item->record;
      task.desired = link::DesiredStatus::kStopped;
      task.stop_code = StopCode::kServiceSchedulerInitiated;
      task.stopped_reason = "The service was deleted";
      if (task.host.empty()) {
        task.status = TaskStatus::kStopped;
        task.stopped_at = now;
      }
      transactions.push_back(put_task(*item, task));
    }
  }

  void add_gone_hosts(Instant now, const std::vector<HostView>& hosts,
                      const std::set<std::string>& busy,
                      std::vector<store::Transaction>& transactions) {
    PlacementView view{.hosts = hosts};
    for (const HostView& host : hosts) {
      if (!host.away_since) continue;
      for (const std::string& key : state_.tasks_of_host(host.host.id))
        view.tasks.push_back(&state_.task(key)->record);
    }
    for (const GoneHostAction& action : decide_gone_hosts(view, now)) {
      if (const auto* forget = std::get_if<ForgetHost>(&action)) {
        const std::string key = host_key(forget->host.value);
        const auto known = state_.hosts().find(key);
        if (known == state_.hosts().end()) continue;
        log::info("host forgotten", {{"host", forget->host.value}});
        transactions.push_back({.expect = {{key, known->second.revision}}, .remove = {key}});
        continue;
      }
      const auto* item = state_.task(std::get<EndTask>(action).task);
      const std::string key = key_of(item->record);
      if (busy.contains(key) || state_.unreadable(key)) continue;
      Task task = item->record;
      task.status = TaskStatus::kStopped;
      task.health = Health::kUnknown;
      task.stopped_at = now;
      log::info("task given up with its host",
                {{"task", task.id.value}, {"host", task.host.value}});
      transactions.push_back(put_task(*item, task));
    }
  }

  void add_placements(Instant now, const std::vector<HostView>& hosts,
                      const std::set<std::string>& busy,
                      std::vector<store::Transaction>& transactions) {
    PlacementView view{.hosts = hosts};
    bool waiting = false;
    for (const auto& [key, item] : state_.tasks()) {
      view.tasks.push_back(&item.record);
      waiting = waiting || (item.record.host.empty() && is_present(item.record));
    }
    const bool was_crowded = std::exchange(crowded_, false);
    if (!waiting) return;
    for (const PlacementAction& action : decide_placement(view, now)) {
      if (const auto* wake = std::get_if<WakePlacementAt>(&action)) {
        wake_at(wake->at);
        crowded_ =
            std::ranges::any_of(hosts, [](const HostView& host) { return !host.away_since; });
        continue;
      }
      const auto* place = std::get_if<PlaceTask>(&action);
      const TaskId& id = place != nullptr ? place->task : std::get<RefuseTask>(action).task;
      const auto* item = state_.task(id);
      const std::string key = key_of(item->record);
      // Its service has just decided something about it, or nobody can tell what it says now.
      if (busy.contains(key) || state_.unreadable(key)) continue;
      Task task = item->record;
      if (place != nullptr) {
        task.host = place->host;
        task.zone = place->zone;
        task.address = place->address;
        task.status = TaskStatus::kPending;
        log::info("task placed",
                  {{"task", id.value}, {"host", task.host.value}, {"address", task.address}});
      } else {
        task.desired = link::DesiredStatus::kStopped;
        task.status = TaskStatus::kStopped;
        task.stop_code = StopCode::kTaskFailedToStart;
        task.stopped_reason = std::get<RefuseTask>(action).reason;
        task.stopped_at = now;
        log::warn("task refused", {{"task", id.value}, {"reason", task.stopped_reason}});
      }
      transactions.push_back(put_task(*item, task));
    }
    if (!crowded_ || was_crowded || keeping_.empty()) return;
    // What is only kept makes way, and nothing is kept anew while a task waits.
    dirty_.insert(keeping_.begin(), keeping_.end());
    wake_.set();
  }

  store::Store& store_;
  const Clock& clock_;
  Random& random_;
  ClusterPorts ports_;
  State state_;
  store::Cache cache_;
  Event expected_;  // the records are here, and the edges in them are expected: links may be served
  Event wake_;      // something to look at
  Event committed_;  // commit_all's last one is done
  AsyncScope scope_;
  HostGateway hosts_;
  EdgeGateway edges_;

  std::set<std::string> dirty_;      // services to decide about
  std::set<std::string> unsettled_;  // services whose next decision hangs on what edges do
  std::map<std::string, Instant>
      service_wakes_;                          // when time alone makes a service worth another look
  std::map<std::string, std::string> judged_;  // by service: keys of those that shift traffic now
  std::set<std::string> keeping_;              // services with a version that is only kept
  bool crowded_ = false;                       // a task found no room when last looked at
  std::set<HostId> lost_;
  Instant tracker_seen_{};
  bool routes_stale_ = true;
  std::optional<Instant> next_;
};

Cluster::Cluster(store::Store& store, Executor executor, const Clock& clock, Random& random,
                 ClusterPorts ports)
    : impl_(std::make_shared<Impl>(store, executor, clock, random, std::move(ports))) {}
Cluster::~Cluster() = default;
void Cluster::start() { impl_->start(); }
Async<> Cluster::stop() { return impl_->stop(); }
bool Cluster::edges_answer(const link::AcmeChallenge& challenge) const {
  return impl_->edges().all_answer(challenge);
}
bool Cluster::edges_show(const std::string& account, const std::string& certificate,
                         const std::string& host_name) const {
  return impl_->edges().all_show(shown_id(account, certificate), host_name);
}
Async<> Cluster::serve(std::shared_ptr<link::Session> session) {
  return impl_->serve(std::move(session));
}

Result<void> Cluster::order_build(link::BuildOrder order) {
  return impl_->hosts().order_build(std::move(order));
}

void Cluster::end_build(const std::string& build) { impl_->hosts().end_build(build); }

}  // namespace hob::cluster
