// The agent of one machine: holds the link to control, keeps an actor for each assigned task, ships
// their output.
//
// With control gone it goes on alone: tasks run, crashed ones are started again. What it was last
// told lies in one file a task under `directory`, written before anything of the task is started;
// so what is found running without a file is nobody's and is removed. Edges hold tasks awake on a
// socket of this agent's, with control or without it (sleep.h). Belongs to one loop.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/async.h"
#include "base/file.h"
#include "base/ids.h"
#include "base/metrics.h"
#include "host/capacity.h"
#include "host/source_builds.h"
#include "host/task_actor.h"
#include "link/link.h"

namespace hob::host {

inline constexpr size_t kTasksMax =
    1'000;  // on one host; beyond, an assignment is refused by a TaskReport
inline constexpr Duration kLogKeptMax{
    60'000};  // a forgotten task's output, when control does not take it

struct AgentOptions {
  std::filesystem::path directory{};  // 0700 root; "tasks/" is made in it
  std::string control_socket{};
  // Another way to control than the socket; empty: the socket. kUnavailable: nobody there now.
  std::function<Async<Result<std::shared_ptr<link::Session>>>()> connect{};
  HostId host{};
  std::string zone{};
  std::string version{};
  std::optional<Machine> machine{};  // nullopt: the one we are on, measured
  bool microvms = false;             // tasks start in them
  bool can_microvm = false;          // those that ask for it do
  BuildTools build_tools{};          // none: builds that are ordered fail
  double cpu_overcommit = kCpuOvercommitDefault;
  double memory_overcommit = kMemoryOvercommitDefault;
  Fd hold_socket{};             // listening: where edges hold tasks awake; none: nobody does
  std::set<uid_t> edge_uids{};  // who may
};

class LogShipper;
class HoldServer;

class Agent {
 public:
  // What `ports` are, `random` and `metrics` outlive the agent.
  Agent(const Executor& executor, AgentOptions options, TaskPorts ports, Random& random,
        Metrics& metrics);
  ~Agent();
  // Adopts what runs, removes what is nobody's, then keeps the link. An error: the sandbox or the
  // disk does not work. stop() must follow, also after an error.
  Async<Result<void>> start();
  enum class Tasks { kLeave, kStop };
  // kLeave: containers run on and are adopted by the next agent. kStop: all of them are ended and
  // removed, and forgotten here (control, when it comes back, assigns them anew).
  Async<> stop(Tasks tasks);
  // Serves one edge's link until it ends, for whoever accepts them elsewhere than on
  // AgentOptions::hold_socket. Must have returned before stop().
  Async<> serve_edge(std::shared_ptr<link::Session> session);
  // The digests of the images that this host's tasks run: what ImageStore::prune must keep.
  std::vector<std::string> images_in_use() const;

 private:
  friend class LogShipper;
  friend class HoldServer;
  Async<Result<void>> load();
  Async<> keep_link();
  Async<> serve(std::shared_ptr<link::Session> session);
  Result<void> take(const link::Message& message);
  void welcome(const link::HostWelcome& welcome);
  void assign(const link::Assignment& assignment);
  void add(SavedTask saved, TaskActor::Found found);
  void count_asleep();
  void send_report(const link::TaskReport& report);
  link::HostHello hello() const;
  Async<> reap();
  Async<> remove_done(TaskId task);
  Async<> remove_unclaimed(TaskId task);
  std::filesystem::path state_file(const TaskId& task) const;

  Executor executor_;
  AgentOptions options_;
  TaskPorts ports_;
  Random& random_;
  std::shared_ptr<std::atomic<int>> tasks_gauge_ = std::make_shared<std::atomic<int>>(0);
  std::shared_ptr<std::atomic<int>> asleep_gauge_ = std::make_shared<std::atomic<int>>(0);
  std::shared_ptr<std::atomic<int>> linked_gauge_ = std::make_shared<std::atomic<int>>(0);
  Counter& connects_;
  Counter& reports_;
  Counter& assigned_;
  std::map<TaskId, std::unique_ptr<TaskActor>> tasks_;
  // They are there, but their records could not be read.
  std::map<TaskId, TaskActor::Found> unclaimed_;
  std::set<TaskId> welcomed_;               // listed by the parts of a welcome so far
  std::shared_ptr<link::Session> session_;  // nullptr: not linked, or not welcomed yet
  Event reap_;
  std::unique_ptr<LogShipper> logs_;
  std::unique_ptr<HoldServer> holds_;
  std::unique_ptr<SourceBuilds> builds_;  // from start() to stop()
  AsyncScope scope_;
};

}  // namespace hob::host
