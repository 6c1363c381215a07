// The decisions together, under virtual time: a service, hosts and edges with seeded faults,
// checked after every step.
//
// A seed draws everything, the rates of faults too. First, faults at will: nobody may be sent to a
// task that control has stopped, a rollout never takes away more than promised, no address is given
// twice. Then everything is healed: every deployment must end and the service settle within a limit
// of virtual time.
#include <gtest/gtest.h>

#include <deque>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "cluster/edge_tracker.h"
#include "cluster/placement.h"
#include "cluster/routes.h"
#include "cluster/service_changes.h"
#include "cluster/service_decision.h"
#include "cluster/task_state.h"

namespace hob::cluster {
namespace {

using namespace std::chrono_literals;
constexpr Instant t0{1'000'000s};

class SeededRandom final : public Random {
 public:
  explicit SeededRandom(uint64_t seed) : engine_(seed) {}
  void fill(void* out, size_t size) override {
    for (size_t i = 0; i < size; ++i)
      static_cast<unsigned char*>(out)[i] = static_cast<unsigned char>(engine_());
  }
  int below(int n) { return static_cast<int>(engine_() % static_cast<uint64_t>(n)); }
  bool chance(int percent) { return below(100) < percent; }

 private:
  std::mt19937_64 engine_;
};

struct SimTask {  // what is really so, on its host
  link::DesiredStatus desired = link::DesiredStatus::kRunning;
  bool bad = false;  // of a version that exits at once
  Instant healthy_at{};
  bool healthy = false;
  bool stopped = false;
};
struct SimHost {
  bool connected = true;
  Instant since{};
  std::map<TaskId, SimTask> tasks{};
};
struct SimEdge {
  bool connected = true;
  Instant back_at{};
  std::deque<link::RouteTable> inbox{};
  link::RouteTable table{};
  std::map<TaskId, int> in_flight{};
  // To the service's own host name.
  bool sends_to(const TaskId& task) const {
    if (!knows(task)) return false;
    for (const auto& route : table.routes) {
      std::map<std::string, int> ready;
      for (const auto& target : route.targets)
        ready[target.version] += target.state == link::TargetState::kReady ? 1 : 0;
      for (const auto& target : route.targets) {
        if (target.task != task) continue;
        int mine = 1;
        int others = 0;
        for (const auto& version : route.versions) {
          if (version.id == target.version)
            mine = version.weight;
          else if (ready[version.id] > 0)
            others += version.weight;
        }
        return mine > 0 || others == 0;
      }
    }
    return false;
  }
  // To some host name of it, whatever its version's weight.
  bool knows(const TaskId& task) const {
    for (const auto& route : table.routes) {
      if (route.host_names.empty()) continue;
      for (const auto& target : route.targets) {
        if (target.task == task && target.state == link::TargetState::kReady) return true;
      }
    }
    return false;
  }
};

class World {
 public:
  explicit World(uint64_t seed) : seed_(seed), random_(seed) {
    crash_percent_ = random_.chance(30) ? random_.below(5) : 0;
    host_fault_percent_ = random_.chance(40) ? random_.below(4) : 0;
    edge_fault_percent_ = random_.below(6);
    control_restart_percent_ = random_.chance(40) ? random_.below(4) : 0;
    bad_percent_ = random_.below(60);
    scale_percent_ = random_.chance(50) ? random_.below(20) : 0;
    start_max_ = 1 + random_.below(20);
    strategy_percent_ = random_.chance(60) ? 20 + random_.below(80) : 0;
    meddle_percent_ = random_.chance(40) ? random_.below(10) : 0;
    const int hosts = 1 + random_.below(4);
    for (int i = 0; i < hosts; ++i) hosts_[HostId{fmt::format("h{}", i)}].since = now_;
    const int edges = 1 + random_.below(3);
    for (int i = 0; i < edges; ++i) edges_[EdgeId{fmt::format("e{}", i)}];
    constexpr int kMins[] = {0, 50, 100};
    constexpr int kMaxes[] = {150, 200};
    service_ = {.account = "1",
                .name = "s",
                .desired_count = 1 + random_.below(5),
                .minimum_healthy_percent = kMins[random_.below(3)],
                .maximum_percent = kMaxes[random_.below(2)],
                .routing = {.host_names = {"s"}}};
    if (random_.chance(60)) service_.keep_previous = Duration(1000 * random_.below(600));
    // One task at most can neither be added to nor taken from: AWS refuses it, too.
    if ((service_.desired_count == 1 || scale_percent_ > 0) && service_.minimum_healthy_percent > 0)
      service_.maximum_percent = 200;
    deploy(false);
    restart_control();
  }

