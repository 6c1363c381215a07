// Metrics as Firecracker writes them: one JSON object a line, of which each member has the counters
// of one part, most as the difference to the line before. docs/microvm.md tells which are counted.
//
// On the loop.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "microvm/api/json.h"

namespace hob::microvm {

inline constexpr std::chrono::seconds kMetricsEvery{60};

struct Counter {
  std::string name{};
  uint64_t value = 0;
  bool absolute = false;  // written as it is
};
struct CounterGroup {
  std::string name{};
  std::vector<Counter> counters{};
};

struct MetricsOptions {
  std::string path{};
  bool emit_id = false;
  Json properties{};  // null: none
};

class Metrics {
 public:
  explicit Metrics(std::string id) : id_(std::move(id)) {}
  // kExists: it was started before.
  Result<void> start(MetricsOptions options);
  bool started() const { return static_cast<bool>(file_); }
  // One line; `groups` in the order of their names. What the file does not take is missed, and
  // comes with the next line.
  void write(const std::vector<CounterGroup>& groups, int64_t utc_ms);
  uint64_t missed() const { return missed_; }

 private:
  std::string id_;
  MetricsOptions options_;
  Fd file_;
  std::map<std::string, uint64_t> written_;  // "group.name": as it was at the last line
  uint64_t missed_ = 0;
};

}  // namespace hob::microvm
