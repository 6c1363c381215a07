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

 private:
  // True: a batch was sent.
  Async<bool> ship(TaskId task);

  Agent& agent_;
  Event wake_;
  std::set<TaskId> waiting_;  // for an ack
  std::set<TaskId> drained_;
  Counter& lines_;
};

}  // namespace hob::host