  void run() {
    for (int step = 0; step < 400 && !::testing::Test::HasFailure(); ++step) {
      now_ += Duration(200 + random_.below(3000));
      faults();
      advance(step);
    }
    heal();
    for (int step = 0; step < 3000 && !settled(); ++step) {
      now_ += Duration(1000);
      advance(step);
    }
    EXPECT_TRUE(settled()) << "seed " << seed_
                           << ": not settled 50 minutes after the last fault: " << describe();
  }

 private:
  void deploy(bool bad) {
    const DeploymentId id{fmt::format("d{}", ++deployments_)};
    Deployment made{.id = id, .created_at = now_, .host_names = {id.value + "-s"}};
    const auto seconds = [this](int most) { return Duration(1000 * random_.below(most)); };
    if (random_.chance(strategy_percent_)) {
      made.configuration.bake_time = seconds(60);
      made.configuration.strategy = DeploymentStrategy::kBlueGreen;
      if (random_.chance(50)) {
        made.configuration.strategy = DeploymentStrategy::kCanary;
        made.configuration.steps = {{10, seconds(30)}, {50, seconds(30)}};
      }
    }
    made.task.cpu = 256;
    made.task.memory_mib = 256;
    service_.deployments.insert(service_.deployments.begin(), made);
    if (bad) bad_.insert(id);
  }
  // As runner does: the way back is put in front again, a rollout is ended without effect, or all
  // the rest of it is left out.
  void meddle() {
    if (service_.deployments.empty()) return;
    Deployment& front = service_.deployments.front();
    if (front.rollout == RolloutState::kInProgress) {
      if (random_.chance(50) || base_of(service_) == nullptr) {
        front.promoted = true;
      } else {
        front.rollout = RolloutState::kFailed;
      }
      return;
    }
    for (size_t i = 1; i < service_.deployments.size(); ++i) {
      if (!service_.deployments[i].kept_since) continue;
      Deployment back = service_.deployments[i];
      back.kept_since.reset();
      back.rollout = RolloutState::kInProgress;
      back.configuration = {.strategy = DeploymentStrategy::kBlueGreen};
      back.step = 0;
      service_.deployments.erase(service_.deployments.begin() + static_cast<long>(i));
      service_.deployments.insert(service_.deployments.begin(), back);
      return;
    }
  }
  // As runner's scaler does, in the middle of a rollout, too.
  void scale(int desired) {
    ceiling_ = std::max(ceiling_, wanted_where_known());
    service_.desired_count = desired;
    floor_ = std::min(floor_, healthy_min(service_));
  }
  void restart_control() {
    tracker_ = EdgeTracker(now_);
    version_ += 10;
    control_started_ = now_;
    published_.clear();
    first_ = true;
    for (auto& [id, edge] : edges_) {
      edge.inbox.clear();
      tracker_.expect(id, now_);
      if (edge.connected) tracker_.connected(id, now_);
    }
  }

  void faults() {
    if (random_.chance(4)) {
      deploy(random_.chance(bad_percent_));
      if (service_.deployments.size() == 1) floor_ = 0;
    }
    if (random_.chance(meddle_percent_)) meddle();
    if (random_.chance(scale_percent_)) scale(1 + random_.below(6));
    if (random_.chance(control_restart_percent_)) restart_control();
    for (auto& [id, host] : hosts_) {
      if (random_.chance(host_fault_percent_)) {
        host.connected = !host.connected;
        host.since = now_;
        returned_ += host.connected ? static_cast<int>(host.tasks.size()) : 0;
      }
      for (auto& [task_id, task] : host.tasks) {
        if (task.healthy && !task.stopped && random_.chance(crash_percent_)) {
          crashed_ = true;
          task.healthy = false;
          task.healthy_at = now_ + Duration(1000 * random_.below(90));
        }
      }
    }
    for (auto& [id, edge] : edges_) {
      if (edge.connected && random_.chance(edge_fault_percent_)) {
        edge.connected = false;  // for less than control waits
        edge.back_at = now_ + Duration(1000 * random_.below(40));
        edge.inbox.clear();
        tracker_.left(id, now_);
      }
    }
  }

