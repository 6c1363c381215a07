// Sends tasks' output to control: one batch of a stream at a time, the next when control said that
// it has the last.
//
// Nothing is kept in memory: what control has not taken stays in the files, which the sandbox
// bounds. Belongs to the agent's loop.
#pragma once

#include <set>

#include "base/async.h"
#include "base/metrics.h"
#include "host/agent.h"

namespace hob::host {

inline constexpr Duration kLogPollMin{100};    // how often an output that grows is looked at
inline constexpr Duration kLogPollMax{1'000};  // and one that does not

class LogShipper {
 public:
  LogShipper(Agent& agent, Metrics& metrics);
  Async<> run();
  // The link is new: what was on its way is sent again.
  void connected();
  void ack(const link::LogAck& ack);
  // Control has all that the task wrote.
  bool drained(const TaskId& task) const { return drained_.contains(task); }
  void forget(const TaskId& task);
  // It waits inside the task's actor, which must not go now.
  bool holds(const TaskId& task) const { return held_ == task; }

 private:
  // Marks the one task whose actor the shipper waits in.
  class Busy {
   public:
    Busy(LogShipper& shipper, TaskId task) : shipper_(shipper) { shipper_.held_ = std::move(task); }
    ~Busy() { shipper_.held_ = {}; }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;

   private:
    LogShipper& shipper_;
  };
  // True: a batch was sent.
  Async<bool> ship(TaskId task);

  Agent& agent_;
  Event wake_;
  std::set<TaskId> waiting_;  // for an ack
  std::set<TaskId> drained_;
  TaskId held_{};  // empty: none
  Counter& lines_;
};

}  // namespace hob::host
