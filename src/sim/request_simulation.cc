#include "sim/request_simulation.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <queue>
#include <random>

#include "base/assert.h"
#include "edge/awake_decision.h"

namespace hob::sim {

namespace {

enum class State { kStarting, kWaking, kAwake, kAsleep, kReleasing, kDraining };
using edge::AwakeTarget;
using edge::Phase;

// A host leaves one awake for so long after it was ordered (host::kAwakeAfterStart).
constexpr double kAwakeAfterStart = 10;
// AwakeController's: shorter spans say nothing of a load.
constexpr double kDemandSpanMin = 0.005;
constexpr double kNever = std::numeric_limits<double>::infinity();

Phase phase_of(State state) {
  switch (state) {
    case State::kAwake:
      return Phase::kAwake;
    case State::kWaking:
      return Phase::kWaking;
    case State::kReleasing:
      return Phase::kReleasing;
    case State::kAsleep:
    case State::kStarting:
    case State::kDraining:
      break;
  }
  return Phase::kAsleep;
}

struct SimInstance {
  State state = State::kStarting;
  int busy = 0;
  double ordered_at = 0;
  double changes_at = 0;  // starting, waking: is awake then
  double since = 0;       // in this state
  bool fails = false;     // its start will
};

class Simulation {
 public:
  Simulation(const Trace& trace, const SimSettings& settings, Policy& policy)
      : trace_(trace), settings_(settings), policy_(policy), random_(kFailureSeed) {
    // What the minimum asks for runs before the first request comes.
    for (int i = 0; i < settings.min_size; ++i) {
      instances_[next_++] = {.state = State::kAwake, .ordered_at = -kAwakeAfterStart};
    }
  }

  Outcome run() {
    for (;;) {
      const double now = next_event();
      if (now > trace_.lasts) break;
      advance(now);
      finish_requests();
      admit();
      change_states();
      serve();
      obey(policy_.decide(sight()));
      keep_awake();
      serve();
    }
    advance(trace_.lasts);
    return result();
  }

 private:
  struct End {
    double at = 0;
    int instance = 0;
    double takes = 0;
    bool operator>(const End& other) const {
      return std::tie(at, instance) > std::tie(other.at, other.instance);
    }
  };

  static constexpr uint64_t kFailureSeed = 7;

  double next_event() const {
    double at = std::min(wish_.again, look_at_);
    if (arrived_ < trace_.requests.size()) at = std::min(at, trace_.requests[arrived_].arrives);
    if (!ends_.empty()) at = std::min(at, ends_.top().at);
    for (const auto& [id, instance] : instances_) {
      if (instance.state == State::kStarting || instance.state == State::kWaking)
        at = std::min(at, instance.changes_at);
    }
    return std::max(at, now_);
  }

  int count(std::initializer_list<State> states) const {
    return static_cast<int>(std::ranges::count_if(instances_, [&](const auto& item) {
      return std::ranges::find(states, item.second.state) != states.end();
    }));
  }
  // Frozen, and no CPU: what has been released is not always yet.
  bool is_frozen(const SimInstance& instance) const {
    return instance.state == State::kAsleep && now_ >= instance.ordered_at + kAwakeAfterStart;
  }

  // Sums up to `now`, sampling each second passed.
  void advance(double now) {
    while (sampled_ <= now) {
      const int ready = count({State::kAwake, State::kWaking, State::kReleasing, State::kAsleep});
      outcome_.samples.push_back({.at = sampled_,
                                  .desired = wish_.provisioned,
                                  .ready = ready,
                                  .asleep = count({State::kAsleep}),
                                  .waiting = static_cast<int>(queue_.size()),
                                  .longest_wait = std::exchange(longest_wait_, 0),
                                  .awake_seconds = outcome_.awake_seconds});
      sampled_ += 1;
    }
    for (const auto& [id, instance] : instances_) {
      double awake = now - now_;
      if (instance.state == State::kAsleep && wish_.sleep == Sleep::kByEdge) {
        awake = std::clamp(instance.ordered_at + kAwakeAfterStart - now_, 0.0, awake);
      } else if (instance.state == State::kAsleep) {
        awake = 0;
      }
      outcome_.awake_seconds += awake;
      outcome_.asleep_gb_seconds += (now - now_ - awake) * settings_.memory_gb;
    }
    in_flight_seconds_ +=
        (now - now_) * static_cast<double>(running_ + static_cast<int>(queue_.size()));
    now_ = now;
  }

  void finish_requests() {
    while (!ends_.empty() && ends_.top().at <= now_) {
      const End end = ends_.top();
      ends_.pop();
      SimInstance& instance = instances_.at(end.instance);
      --running_;
      ++ended_;
      service_seconds_ += end.takes;
      if (--instance.busy > 0) continue;
      if (instance.state == State::kReleasing) look_at_ = now_;
      if (instance.state == State::kDraining) instances_.erase(end.instance);
    }
  }

  void admit() {
    while (arrived_ < trace_.requests.size() && trace_.requests[arrived_].arrives <= now_)
      queue_.push_back(trace_.requests[arrived_++]);
    asks_ = !queue_.empty();
  }