  void heal() {
    crash_percent_ = host_fault_percent_ = edge_fault_percent_ = 0;
    for (auto& [id, host] : hosts_) host.connected = true;
    healed_ = true;
  }

  void advance(int step) {
    hosts();
    edges(step);
    report();
    control();
    check();
  }

  void hosts() {
    for (auto& [id, host] : hosts_) {
      for (auto& [task_id, task] : host.tasks) {
        if (task.stopped) continue;
        if (task.desired == link::DesiredStatus::kStopped) {
          task.stopped = true;
          task.healthy = false;
          check_stop(task_id);
        } else if (!task.healthy && now_ >= task.healthy_at) {
          if (task.bad)
            task.stopped = true;
          else
            task.healthy = true;
        }
      }
    }
  }

  void edges(int) {
    for (auto& [id, edge] : edges_) {
      if (!edge.connected && (now_ >= edge.back_at || healed_)) {
        edge.connected = true;
        tracker_.connected(id, now_);
        if (!first_) edge.inbox.push_back(current_);
      }
      while (!edge.inbox.empty() && (healed_ || random_.chance(60))) {
        edge.table = edge.inbox.front();
        edge.inbox.pop_front();
      }
      for (auto at = edge.in_flight.begin(); at != edge.in_flight.end();) {
        if (random_.chance(50)) --at->second;
        at = at->second <= 0 ? edge.in_flight.erase(at) : std::next(at);
      }
      for (const auto& route : edge.table.routes) {
        for (const auto& target : route.targets) {
          if (edge.knows(target.task) && random_.chance(30)) ++edge.in_flight[target.task];
        }
      }
      if (!edge.connected) continue;
      link::EdgeReport report{.applied_version = edge.table.version};
      for (const auto& [task, count] : edge.in_flight) report.targets.push_back({task, count});
      (void)tracker_.reported(id, report);
    }
  }

  // Hosts that are linked hear what they are to do, and tell what they do.
  void report() {
    for (auto& [id, host] : hosts_) {
      if (!host.connected) continue;
      for (auto& [task_id, task] : tasks_) {
        if (task.host != id || !is_present(task)) continue;
        SimTask& real =
            host.tasks
                .try_emplace(
                    task_id,
                    SimTask{.bad = bad_.contains(task.deployment),
                            .healthy_at = now_ + Duration(1000 * random_.below(start_max_))})
                .first->second;
        real.desired = task.desired;
        link::TaskReport report{.task = task_id, .status = link::TaskStatus::kPending};
        if (real.stopped) {
          report.status = link::TaskStatus::kStopped;
          report.stop_code = link::StopCode::kEssentialContainerExited;
        } else if (real.healthy || task.was_healthy) {
          report.status = link::TaskStatus::kRunning;
          report.health = real.healthy ? link::Health::kHealthy : link::Health::kUnhealthy;
        }
        task = merged(task, report, now_);
      }
      std::erase_if(host.tasks, [&](const auto& item) { return !tasks_.contains(item.first); });
    }
  }

  std::vector<HostView> host_views() const {
    std::vector<HostView> views;
    for (const auto& [id, host] : hosts_) {
      HostView& view = views.emplace_back();
      view.host = {.id = id,
                   .zone = id.value.back() % 2 == 0 ? "z-a" : "z-b",
                   .cpu = 8192,
                   .memory_mib = 8192};
      if (!host.connected) view.away_since = std::max(host.since, control_started_);
    }
    return views;
  }

