// The host's end of its links with edges: takes what they hold and release, and answers each hold
// once the task runs (link/messages.h: TargetHold; docs/decisions/sleep.md).
//
// What a hold means is the task's own affair (sleep.h); here is who said it. Needs control for
// nothing. Belongs to the agent's loop.
#pragma once

#include <array>
#include <chrono>
#include <map>
#include <memory>
#include <set>

#include "base/async.h"
#include "base/file.h"
#include "base/metrics.h"
#include "host/decide.h"
#include "link/link.h"

namespace hob::host {

class Agent;

inline constexpr Duration kEdgeHelloWithin{10'000};  // of a link's beginning
// Names in one TargetHold: several times what a host can have. Beyond: the link is ended.
inline constexpr size_t kTargetsNamedMax = 10'000;
inline constexpr size_t kHoldBytesMax = 1024 * 1024;  // of its JSON, looked at before it is decoded
// Upper ends of the wake histogram's buckets, in seconds; the last is +Inf.
inline constexpr std::array kWakeBuckets = {0.0005, 0.001, 0.002, 0.005, 0.01, 0.1, 1.0};

class HoldServer {
 public:
  HoldServer(Agent& agent, Metrics& metrics);
  ~HoldServer();
  // Serves on `listener` the peers whose uid is in `uids`.
  void start(Fd listener, std::set<uid_t> uids);
  // Ends the links. What edges held is not forgotten: the agent's tasks know.
  Async<> stop();
  // A task has become what it is now: answers those who wait for it.
  void tell(const TaskId& task, Wakefulness wakefulness);
  // One link, until it ends.
  Async<> serve(std::shared_ptr<link::Session> session);

 private:
  using SteadyTime = std::chrono::steady_clock::time_point;
  struct Hold {
    SteadyTime since{};
    bool wakes = false;  // it slept when it was held
  };
  struct Edge {
    std::shared_ptr<link::Session> session{};
    bool named_all = false;            // by the first TargetHold of this link
    std::map<TaskId, Hold> waiting{};  // for an answer
  };

  // False: not an edge we can serve.
  bool join(const EdgeId& id, const std::shared_ptr<link::Session>& session);
  void leave(const EdgeId& id, const link::Session* session);
  Result<void> take(const EdgeId& id, const link::Message& message);
  void release_unnamed(const EdgeId& id, const link::TargetHold& whole);
  void measure(SteadyTime since);

  Agent& agent_;
  std::map<EdgeId, Edge> edges_;
  std::unique_ptr<link::Listener> listener_;
  std::shared_ptr<std::atomic<int>> edges_gauge_ = std::make_shared<std::atomic<int>>(0);
  Counter& holds_;
  Counter& wakes_;
  Counter& wake_microseconds_;
  std::array<Counter*, kWakeBuckets.size()> wake_buckets_{};
  Counter& wake_bucket_rest_;
  Counter& wake_count_;
};

}  // namespace hob::host
