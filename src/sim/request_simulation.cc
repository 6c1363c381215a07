#include "sim/request_simulation.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <queue>

#include "base/assert.h"

namespace hob::sim {

namespace {

enum class State { kStarting, kWaking, kAwake, kAsleep, kDraining };

struct SimInstance {
  State state = State::kStarting;
  int busy = 0;
  double changes_at = 0;  // starting, waking: is awake then
  double idle_since = 0;
};

class Simulation {
 public:
  Simulation(const Trace& trace, const SimSettings& settings, Policy& policy)
      : trace_(trace), settings_(settings), policy_(policy) {
    // What the minimum asks for runs before the first request comes.
    for (int i = 0; i < settings.min_size; ++i) instances_[next_++] = {.state = State::kAwake};
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

  double next_event() const {
    double at = wish_.again;
    if (arrived_ < trace_.requests.size()) at = std::min(at, trace_.requests[arrived_].arrives);
    if (!ends_.empty()) at = std::min(at, ends_.top().at);
    for (const auto& [id, instance] : instances_) {
      if (instance.state == State::kStarting || instance.state == State::kWaking)
        at = std::min(at, instance.changes_at);
      if (may_sleep(instance)) at = std::min(at, instance.idle_since + wish_.sleep_after);
    }
    return std::max(at, now_);
  }

  int count(std::initializer_list<State> states) const {
    return static_cast<int>(std::ranges::count_if(instances_, [&](const auto& item) {
      return std::ranges::find(states, item.second.state) != states.end();
    }));
  }

  bool may_sleep(const SimInstance& instance) const {
    return wish_.sleeps && instance.state == State::kAwake && instance.busy == 0 &&
           count({State::kAwake, State::kWaking}) > wish_.awake;
  }

  // Sums up to `now`, sampling each second passed.
  void advance(double now) {
    while (sampled_ <= now) {
      outcome_.samples.push_back({.at = sampled_,
                                  .desired = wish_.provisioned,
                                  .ready = count({State::kAwake, State::kWaking, State::kAsleep}),
                                  .asleep = count({State::kAsleep}),
                                  .waiting = static_cast<int>(queue_.size())});
      sampled_ += 1;
    }
    const double span = now - now_;
    const int asleep = count({State::kAsleep});
    outcome_.awake_seconds += span * (static_cast<int>(instances_.size()) - asleep);
    outcome_.asleep_gb_seconds += span * asleep * settings_.memory_gb;
    in_flight_seconds_ += span * static_cast<double>(running_ + static_cast<int>(queue_.size()));
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
      instance.idle_since = now_;
      if (instance.state == State::kDraining) instances_.erase(end.instance);
    }
  }

  void admit() {
    while (arrived_ < trace_.requests.size() && trace_.requests[arrived_].arrives <= now_)
      queue_.push_back(trace_.requests[arrived_++]);
  }

  void change_states() {
    for (auto& [id, instance] : instances_) {
      const bool changing = instance.state == State::kStarting || instance.state == State::kWaking;
      if (changing && instance.changes_at <= now_) {
        instance.state = State::kAwake;
        instance.idle_since = now_;
      } else if (may_sleep(instance) && instance.idle_since + wish_.sleep_after <= now_) {
        instance.state = State::kAsleep;
      }
    }
  }

  void serve() {
    for (auto& [id, instance] : instances_) {
      while (!queue_.empty() && instance.state == State::kAwake &&
             instance.busy < settings_.concurrency) {
        const SimRequest request = queue_.front();
        queue_.pop_front();
        waits_.push_back(now_ - request.arrives);
        ++instance.busy;
        ++running_;
        ends_.push({.at = now_ + request.takes, .instance = id, .takes = request.takes});
      }
    }
    if (!wish_.wakes_on_demand) return;
    int places = count({State::kWaking}) * settings_.concurrency;
    for (auto& [id, instance] : instances_) {
      if (places >= static_cast<int>(queue_.size())) break;
      if (instance.state != State::kAsleep) continue;
      instance.state = State::kWaking;
      instance.changes_at = now_ + settings_.wake_time;
      places += settings_.concurrency;
    }
  }

  Sight sight() const {
    return {.now = now_,
            .running = running_,
            .waiting = static_cast<int>(queue_.size()),
            .awake = count({State::kAwake, State::kWaking}),
            .asleep = count({State::kAsleep}),
            .starting = count({State::kStarting}),
            .in_flight_seconds = in_flight_seconds_,
            .service_seconds = service_seconds_,
            .ended = ended_};
  }

  void obey(const Wish& wish) {
    wish_ = wish;
    wish_.again = std::max(wish_.again, now_ + 1e-6);  // virtual time goes on
    int there = static_cast<int>(instances_.size()) - count({State::kDraining});
    outcome_.most = std::max(outcome_.most, static_cast<int>(instances_.size()));
    for (; there < wish_.provisioned; ++there) {
      instances_[next_++] = {.state = State::kStarting, .changes_at = now_ + settings_.start_time};
      ++outcome_.starts;
    }
    // What does not serve yet goes first, then what sleeps, then what is idle; a busy one drains.
    for (; there > wish_.provisioned; --there) {
      int worst = -1, worst_rank = -1;
      for (const auto& [id, instance] : instances_) {
        const int rank = instance.state == State::kStarting   ? 5
                         : instance.state == State::kAsleep   ? 4
                         : instance.state == State::kWaking   ? 1
                         : instance.state == State::kDraining ? -1
                         : instance.busy == 0                 ? 3
                                                              : 2;
        if (rank >= worst_rank && rank >= 0) {
          worst = id;
          worst_rank = rank;
        }
      }
      HOB_ASSERT(worst >= 0);
      if (instances_.at(worst).busy == 0)
        instances_.erase(worst);
      else
        instances_.at(worst).state = State::kDraining;
    }
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
  std::vector<double> waits_;
  Outcome outcome_{};
};

}  // namespace

Outcome simulate(const Trace& trace, const SimSettings& settings, Policy& policy) {
  return Simulation(trace, settings, policy).run();
}

}  // namespace hob::sim
