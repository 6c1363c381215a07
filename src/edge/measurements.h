// The loops' counts, summed and passed on to the process's metrics once a second. On the main
// thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "edge/routes.h"

namespace hob::edge {

class Worker;

struct ServiceSum {
  uint64_t by_class[6] = {};
  uint64_t latency[kLatencyBuckets.size() + 1] = {};
  uint64_t latency_us = 0, service_us = 0, in_flight = 0, queued = 0, queued_us = 0, refused = 0,
           retries = 0, retries_put_off = 0, ejections = 0;
  int64_t in_flight_us = 0;  // the integral of in_flight over time, in microseconds
  uint64_t received_bytes = 0, sent_bytes = 0;
  uint64_t requests() const;
};
ServiceSum sum_of(const SharedService& service);

struct PoolSum {
  uint64_t in_flight = 0, queued = 0, requests = 0, failures = 0;
  int64_t in_flight_us = 0;  // the integral of in_flight over time, in microseconds
};
PoolSum sum_of(const SharedPool& pool);

class Measurements {
 public:
  explicit Measurements(Metrics& metrics) : metrics_(metrics) {}
  // Labels name at most kServicesMeasuredMax services, ever; the others are counted as "other".
  // Likewise at most kVersionsMeasuredMax versions.
  void update(const RouteBook& book, const std::vector<std::unique_ptr<Worker>>& workers);
  void set_log_lines_dropped(uint64_t lines);

 private:
  // Brings a counter to `value`, from what was last passed on.
  void raise(const std::string& key, Counter& counter, uint64_t value);
  void update(const std::string& label, const SharedService& service);
  void update(const SharedPool& pool);
  void level(const std::string& name, const std::string& help, uint64_t value,
             const Labels& labels);

  Metrics& metrics_;
  std::map<std::string, std::map<std::string, uint64_t>> passed_on_;  // by service, then metric
  std::map<std::string, bool> labels_;
  std::map<RouteBook::PoolKey, std::map<std::string, uint64_t>> passed_on_by_version_;
  std::set<RouteBook::PoolKey> version_labels_;
  std::map<std::string, uint64_t>* current_ = nullptr;
  std::map<std::string, uint64_t> own_;
  std::map<std::pair<std::string, Labels>, std::shared_ptr<std::atomic<uint64_t>>> levels_;
};

}  // namespace hob::edge