  void enter(SimInstance& instance, State state) {
    instance.state = state;
    instance.since = now_;
  }

  void change_states() {
    for (auto it = instances_.begin(); it != instances_.end();) {
      SimInstance& instance = it->second;
      const bool started = instance.state == State::kStarting && instance.changes_at <= now_;
      const bool woken = instance.state == State::kWaking && instance.changes_at <= now_;
      if (started && instance.fails) {
        ++failed_in_row_;
        it = instances_.erase(it);
        continue;
      }
      if (started) failed_in_row_ = 0;
      if (started || woken) {
        enter(instance, State::kAwake);
        look_at_ = now_;
      }
      ++it;
    }
  }

  // The one that takes the next request. An edge balances over those that are awake; a peer is
  // given the packing that lets most of its own be idle.
  SimInstance* choose(int* chosen) {
    SimInstance* best = nullptr;
    for (auto& [id, instance] : instances_) {
      if (instance.state != State::kAwake || instance.busy >= settings_.concurrency) continue;
      if (best != nullptr && instance.busy >= best->busy) continue;
      best = &instance;
      *chosen = id;
      if (wish_.sleep != Sleep::kByEdge) break;
    }
    return best;
  }

  void serve() {
    int id = 0;
    while (!queue_.empty()) {
      SimInstance* instance = choose(&id);
      if (instance == nullptr) {
        // Who just came asks, unless it is known that there is nothing to wake.
        if (!is_short_ && std::exchange(asks_, false)) look_at_ = now_;
        break;
      }
      const SimRequest request = queue_.front();
      queue_.pop_front();
      const double waited = now_ - request.arrives;
      waits_.push_back(waited);
      longest_wait_ = std::max(longest_wait_, waited);
      ++running_;
      if (++instance->busy >= signal_at_) look_at_ = now_;
      ends_.push({.at = now_ + request.takes, .instance = id, .takes = request.takes});
    }
    if (queue_.empty() && is_short_) look_at_ = now_;
    if (wish_.sleep != Sleep::kIdle) return;
    int places = count({State::kWaking}) * settings_.concurrency;
    for (auto& [number, instance] : instances_) {
      if (places >= static_cast<int>(queue_.size())) break;
      if (instance.state != State::kAsleep) continue;
      wake(instance);
      places += settings_.concurrency;
    }
  }

  void wake(SimInstance& instance) {
    // Not frozen yet: its host has nothing to do.
    const bool frozen = wish_.sleep == Sleep::kIdle || is_frozen(instance);
    enter(instance, frozen ? State::kWaking : State::kAwake);
    instance.changes_at = now_ + settings_.wake_time;
    if (frozen) ++outcome_.wakes;
  }

  // AwakeController's part.
  void keep_awake() {
    if (wish_.sleep != Sleep::kByEdge) {
      look_at_ = kNever;
      for (auto& [id, instance] : instances_) {
        if (wish_.sleep != Sleep::kIdle || instance.state != State::kAwake || instance.busy > 0)
          continue;
        const double until = instance.since + wish_.active_least;
        if (until <= now_)
          enter(instance, State::kAsleep);
        else
          look_at_ = std::min(look_at_, until);
      }
      return;
    }
    if (look_at_ > now_) return;
    const uint64_t now = static_cast<uint64_t>(std::llround(now_ * 1e3)) + kEdgeBegan;
    if (now_ >= looked_at_ + kDemandSpanMin) {
      demand_ = (in_flight_seconds_ - looked_integral_) / (now_ - looked_at_);
      looked_at_ = now_;
      looked_integral_ = in_flight_seconds_;
    }
    const auto sleep_after = static_cast<uint64_t>(std::llround(settings_.sleep_after * 1e3));
    const uint64_t surplus_after = edge::surplus_after(sleep_after);
    const double load =
        std::max(demand_, static_cast<double>(running_ + static_cast<int>(queue_.size())));
    peak_.note(load, now, sleep_after);
    recent_.note(load, now, surplus_after);
    edge::AwakeView view{.waiting = static_cast<int>(queue_.size()),
                         .max_concurrency = settings_.concurrency,
                         .awake_min = settings_.awake_min,
                         .sleep_after = sleep_after,
                         .demand = demand_,
                         .peak = peak_.value(now, sleep_after),
                         .recent = recent_.value(now, surplus_after)};
    std::vector<SimInstance*> listed;
    for (auto& [id, instance] : instances_) {
      if (instance.state == State::kStarting || instance.state == State::kDraining) continue;
      listed.push_back(&instance);
      view.targets.push_back(
          {.phase = phase_of(instance.state),
           .in_flight = instance.busy,
           .since = static_cast<uint64_t>(std::llround(instance.since * 1e3)) + kEdgeBegan});
    }
    const edge::AwakeActions actions = edge::decide_awake(view, now);
    for (const size_t i : actions.hold) wake(*listed[i]);
    for (const size_t i : actions.let_go)
      enter(*listed[i], listed[i]->busy > 0 ? State::kReleasing : State::kAsleep);
    for (const size_t i : actions.release) enter(*listed[i], State::kAsleep);
    for (const size_t i : actions.keep) enter(*listed[i], State::kAwake);
    signal_at_ = actions.signal_at;
    // Its report goes out at once.
    if (std::exchange(is_short_, actions.short_of_targets) != is_short_) wish_.again = now_;
    look_at_ = actions.again ? static_cast<double>(*actions.again - kEdgeBegan) / 1e3 : kNever;
  }