  void control() {
    publish();
    const auto hosts = host_views();
    std::optional<Instant> wake;
    const auto lost = lost_hosts(hosts, now_, wake);
    ServiceView view{.service = service_,
                     .lost_hosts = {lost.begin(), lost.end()},
                     .edges_settled = tracker_.settled(now_),
                     .crowded = crowded_};
    for (const auto& [id, task] : tasks_) {
      view.tasks.push_back(task);
      view.traffic[id] = tracker_.traffic(id, now_);
    }
    const auto actions = decide_service(view, now_);
    EXPECT_LE(actions.size(), 200u);
    const ServiceChanges changes = changes_of(view, actions, now_, random_);
    if (changes.wake_at) EXPECT_GT(*changes.wake_at, now_);
    if (changes.service) service_ = *changes.service;
    for (const Task& task : changes.put) tasks_[task.id] = task;
    for (const TaskId& id : changes.remove) tasks_.erase(id);
    crowded_ = false;
    PlacementView placement{.hosts = hosts};
    for (const auto& [id, task] : tasks_) placement.tasks.push_back(&task);
    for (const PlacementAction& action : decide_placement(placement, now_)) {
      if (const auto* place = std::get_if<PlaceTask>(&action)) {
        Task& task = tasks_[place->task];
        task.host = place->host;
        task.zone = place->zone;
        task.address = place->address;
        task.status = TaskStatus::kPending;
      } else if (const auto* refuse = std::get_if<RefuseTask>(&action)) {
        Task& task = tasks_[refuse->task];
        task.status = TaskStatus::kStopped;
        task.desired = link::DesiredStatus::kStopped;
        task.stop_code = StopCode::kTaskFailedToStart;
        task.stopped_reason = refuse->reason;
        task.stopped_at = now_;
      } else {
        crowded_ = true;
      }
    }
    publish();
  }

  void publish() {
    std::vector<const Task*> mine;
    for (const auto& [id, task] : tasks_) mine.push_back(&task);
    auto routes = decide_routes({{"s", &service_}}, {{"s", mine}});
    if (!first_ && routes == published_) return;
    first_ = false;
    published_ = routes;
    current_ = {.version = ++version_, .routes = std::move(routes)};
    tracker_.sent(current_, now_);
    for (auto& [id, edge] : edges_) {
      if (edge.connected) edge.inbox.push_back(current_);
    }
  }

  // ---- what must be so ----

  // Control stopped a task: no edge may be sending it requests, nor have any running, unless they
  // took too long.
  void check_stop(const TaskId& id) {
    const auto task = tasks_.find(id);
    if (task == tasks_.end()) return;
    const auto since = task->second.draining_since;
    if (since && now_ - *since >= service_.routing.request_timeout) return;
    for (const auto& [edge_id, edge] : edges_) {
      EXPECT_FALSE(edge.sends_to(id))
          << "seed " << seed_ << ": " << edge_id.value << " still sends requests to " << id.value;
      if (since) {
        EXPECT_FALSE(edge.in_flight.contains(id))
            << "seed " << seed_ << ": requests of " << id.value << " were cut off";
      }
    }
  }

  // Tasks that really answer and that an edge really uses, of the edge that has the fewest: while
  // requests are shifted from one version to the other, edges do it one by one.
  int really_serving(bool staying_alone = false) const {
    int fewest = std::numeric_limits<int>::max();
    for (const auto& [edge_id, edge] : edges_) {
      int count = 0;
      for (const auto& [host_id, host] : hosts_) {
        for (const auto& [id, real] : host.tasks) {
          const auto task = tasks_.find(id);
          const bool staying = task != tasks_.end() && is_wanted(task->second);
          if (real.healthy && !real.stopped && edge.sends_to(id) && (staying || !staying_alone))
            ++count;
        }
      }
      fewest = std::min(fewest, count);
    }
    return fewest;
  }

  // Beside those whose host is away: they may have been replaced.
  int wanted_where_known() const {
    return static_cast<int>(std::ranges::count_if(tasks_, [&](const auto& item) {
      const auto host = hosts_.find(item.second.host);
      const auto of =
          std::ranges::find(service_.deployments, item.second.deployment, &Deployment::id);
      const bool kept = of != service_.deployments.end() && of->kept_since;
      return is_wanted(item.second) && !kept && (host == hosts_.end() || host->second.connected);
    }));
  }

