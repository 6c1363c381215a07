#include "edge/measurements.h"

#include <fmt/core.h>

#include <array>

#include "edge/limits.h"
#include "edge/worker.h"

namespace hob::edge {

uint64_t ServiceSum::requests() const {
  uint64_t sum = 0;
  for (const uint64_t count : by_class) sum += count;
  return sum;
}

ServiceSum sum_of(const SharedService& service) {
  ServiceSum sum;
  const uint64_t now_us = steady_now_us();
  for (const auto& counts : service.loops) {
    for (size_t i = 0; i < counts->by_class.size(); ++i)
      sum.by_class[i] += counts->by_class[i].value();
    for (size_t i = 0; i < counts->latency.size(); ++i)
      sum.latency[i] += counts->latency[i].value();
    sum.latency_us += counts->latency_us.value();
    const InFlight::Read in_flight = counts->in_flight.read(now_us);
    sum.in_flight += in_flight.number;
    sum.in_flight_us += in_flight.integral_us;
    sum.service_us += counts->service_us.value();
    sum.queued += counts->queued.value();
    sum.queued_us += counts->queued_us.value();
    sum.refused += counts->refused.value();
    sum.retries += counts->retries.value();
    sum.retries_put_off += counts->retries_put_off.value();
    sum.ejections += counts->ejections.value();
    sum.received_bytes += counts->received_bytes.value();
    sum.sent_bytes += counts->sent_bytes.value();
  }
  return sum;
}

PoolSum sum_of(const SharedPool& pool) {
  PoolSum sum;
  const uint64_t now_us = steady_now_us();
  for (const auto& counts : pool.loops) {
    const InFlight::Read in_flight = counts->in_flight.read(now_us);
    sum.in_flight += in_flight.number;
    sum.in_flight_us += in_flight.integral_us;
    sum.queued += counts->queued.value();
    sum.requests += counts->requests.value();
    sum.failures += counts->failures.value();
  }
  return sum;
}

void Measurements::raise(const std::string& key, Counter& counter, uint64_t value) {
  uint64_t& last = (*current_)[key];
  if (value > last) counter.add(value - last);
  last = value;
}

void Measurements::update(const RouteBook& book,
                          const std::vector<std::unique_ptr<Worker>>& workers) {
  const auto& services = book.services();
  std::erase_if(passed_on_, [&](const auto& entry) { return !services.contains(entry.first); });
  std::erase_if(passed_on_by_version_,
                [&](const auto& entry) { return !book.pools().contains(entry.first); });
  std::map<std::string, std::pair<uint64_t, uint64_t>> awake_asleep;
  for (const auto& [key, pool] : book.pools()) {
    awake_asleep[key.first].first += pool->targets_awake.load();
    awake_asleep[key.first].second += pool->targets_asleep.load();
    if (!pool->version.empty()) update(*pool);
  }
  for (const auto& [id, known] : labels_) {
    level("hob_edge_targets_awake", "Targets that take requests, or still have some",
          awake_asleep[id].first, {{"service", id}});
    level("hob_edge_targets_asleep", "Targets that this edge does not hold awake, or not yet",
          awake_asleep[id].second, {{"service", id}});
  }
  uint64_t in_flight = 0;
  uint64_t queued = 0;
  for (const auto& [id, service] : services) {
    current_ = &passed_on_[id];
    const bool known = labels_.contains(id) || labels_.size() < kServicesMeasuredMax;
    if (known) labels_[id] = true;
    update(known ? id : "other", *service);
    const ServiceSum sum = sum_of(*service);
    in_flight += sum.in_flight;
    queued += sum.queued;
  }
  current_ = &own_;
  uint64_t accepted = 0, connections = 0, upstream = 0, opened = 0, reused = 0, shed = 0,
           refused = 0;
  for (const auto& worker : workers) {
    const WorkerCounts& counts = worker->counts();
    accepted += counts.accepted.value();
    connections += counts.connections.value();
    upstream += counts.upstream_connections.value();
    opened += counts.upstream_opened.value();
    reused += counts.upstream_reused.value();
    shed += counts.shed.value();
    refused += counts.refused.value();
  }
  raise("accepted",
        metrics_.counter("hob_edge_connections_accepted_total", "Client connections accepted"),
        accepted);
  raise("shed",
        metrics_.counter("hob_edge_connections_shed_total",
                         "Client connections closed for lack of room"),
        shed);
  raise("refused",
        metrics_.counter("hob_edge_requests_unrouted_total",
                         "Requests refused before a service was known"),
        refused);
  raise(
      "opened",
      metrics_.counter("hob_edge_target_connections_opened_total", "Connections opened to targets"),
      opened);
  raise(
      "reused",
      metrics_.counter("hob_edge_target_connections_reused_total", "Requests on a kept connection"),
      reused);
  const std::array<std::pair<const char*, std::pair<const char*, uint64_t>>, 4> levels = {{
      {"hob_edge_connections", {"Client connections now", connections}},
      {"hob_edge_target_connections", {"Connections to targets now", upstream}},
      {"hob_edge_requests_in_flight", {"Requests being served", in_flight}},
      {"hob_edge_requests_queued", {"Requests waiting for a target", queued}},
  }};
  for (const auto& [name, level] : levels) {
    this->level(name, level.first, level.second, {});
  }
}

void Measurements::level(const std::string& name, const std::string& help, uint64_t value,
                         const Labels& labels) {
  std::shared_ptr<std::atomic<uint64_t>>& now = levels_[{name, labels}];
  if (now == nullptr) {
    now = std::make_shared<std::atomic<uint64_t>>(0);
    metrics_.gauge(
        name, help, [now] { return static_cast<double>(now->load()); }, labels);
  }
  now->store(value);
}

void Measurements::update(const std::string& label, const SharedService& service) {
  const ServiceSum sum = sum_of(service);
  static constexpr std::array<const char*, 6> kClasses = {"gone", "1xx", "2xx",
                                                          "3xx",  "4xx", "5xx"};
  for (size_t i = 0; i < kClasses.size(); ++i) {
    if (sum.by_class[i] == 0) continue;
    raise(kClasses[i],
          metrics_.counter("hob_edge_requests_total",
                           "Requests ended, by status class; gone: the client left first",
                           {{"service", label}, {"class", kClasses[i]}}),
          sum.by_class[i]);
  }
  if (sum.requests() > 0) {
    uint64_t below = 0;
    for (size_t i = 0; i < kLatencyBuckets.size(); ++i) {
      below += sum.latency[i];
      const std::string le = fmt::format("{}", kLatencyBuckets[i]);
      raise("le" + le,
            metrics_.counter("hob_edge_request_duration_seconds_bucket",
                             "Head received to answer passed on", {{"service", label}, {"le", le}}),
            below);
    }
    below += sum.latency[kLatencyBuckets.size()];
    raise(
        "le",
        metrics_.counter("hob_edge_request_duration_seconds_bucket",
                         "Head received to answer passed on", {{"service", label}, {"le", "+Inf"}}),
        below);
    raise("count",
          metrics_.counter("hob_edge_request_duration_seconds_count", "Requests measured",
                           {{"service", label}}),
          below);
  }
  const Labels labels{{"service", label}};
  const auto pass = [&](const char* name, const char* help, uint64_t value) {
    if (value > 0) raise(name, metrics_.counter(name, help, labels), value);
  };
  pass("hob_edge_requests_refused_total", "Requests that the edge answered itself", sum.refused);
  pass("hob_edge_retries_total", "Requests sent to another target or connection", sum.retries);
  pass("hob_edge_retries_put_off_total", "Retries not made at once, for want of budget",
       sum.retries_put_off);
  pass("hob_edge_ejections_total", "Targets left out for a while after failures", sum.ejections);
  pass("hob_edge_wakes_total", "Targets asked to wake", service.wakes.load());
  pass("hob_edge_wakes_answered_total", "Targets that woke", service.woken.load());
  pass("hob_edge_wake_microseconds_total", "Asking for a target to its being awake, in all",
       service.wake_us.load());
  pass("hob_edge_received_bytes_total", "Request bodies", sum.received_bytes);
  pass("hob_edge_sent_bytes_total", "Answer bodies", sum.sent_bytes);
}

void Measurements::update(const SharedPool& pool) {
  const RouteBook::PoolKey key{pool.service->id, pool.version};
  const PoolSum sum = sum_of(pool);
  if (sum.requests == 0) return;
  const bool known = version_labels_.contains(key) || version_labels_.size() < kVersionsMeasuredMax;
  if (known) version_labels_.insert(key);
  const Labels labels = known ? Labels{{"service", key.first}, {"version", key.second}}
                              : Labels{{"service", "other"}, {"version", "other"}};
  current_ = &passed_on_by_version_[key];
  raise("requests",
        metrics_.counter("hob_edge_version_requests_total",
                         "Requests ended that were given to a target of the version", labels),
        sum.requests);
  raise("failures",
        metrics_.counter("hob_edge_version_failures_total",
                         "Of those, answered 5xx by the target, or not at all", labels),
        sum.failures);
}

void Measurements::set_log_lines_dropped(uint64_t lines) {
  current_ = &own_;
  raise("log",
        metrics_.counter("hob_edge_access_log_lines_dropped_total",
                         "Access log lines lost to a slow disk"),
        lines);
}

}  // namespace hob::edge
