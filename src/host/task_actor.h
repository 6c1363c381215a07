// One task on this machine: carries out what decide.h says, and is the only writer of the task's
// state.
//
// Effects run as coroutines of the actor; each puts its outcome into the view and wakes the actor,
// which decides anew. Belongs to the agent's loop.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "base/async.h"
#include "base/ids.h"
#include "host/decide.h"
#include "host/ports.h"
#include "host/records.h"

namespace hob::host {

inline constexpr int kPullTries =
    6;  // of a registry that cannot be reached; control may be restarting
inline constexpr size_t kLastLinesMax = 20;  // of a task's output, in its report
inline constexpr size_t kLastLineBytesMax = 1024;

class TaskActor {
 public:
  struct Callbacks {
    std::function<void(const link::TaskReport&)> report{};  // what control is told has changed
    std::function<void(Wakefulness)> wakefulness{};         // it has changed; before the report
    std::function<void()> done{};                           // see done()
  };
  // What the sandbox has of it. kRunning: or ended, wait() tells.
  enum class Found { kNothing, kRunning, kFrozen };

  // `file`: where its state is kept.
  TaskActor(const Executor& executor, TaskPorts ports, Random& random, Callbacks callbacks,
            std::filesystem::path file, SavedTask saved, Found found);
  void start();
  // Cancels what runs; the container goes on.
  Async<> stop();

  void assign(const link::Assignment& assignment);  // only `desired` and `restart` may differ
  // Control has forgotten it, or the host is being emptied: whatever is left of it goes.
  void unassign();
  // What edges say of it (sleep.h). A hold of a frozen task thaws it at once.
  void hold(const EdgeId& edge);
  void release(const EdgeId& edge);
  void edge_gone(const EdgeId& edge);
  void edge_back(const EdgeId& edge);
  bool knows_edge(const EdgeId& edge) const { return view_.sleep.holders.contains(edge); }
  Wakefulness wakefulness() const { return wakefulness_of(view_); }
  // Not wanted any more, and nothing is left of it but its log and its file.
  bool done() const { return done_; }
  const TaskView& view() const { return view_; }
  link::TaskReport report() const { return report_of(view_); }

  const LogPosition& log_acked() const { return log_acked_; }
  const LogPosition& log_sent() const { return log_sent_; }
  void set_log_acked(const LogPosition& position);
  // Kept on disk when it returns, so that the batch is repeated with the same end, if it has to be.
  Async<> set_log_sent(LogPosition position);
  void shorten_stop_timeout(Duration max);

 private:
  Async<> run();
  Async<> keep_saved();
  Async<> save();
  void apply(const Action& action);
  void wake();
  double draw();  // of [0, 1)
  // task_start.cc
  Async<> pull();
  Async<> attach();
  Async<> start_container();
  // task_actor.cc
  Async<> send_signal(int number);
  Async<> remove_container();
  Async<> clean_up();
  Async<> freeze(uint64_t turn);
  Async<> thaw(uint64_t turn);
  // What is frozen or being frozen is not any more.
  void end_sleep();
  Async<> await_exit();
  // task_health.cc
  Async<> watch_health();
  Async<> gather_last_lines();
  void describe_unhealthy();  // puts why, and whether it would be so again, into the state

  TaskPorts ports_;
  Random& random_;
  Callbacks callbacks_;
  std::filesystem::path file_;
  TaskView view_;
  LogPosition log_acked_;
  LogPosition log_sent_;
  image::LocalImage image_;
  std::filesystem::path network_namespace_;
  uint64_t run_ = 0;   // counts containers, so that a watcher of an earlier one knows it is
  uint64_t turn_ = 0;  // counts freezes and thaws, so that what an earlier one answers is known to
                       // be old
  std::optional<link::TaskReport> reported_;
  std::optional<Wakefulness> told_;
  bool done_ = false;
  Event changed_;
  Event awake_;  // set but while it is frozen or being frozen
  Event unsaved_;
  Event saved_;
  uint64_t wanted_version_ = 0;
  uint64_t saved_version_ = 0;
  AsyncScope pull_scope_;
  AsyncScope scope_;
};

}  // namespace hob::host
