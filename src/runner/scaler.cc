#include "runner/scaler.h"

#include <algorithm>
#include <cmath>

namespace hob::runner {

namespace {

constexpr double kMicrosecond = 1e-6;

double seconds(Duration span) { return std::chrono::duration<double>(span).count(); }

constexpr int kInFlightMax = 1'000'000;            // an edge takes fewer
constexpr int64_t kCounterMax = int64_t{1} << 53;  // 285 years of microseconds

// What an edge may say, within what can be computed with.
link::ServiceLoad bounded(link::ServiceLoad load) {
  load.in_flight = std::clamp(load.in_flight, 0, kInFlightMax);
  load.queued = std::clamp(load.queued, 0, load.in_flight);
  for (int64_t* counter : {&load.requests_total, &load.in_flight_us, &load.service_us})
    *counter = std::clamp<int64_t>(*counter, 0, kCounterMax);
  return load;
}

// Another life of the edge counts from the beginning.
bool restarted(const link::ServiceLoad& before, const link::ServiceLoad& now) {
  return now.requests_total < before.requests_total || now.in_flight_us < before.in_flight_us ||
         now.service_us < before.service_us;
}

// What control has not measured yet the edge has.
std::optional<double> mean_since_its_beginning(const link::ServiceLoad& load) {
  if (load.requests_total <= 0 || load.service_us <= 0) return std::nullopt;
  return static_cast<double>(load.service_us) * kMicrosecond /
         static_cast<double>(load.requests_total);
}

}  // namespace

void Scaler::watch(const std::string& id, const ScaleLimits& limits, const Fleet& fleet,
                   Duration start_time, const ScalePlan& plan) {
  Service& service = services_[id];
  service.limits = limits;
  service.fleet = fleet;
  service.fleet.desired = plan.desired;
  service.start_time = start_time;
  service.plan = plan;
  service.told = false;
}

void Scaler::forget(const std::string& id) {
  services_.erase(id);
  for (auto& [edge_id, edge] : edges_) edge.windows.erase(id);
}

void Scaler::drop_silent(Instant now, std::set<std::string>& touched) {
  std::erase_if(edges_, [&](const auto& item) {
    if (now - item.second.told_at < kEdgeSilent) return false;
    for (const auto& [id, window] : item.second.windows) touched.insert(id);
    return true;
  });
}

std::vector<std::string> Scaler::reported(const EdgeId& edge_id, const link::EdgeReport& report,
                                          Instant now) {
  std::set<std::string> touched;
  drop_silent(now, touched);
  if (edges_.empty()) heard_since_ = now;
  if (!edges_.contains(edge_id) && edges_.size() >= kEdgesMax) return {};
  Edge& edge = edges_.try_emplace(edge_id, Edge{.told_at = now}).first->second;
  std::set<std::string> named;
  for (const link::ServiceLoad& told : report.services) {
    const auto service = services_.find(told.service);
    if (service == services_.end() || !named.insert(told.service).second) continue;
    const link::ServiceLoad load = bounded(told);
    service->second.last_visit = now;  // one is named while it has requests, and once more after
    const auto [window, fresh] = edge.windows.try_emplace(load.service);
    if (fresh || restarted(window->second.last, load)) {
      window->second = {.begun_at = now, .first = load, .last = load};
    } else if (window->second.quiet()) {
      // Nothing happened up to the edge's last report: what is new is of the time since.
      window->second.begun_at = edge.told_at;
      window->second.first = window->second.last;
    }
    measure(window->second, load, service->second, now);
    touched.insert(load.service);
  }
  for (auto& [id, window] : edge.windows) {
    if (named.contains(id) || window.quiet()) continue;
    link::ServiceLoad idle = window.last;  // not named: nothing in flight, and nothing new
    idle.in_flight = 0;
    idle.queued = 0;
    measure(window, idle, services_.at(id), now);
    touched.insert(id);
  }
  edge.told_at = now;
  if (report.leaving) {
    // Its successor has its clients, and they would count twice.
    for (auto& [id, window] : edge.windows) window.demand = 0;
  }

  std::vector<std::string> changed;
  for (const std::string& id : touched) {
    const auto found = services_.find(id);
    if (found == services_.end()) continue;
    Service& service = found->second;
    push(service, slots_needed(work_of(id, service, now), service.start_time), now);
    if (service.told) continue;
    const ScalePlan plan = decide_scale(
        {.limits = service.limits, .load = load_of(id, service, now), .fleet = service.fleet}, now);
    const bool sooner = plan.again && (!service.plan.again || *plan.again < *service.plan.again);
    if (plan.desired == service.plan.desired && !sooner) continue;
    service.told = true;
    changed.push_back(id);
  }
  return changed;
}

// Nobody was served yet: some guess is better than to see no demand until a task is ready.
double Scaler::service_time_of(const Service& service, const link::ServiceLoad& load) {
  if (service.service_time > 0) return service.service_time;
  if (const auto mean = mean_since_its_beginning(load)) return *mean;
  return load.queued == load.in_flight ? kServiceTimeGuess : 0;
}

void Scaler::measure(Window& window, const link::ServiceLoad& load, Service& service, Instant now) {
  // A clock that was set back begins the window anew.
  const Duration span = std::max(now - window.begun_at, Duration(0));
  const int64_t ended = load.requests_total - window.first.requests_total;
  const double arrivals =
      static_cast<double>(std::max<int64_t>(0, ended + load.in_flight - window.first.in_flight));
  window.last = load;
  if (now < window.begun_at || span >= kWindow) {
    const double length = std::max(seconds(span), seconds(kWindow));
    // Held by tasks, on average: long requests count before they end.
    const double queued = (window.first.queued + load.queued) / 2.0;
    const int64_t in_flight_us = load.in_flight_us - window.first.in_flight_us;
    const double in_flight = in_flight_us > 0
                                 ? static_cast<double>(in_flight_us) * kMicrosecond / length
                                 : (window.first.in_flight + load.in_flight) / 2.0;
    const double running = std::max(0.0, in_flight - queued);
    if (ended > 0) {
      const int64_t service_us = load.service_us - window.first.service_us;
      // An edge that does not measure it: Little's law.
      const double mean =
          (service_us > 0 ? static_cast<double>(service_us) * kMicrosecond : running * length) /
          static_cast<double>(ended);
      const double weight =
          static_cast<double>(ended) / static_cast<double>(ended + kServiceTimeMemory);
      if (service.service_time <= 0)
        service.service_time = mean_since_its_beginning(load).value_or(mean);
      else
        service.service_time += weight * (mean - service.service_time);
    }
    // Requests that go on for longer than those that ended so far: each seen has lasted for
    // running x length / seen at least.
    const double seen = static_cast<double>(ended) + load.in_flight - load.queued;
    const double known = service_time_of(service, load);
    const double service_time =
        known <= 0 ? 0 : std::max(known, seen > 0 ? running * length / seen : 0);
    // Where nobody waited, what tasks held is what was asked for, but for what chance does not
    // explain: that is in the arrivals first.
    const bool waited = window.first.queued > 0 || load.queued > 0;
    const double believed = waited ? arrivals : arrivals - 2 * std::sqrt(arrivals);
    window.demand = std::max(believed * service_time / length, running);
    window.begun_at = now;
    window.first = load;
    return;
  }
  // Before the window is over, what chance alone does not explain (two deviations of a Poisson
  // count) is believed.
  const double sure = arrivals - 2 * std::sqrt(arrivals);
  if (sure > 0) {
    window.demand = std::max(
        window.demand, sure * service_time_of(service, load) / seconds(std::max(span, kBurstSpan)));
  }
}

void Scaler::push(Service& service, double slots, Instant now) const {
  while (!service.peaks.empty() && now - service.peaks.front().at >= kKeep)
    service.peaks.pop_front();
  while (!service.peaks.empty() && service.peaks.back().slots <= slots) service.peaks.pop_back();
  if (slots <= 0) return;
  // Lower than one of this very second, it matters a second less than it should; so they are few.
  if (!service.peaks.empty() && now - service.peaks.back().at < kWindow) return;
  if (service.peaks.size() < kPeaksMax) service.peaks.push_back({.at = now, .slots = slots});
}

Work Scaler::work_of(const std::string& id, const Service& service, Instant now) const {
  Work work{.service_time = service.service_time,
            .places = service.fleet.ready * service.limits.max_concurrency};
  for (const auto& [edge_id, edge] : edges_) {
    const auto window = edge.windows.find(id);
    if (window == edge.windows.end() || now - edge.told_at >= kLoadStale) continue;
    const link::ServiceLoad& last = window->second.last;
    work.demand += window->second.demand;
    work.waiting += last.queued;
    work.running += last.in_flight - last.queued;
  }
  return work;
}

Load Scaler::load_of(const std::string& id, const Service& service, Instant now) const {
  Load load{.peaks = {service.peaks.begin(), service.peaks.end()},
            .last_visit = service.last_visit};
  for (const auto& [edge_id, edge] : edges_) {
    if (now - edge.told_at >= kEdgeSilent) continue;
    load.heard_since = heard_since_;
    const auto window = edge.windows.find(id);
    if (window != edge.windows.end()) load.in_flight += window->second.last.in_flight;
  }
  return load;
}

Load Scaler::load(const std::string& id, Instant now) const {
  const auto found = services_.find(id);
  if (found == services_.end()) return load_of(id, Service{}, now);
  return load_of(id, found->second, now);
}

}  // namespace hob::runner