  void check() {
    std::map<std::string, TaskId> addresses;
    for (const auto& [id, task] : tasks_) {
      if (task.host.empty() || !is_present(task)) continue;
      const auto [at, fresh] = addresses.emplace(task.address, id);
      EXPECT_TRUE(fresh) << "seed " << seed_ << ": " << task.address << " given to " << id.value
                         << " and " << at->second.value;
    }
    const int wanted = wanted_where_known();
    // By weights, both versions have all their tasks.
    const int most = strategy_percent_ > 0 || meddle_percent_ > 0
                         ? std::max(tasks_max(service_), 2 * service_.desired_count)
                         : tasks_max(service_);
    ceiling_ = std::max(most, std::min(ceiling_, wanted));
    EXPECT_LE(wanted, ceiling_ + returned_) << "seed " << seed_ << ": " << describe();
    // As many as once served go on serving: a rollout, good or bad, never takes one more than
    // promised.
    const int serving = really_serving();
    if (crashed_) return;
    EXPECT_GE(serving, floor_) << "seed " << seed_ << ": " << describe();
    // Those that leave, since less was desired, are nothing promised when more is again.
    // While requests are shifted two versions serve that are none more than the other alone.
    const bool shifting = std::ranges::any_of(service_.deployments, [](const Deployment& each) {
      return each.rollout == RolloutState::kInProgress &&
             each.configuration.strategy != DeploymentStrategy::kRolling;
    });
    if (shifting || (service_.keep_previous > Duration(0) && service_.deployments.size() > 1))
      return;
    floor_ = std::max(floor_, std::min(really_serving(true), healthy_min(service_)));
  }

  bool settled() const {
    if (service_.deployments.empty()) return true;
    if (service_.deployments.front().rollout == RolloutState::kInProgress) return false;
    bool any_good = false;
    for (const Deployment& deployment : service_.deployments)
      any_good = any_good || deployment.rollout == RolloutState::kCompleted;
    if (!any_good)
      return std::ranges::none_of(tasks_, [](const auto& item) { return is_present(item.second); });
    const auto present = std::ranges::count_if(tasks_, [this](const auto& item) {
      const auto of =
          std::ranges::find(service_.deployments, item.second.deployment, &Deployment::id);
      const bool kept = of != service_.deployments.end() && of->kept_since;
      return is_present(item.second) && !kept;
    });
    return present == service_.desired_count && really_serving() == service_.desired_count;
  }

  std::string describe() const {
    std::string text = fmt::format("desired {} min {} max {};", service_.desired_count,
                                   service_.minimum_healthy_percent, service_.maximum_percent);
    for (const Deployment& deployment : service_.deployments)
      text += fmt::format(" {}:{}", deployment.id.value, static_cast<int>(deployment.rollout));
    for (const auto& [id, task] : tasks_) {
      if (!is_present(task)) continue;
      const Traffic traffic = tracker_.traffic(id, now_);
      text += fmt::format("\n  {} of {} on {} status {} health {} desired {}{}{}{}",
                          id.value.substr(0, 6), task.deployment.value, task.host.value,
                          static_cast<int>(task.status), static_cast<int>(task.health),
                          static_cast<int>(task.desired), task.draining_since ? " draining" : "",
                          traffic.ready ? " ready" : "", traffic.gone ? " gone" : "");
    }
    return text;
  }

  uint64_t seed_;
  SeededRandom random_;
  Instant now_ = t0;
  Service service_{};
  std::map<TaskId, Task> tasks_;
  std::map<HostId, SimHost> hosts_;
  std::map<EdgeId, SimEdge> edges_;
  std::set<DeploymentId> bad_;
  int deployments_ = 0;
  EdgeTracker tracker_{t0};
  Instant control_started_ = t0;
  int64_t version_ = 0;
  link::RouteTable current_{};
  std::vector<link::Route> published_;
  bool first_ = true;
  bool crashed_ = false;
  bool crowded_ = false;
  bool healed_ = false;
  int floor_ = 0;
  int ceiling_ = 0;  // tasks there may be: what was more when less was desired goes step by step
  int returned_ =
      0;  // tasks that hosts brought back: they may be more than there should be, for a while
  int crash_percent_ = 0;
  int host_fault_percent_ = 0;
  int edge_fault_percent_ = 0;
  int control_restart_percent_ = 0;
  int bad_percent_ = 0;
  int scale_percent_ = 0;
  int start_max_ = 1;
  int strategy_percent_ = 0;
  int meddle_percent_ = 0;
};

TEST(ClusterSimulation, KeepsItsPromisesUnderFaults) {
  testing::internal::CaptureStderr();  // thousands of deployments are logged
  for (uint64_t seed = 1; seed <= 100 && !HasFailure(); ++seed) World(seed).run();
  (void)testing::internal::GetCapturedStderr();
}

}  // namespace
}  // namespace hob::cluster
