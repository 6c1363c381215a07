#include "sim/policies.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>

#include "base/assert.h"
#include "runner/scaler.h"

namespace hob::sim {

namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();
const std::string kService = "service";

Instant at(double seconds) {
  // Long after 1970: what is before the trace is not before time.
  return Instant(std::chrono::hours(24)) + Duration(std::llround(seconds * 1e3));
}
int64_t micros(double seconds) { return std::llround(seconds * 1e6); }
double seconds(Instant instant) {
  return std::chrono::duration<double>(instant - Instant(std::chrono::hours(24))).count();
}

class HobPolicy final : public Policy {
 public:
  explicit HobPolicy(const SimSettings& settings)
      : settings_(settings), desired_(settings.min_size) {
    // Control has run for long.
    (void)scaler_.reported(kEdge, {}, at(0) - runner::kKeep);
    for (Instant told = at(0) - runner::kKeep; told < at(0); told += Duration(30'000))
      (void)scaler_.reported(kEdge, {}, told);
  }

  Wish decide(const Sight& sight) override {
    bool look = sight.now >= plan_at_;
    if (restarts(settings_.control_restarts, control_restarted_, sight.now)) {
      scaler_ = {};
      look = true;
    }
    if (restarts(settings_.edge_changes, edge_changed_, sight.now)) change_edge(sight);
    if (sight.now >= report_at_ || sight.is_short != was_short_) {
      look = !scaler_.reported(edge(), report(sight), at(sight.now)).empty() || look;
      report_at_ = sight.now + (sight.is_short ? kReportShort : kReportEvery);
    }
    was_short_ = sight.is_short;
    // Cluster's news are the controller's too: a start that ended, either way.
    if (sight.starting != starting_ || sight.failed_in_row != failed_in_row_) look = true;
    starting_ = sight.starting;
    failed_in_row_ = sight.failed_in_row;
    if (look || first_) plan(sight);
    first_ = false;
    return {
        .provisioned = desired_, .sleep = Sleep::kByEdge, .again = std::min(report_at_, plan_at_)};
  }

 private:
  static constexpr double kReportEvery = 1;  // edge.cc
  static constexpr double kReportShort = 0.025;
  inline static const EdgeId kEdge{"edge"};

  static bool restarts(double every, double& last, double now) {
    if (every <= 0 || now < last + every) return false;
    last = now;
    return true;
  }
  EdgeId edge() const { return edges_ == 0 ? kEdge : EdgeId{fmt::format("edge{}", edges_)}; }
  // The successor has the requests, and counts from the beginning.
  void change_edge(const Sight& sight) {
    link::EdgeReport last = report(sight);
    for (link::ServiceLoad& load : last.services) load.in_flight = load.queued = 0;
    last.leaving = true;
    (void)scaler_.reported(edge(), last, at(sight.now));
    ++edges_;
    edge_began_ = sight;
    told_ended_ = 0;
  }

  // As an edge does: a service is named while it has load, and once more after.
  link::EdgeReport report(const Sight& sight) {
    const long ended = sight.ended - edge_began_.ended;
    const bool idle = sight.running + sight.waiting == 0 && ended == told_ended_;
    told_ended_ = ended;
    if (idle) return {};
    link::ServiceLoad load{
        .service = kService,
        .in_flight = sight.running + sight.waiting,
        .queued = sight.waiting,
        .requests_total = ended,
        .in_flight_us = micros(sight.in_flight_seconds - edge_began_.in_flight_seconds),
        .service_us = micros(sight.service_seconds - edge_began_.service_seconds),
        .short_of_targets = sight.is_short};
    return {.services = {load}};
  }

  void plan(const Sight& sight) {
    const runner::ScaleLimits limits{.min_size = settings_.min_size,
                                     .max_size = settings_.max_size,
                                     .max_concurrency = settings_.concurrency};
    const runner::Fleet fleet{.desired = desired_,
                              .ready = sight.awake + sight.asleep,
                              .starting = sight.starting,
                              .failed_in_row = sight.failed_in_row,
                              .settled_at = at(0)};
    const runner::ScalePlan plan = runner::decide_scale(
        {.limits = limits, .load = scaler_.load(kService, at(sight.now)), .fleet = fleet},
        at(sight.now));
    desired_ = plan.desired;
    plan_at_ = plan.again ? seconds(*plan.again) : kNever;
    scaler_.watch(kService, limits, fleet, Duration(std::llround(settings_.start_time * 1e3)),
                  plan);
  }

  SimSettings settings_;
  runner::Scaler scaler_{};
  int desired_;
  double report_at_ = 0;
  double plan_at_ = kNever;
  bool was_short_ = false;
  int starting_ = 0;
  int failed_in_row_ = 0;
  long told_ended_ = 0;
  double control_restarted_ = 0;
  double edge_changed_ = 0;
  int edges_ = 0;       // that went before the one there is
  Sight edge_began_{};  // what there was when it began
  bool first_ = true;
};

class KnativePolicy final : public Policy {
 public:
  explicit KnativePolicy(const SimSettings& settings)
      : settings_(settings), desired_(settings.min_size) {}

  Wish decide(const Sight& sight) override {
    const bool poke = desired_ == 0 && sight.waiting > 0;
    if (sight.now >= tick_at_ || poke) {
      tick(sight);
      tick_at_ = sight.now + kTick;
    }
    return {.provisioned = desired_, .again = tick_at_};
  }

 private:
  static constexpr double kTick = 2;
  static constexpr double kStable = 60;
  static constexpr double kPanic = 6;
  static constexpr double kTarget = 0.7;
  static constexpr double kPanicAt = 2;
  static constexpr double kDownMax = 2;
  static constexpr double kGrace = 30;

  // Mean of what was in flight in the last `window` seconds, or since the beginning.
  double average(const Sight& sight, double window) {
    const double from = std::max(0.0, sight.now - window);
    double before = 0, since = 0;
    for (const auto& [when, integral] : samples_) {
      if (when > from + 1e-9) break;
      before = integral;
      since = when;
    }
    const double span = sight.now - since;
    return span <= 0 ? sight.running + sight.waiting : (sight.in_flight_seconds - before) / span;
  }

  void tick(const Sight& sight) {
    while (!samples_.empty() && samples_.front().first < sight.now - kStable - kTick)
      samples_.pop_front();
    const double target = settings_.concurrency * kTarget;
    const int ready = std::max(1, sight.awake);
    const auto bounded = [&](double mean) {
      return std::max(static_cast<int>(std::ceil(mean / target)),
                      static_cast<int>(std::floor(ready / kDownMax)));
    };
    const double stable_mean = average(sight, kStable);
    const double panic_mean = average(sight, kPanic);
    samples_.emplace_back(sight.now, sight.in_flight_seconds);
    int stable = bounded(stable_mean);
    const int panic = bounded(panic_mean);
    if (std::ceil(panic_mean / target) / ready >= kPanicAt) {
      panic_since_ = sight.now;
    } else if (panic_since_ && *panic_since_ + kStable < sight.now) {
      panic_since_.reset();
      panic_most_ = 0;
    }
    int want = stable;
    if (panic_since_) want = panic_most_ = std::max({panic_most_, stable, panic});
    if (stable_mean > 0 || sight.waiting > 0) idle_since_ = sight.now;
    // To zero only after a window without traffic, and a grace.
    if (want <= 0 || stable_mean <= 0) want = sight.now - idle_since_ >= kGrace ? 0 : 1;
    if (sight.waiting > 0) want = std::max(want, 1);
    desired_ = std::clamp(want, settings_.min_size, settings_.max_size);
  }

  SimSettings settings_;
  int desired_;
  double tick_at_ = 0;
  double idle_since_ = -kGrace;  // nothing came before the trace
  std::optional<double> panic_since_{};
  int panic_most_ = 0;
  std::deque<std::pair<double, double>> samples_;  // time, integral of in flight
};

class AppRunnerPolicy final : public Policy {
 public:
  AppRunnerPolicy(const SimSettings& settings, double active_least)
      : settings_(settings), active_least_(active_least) {}

  Wish decide(const Sight& sight) override {
    const int active =
        (sight.running + sight.waiting + settings_.concurrency - 1) / settings_.concurrency;
    const int wanted = std::clamp(active, std::max(1, settings_.min_size), settings_.max_size);
    if (wanted >= provisioned_ || sight.now - needed_at_ >= kScaleIn) {
      provisioned_ = wanted;
      needed_at_ = sight.now;
    }
    return {.provisioned = provisioned_,
            .sleep = Sleep::kIdle,
            .active_least = active_least_,
            .again = needed_at_ + kScaleIn};
  }

 private:
  static constexpr double kScaleIn = 60;
  SimSettings settings_;
  double active_least_;
  int provisioned_ = 0;
  double needed_at_ = 0;
};

}  // namespace

std::unique_ptr<Policy> make_policy(std::string_view name, const SimSettings& settings) {
  if (name == "hob") return std::make_unique<HobPolicy>(settings);
  if (name == "knative") return std::make_unique<KnativePolicy>(settings);
  if (name == "app runner") return std::make_unique<AppRunnerPolicy>(settings, 60);
  HOB_ASSERT(name == "bare rule");
  return std::make_unique<AppRunnerPolicy>(settings, 0);
}

}  // namespace hob::sim
