// Metrics in Prometheus's text format. Names: hob_<room>_<noun>_<unit>, counters end in _total; labels few and bounded.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace hob {

class Counter {
 public:
  void add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_ = 0;
};

using Labels = std::map<std::string, std::string>;

// One per process, built in main and handed down. Any thread.
class Metrics {
 public:
  // The same name and labels give the same counter; it lives as long as this.
  Counter& counter(const std::string& name, const std::string& help, const Labels& labels = {});
  // A value read when asked for; `read` must be callable from any thread for as long as this lives.
  void gauge(const std::string& name, const std::string& help, std::function<double()> read,
             const Labels& labels = {});
  // The exposition text: ours and the process's own (resident bytes, CPU seconds, open files, start time).
  // `own`: labels that every line of it gets besides its own.
  std::string render(const Labels& own = {}) const;

 private:
  struct Family {
    std::string help{};
    std::map<Labels, std::unique_ptr<Counter>> counters{};
    std::map<Labels, std::function<double()>> gauges{};
  };
  mutable std::mutex mutex_;
  std::map<std::string, Family> families_;
};

// The lines of several processes' expositions as one: those of a family stand together, below what
// the first says of it. For texts of render(); a line that belongs to no family is dropped.
std::string merge_expositions(const std::vector<std::string>& texts);

}  // namespace hob