  Sight sight() const {
    return {.now = now_,
            .running = running_,
            .waiting = static_cast<int>(queue_.size()),
            .awake = count({State::kAwake, State::kWaking, State::kReleasing}),
            .asleep = count({State::kAsleep}),
            .starting = count({State::kStarting}),
            .failed_in_row = failed_in_row_,
            .is_short = is_short_,
            .in_flight_seconds = in_flight_seconds_,
            .service_seconds = service_seconds_,
            .ended = ended_};
  }

  void obey(const Wish& wish) {
    wish_ = wish;
    wish_.again = std::max(wish_.again, now_ + 1e-6);  // virtual time goes on
    int there = static_cast<int>(instances_.size()) - count({State::kDraining});
    outcome_.most = std::max(outcome_.most, static_cast<int>(instances_.size()));
    turn(there < wish.provisioned ? 1 : there > wish.provisioned ? -1 : 0);
    for (; there < wish_.provisioned; ++there) {
      const bool fails = static_cast<double>(random_() >> 11) * 0x1p-53 < settings_.start_failures;
      instances_[next_++] = {.state = State::kStarting,
                             .ordered_at = now_,
                             .changes_at = now_ + settings_.start_time,
                             .since = now_,
                             .fails = fails};
      ++outcome_.starts;
    }
    for (; there > wish_.provisioned; --there) {
      look_at_ = now_;
      const int worst = least_useful();
      if (instances_.at(worst).busy == 0)
        instances_.erase(worst);
      else
        enter(instances_.at(worst), State::kDraining);
    }
  }

  // What does not serve yet goes first, then what sleeps, then what is idle; a busy one drains.
  int least_useful() const {
    int worst = -1, worst_rank = 0;
    for (const auto& [id, instance] : instances_) {
      const int rank = instance.state == State::kDraining   ? 0
                       : instance.state == State::kStarting ? 6
                       : instance.state == State::kAsleep   ? 5
                       : instance.state == State::kWaking   ? 1
                       : instance.busy == 0                 ? 4
                       : instance.state == State::kAwake    ? 2
                                                            : 3;
      if (rank >= std::max(worst_rank, 1)) {
        worst = id;
        worst_rank = rank;
      }
    }
    HOB_ASSERT(worst >= 0);
    return worst;
  }

  // Counts how often orders change their direction.
  void turn(int direction) {
    if (direction == 0) return;
    if (direction_ != 0 && direction != direction_) ++outcome_.reversals;
    direction_ = direction;
  }

  Outcome result() {
    for (const SimRequest& request : queue_) waits_.push_back(now_ - request.arrives);
    std::ranges::sort(waits_);
    if (waits_.empty()) return outcome_;
    const auto at = [&](double share) {
      const auto index = static_cast<size_t>(share * static_cast<double>(waits_.size()));
      return waits_[std::min(index, waits_.size() - 1)];
    };
    outcome_.p99 = at(0.99);
    outcome_.p999 = at(0.999);
    outcome_.longest = waits_.back();
    const auto late = std::ranges::count_if(waits_, [](double wait) { return wait > kLate; });
    outcome_.late = static_cast<double>(late) / static_cast<double>(waits_.size());
    return outcome_;
  }

  const Trace& trace_;
  const SimSettings& settings_;
  Policy& policy_;
  double now_ = 0;
  double sampled_ = 0;
  std::map<int, SimInstance> instances_;
  int next_ = 0;
  std::deque<SimRequest> queue_;
  std::priority_queue<End, std::vector<End>, std::greater<>> ends_;
  size_t arrived_ = 0;
  int running_ = 0;
  long ended_ = 0;
  double in_flight_seconds_ = 0;
  double service_seconds_ = 0;
  Wish wish_{};
  std::mt19937_64 random_;
  int failed_in_row_ = 0;
  int direction_ = 0;
  // What the edge's controller keeps. Its clock began long ago.
  static constexpr uint64_t kEdgeBegan = 1'000'000;
  edge::Peak peak_{};
  edge::Peak recent_{};
  double demand_ = 0;
  double looked_at_ = 0;
  double looked_integral_ = 0;
  double look_at_ = 0;
  int signal_at_ = std::numeric_limits<int>::max();
  bool is_short_ = false;
  bool asks_ = false;
  std::vector<double> waits_;
  double longest_wait_ = 0;
  Outcome outcome_{};
};

}  // namespace

Outcome simulate(const Trace& trace, const SimSettings& settings, Policy& policy) {
  return Simulation(trace, settings, policy).run();
}

}  // namespace hob::sim
