// Control as the simulator runs it: the real Runner (API and controller) and Cluster over a store
// that outlives them, as daemon/control.cc puts them together.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "base/async.h"
#include "cluster/cluster.h"
#include "observe/logs.h"
#include "runner/api.h"
#include "runner/images.h"
#include "runner/runner.h"
#include "sim/seeded_random.h"
#include "sim/virtual_time.h"

namespace hob::sim {

// Steady time, and how far this process's wall clock is off.
class SimClock final : public Clock {
 public:
  Instant now() const override {
    return Instant{kBegin + std::chrono::milliseconds(virtual_time::now_us() / 1000) + offset};
  }
  Duration offset{0};

 private:
  static constexpr Duration kBegin{1'795'430'000'000};
};

// The registry's tags, which outlive control.
struct Registry {
  std::map<std::string, std::string> digests{};  // by identifier
  std::set<class SimImages*> watchers{};         // one at most
  void push(const std::string& repository, const std::string& tag, int number);
};

class SimImages final : public runner::Images {
 public:
  SimImages(Registry& registry, const Executor& executor)
      : registry_(registry), changed_(executor) {
    registry_.watchers.insert(this);
  }
  ~SimImages() override { registry_.watchers.erase(this); }
  void push() { changed_.set(); }
  Async<Result<runner::ResolvedImage>> resolve(std::string account,
                                               std::string identifier) override;
  Result<void> check(const std::string&) const override { return {}; }
  Result<std::string> at_digest(const std::string& identifier,
                                const std::string& digest) const override;
  bool is_ours(const std::string& identifier) const override;
  Async<Result<void>> changed() override;

 private:
  Registry& registry_;
  Event changed_;
};

class ControlProcess {
 public:
  ControlProcess(store::Store& store, const Executor& executor, BlockingPool& pool, Clock& clock,
                 Random& random, Registry& registry, const std::filesystem::path& logs);
  void start();
  // As a crash: whoever waits for anything here never hears of it.
  Async<> stop();
  void serve(std::shared_ptr<link::Session> session);
  runner::Api& api() { return runner_.api(); }
  // Calls of clients, which end with it.
  AsyncScope& calls() { return calls_; }

 private:
  cluster::ClusterPorts ports();
  observe::Logs logs_;
  SimImages images_;
  runner::Runner runner_;
  cluster::Cluster cluster_;
  AsyncScope work_;
  AsyncScope links_;
  AsyncScope calls_;
};

}  // namespace hob::sim
