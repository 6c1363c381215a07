#include "host/agent.h"

#include <algorithm>
#include <set>
#include <vector>

#include "base/file.h"
#include "base/log.h"
#include "host/hold_server.h"
#include "host/log_shipper.h"
#include "sandbox/vmm.h"

namespace hob::host {

namespace {
static_assert(sandbox::host_memory_mib(512) == 512 + link::microvm_overhead_mib(512));
static_assert(sandbox::host_memory_mib(4'096) == 4'096 + link::microvm_overhead_mib(4'096));

constexpr size_t kStateBytesMax = 4 * 1024 * 1024;
constexpr Duration kEmptyStopTimeout{10'000};  // SIGTERM to SIGKILL when the whole host is emptied
constexpr Backoff kLinkBackoff{.min = Duration(50), .max = Duration(2'000)};
constexpr Duration kReapPoll{500};  // while a task that is done waits for its log to be taken

double unit(Random& random) {
  uint32_t bits = 0;
  random.fill(&bits, sizeof bits);
  return static_cast<double>(bits) / 4294967296.0;
}
}  // namespace

Agent::Agent(const Executor& executor, AgentOptions options, TaskPorts ports, Random& random,
             Metrics& metrics)
    : executor_(executor),
      options_(std::move(options)),
      ports_(ports),
      random_(random),
      connects_(
          metrics.counter("hob_host_link_connects_total", "Times the link to control was made.")),
      reports_(metrics.counter("hob_host_task_reports_total", "Task reports made.")),
      assigned_(metrics.counter("hob_host_tasks_added_total", "Tasks assigned to this host.")),
      reap_(executor),
      logs_(std::make_unique<LogShipper>(*this, metrics)),
      holds_(std::make_unique<HoldServer>(*this, metrics)),
      scope_(executor) {
  metrics.gauge("hob_host_tasks",
                "Tasks on this host, ended ones that control has not seen included.",
                [gauge = tasks_gauge_] { return static_cast<double>(gauge->load()); });
  metrics.gauge("hob_host_tasks_limit", "The most tasks this host takes.",
                [] { return static_cast<double>(kTasksMax); });
  metrics.gauge("hob_host_tasks_asleep", "Tasks that are frozen until an edge needs them.",
                [gauge = asleep_gauge_] { return static_cast<double>(gauge->load()); });
  metrics.gauge("hob_host_linked", "1: the link to control is up.",
                [gauge = linked_gauge_] { return static_cast<double>(gauge->load()); });
}

Agent::~Agent() { HOB_ASSERT(tasks_.empty()); }

Async<Result<void>> Agent::start() {
  HOB_CO_CHECK(co_await load());
  builds_ = std::make_unique<SourceBuilds>(executor_, options_.build_tools,
                                           [this](const link::BuildReport& report) {
                                             // What is lost here is asked for again.
                                             if (session_)
                                               (void)session_->send(link::encode(report));
                                           });
  scope_.spawn("host link", [this] { return keep_link(); });
  scope_.spawn("host logs", [this] { return logs_->run(); });
  scope_.spawn("host reaper", [this] { return reap(); });
  if (options_.hold_socket)
    holds_->start(std::move(options_.hold_socket), std::move(options_.edge_uids));
  co_return Result<void>{};
}

Async<Result<void>> Agent::load() {
  HOB_CO_CHECK(co_await ports_.sandbox.open());
  HOB_CO_TRY(const std::vector<sandbox::AdoptedTask> found, co_await ports_.sandbox.adopt());
  std::map<TaskId, TaskActor::Found> adopted;
  for (const sandbox::AdoptedTask& task : found)
    adopted[TaskId{task.task}] =
        task.frozen ? TaskActor::Found::kFrozen : TaskActor::Found::kRunning;
  const std::filesystem::path directory = options_.directory / "tasks";
  HOB_CO_CHECK(make_directories(directory, 0700));

  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error))
    files.push_back(entry.path());
  if (error)
    co_return fail(Code::kUnavailable, "reading {}: {}", directory.string(), error.message());
  for (const std::filesystem::path& file : files) {
    if (file.extension() != ".json") {  // a temporary that was not finished
      HOB_CO_CHECK(remove_tree(file));
      continue;
    }
    const Result<std::string> text = read_file(file, kStateBytesMax);
    Result<SavedTask> saved =
        text ? decode_saved_task(*text) : Result<SavedTask>(fail(text.error()));
    if (saved && saved->assignment.task.value != file.stem())
      saved = fail(Code::kCorrupt, "it is another task's");
    if (!saved) {
      // Control has the truth: it assigns the task again when the link is made. Until then its
      // container runs on.
      if (const auto runs = adopted.find(TaskId{file.stem()}); runs != adopted.end())
        unclaimed_.insert(*runs);
      log::error("task record not readable, dropped",
                 {{"file", file.string()}, {"error", saved.error().message}});
      HOB_CO_CHECK(remove_tree(file));
      continue;
    }
    const auto runs = adopted.find(saved->assignment.task);
    add(std::move(*saved), runs == adopted.end() ? TaskActor::Found::kNothing : runs->second);
  }

  for (const auto& [task, runs] : adopted) {
    if (tasks_.contains(task) || unclaimed_.contains(task)) continue;
    log::warn("a container that is nobody's task, removed", {{"task", task.value}});
    HOB_CO_CHECK(co_await ports_.sandbox.remove(task.value));
    HOB_CO_CHECK(co_await ports_.sandbox.remove_log(task.value));
  }
  HOB_CO_TRY(const std::vector<std::string> attached, co_await ports_.network.attached());
  for (const std::string& task : attached) {
    if (!tasks_.contains(TaskId{task}) && !unclaimed_.contains(TaskId{task}))
      HOB_CO_CHECK(co_await ports_.network.detach(task));
  }
  log::info("host agent started", {{"tasks", tasks_.size()}, {"adopted", adopted.size()}});
  co_return Result<void>{};
}

Async<> Agent::stop(Tasks tasks) {
  co_await holds_->stop();
  // The link first: what is stopped now is not control's wish, and must not be reported as the
  // tasks' end.
  scope_.cancel();
  co_await scope_.join();
  session_ = nullptr;
  if (builds_) co_await builds_->stop();
  builds_.reset();
  if (tasks == Tasks::kStop) {
    for (auto& [id, actor] : tasks_) {
      actor->shorten_stop_timeout(kEmptyStopTimeout);
      actor->unassign();
    }
    while (!std::all_of(tasks_.begin(), tasks_.end(),
                        [](const auto& task) { return task.second->done(); })) {
      reap_.reset();
      co_await reap_.wait_for(kReapPoll);
    }
    while (!tasks_.empty()) co_await remove_done(tasks_.begin()->first);
    while (!unclaimed_.empty()) {
      const TaskId task = unclaimed_.begin()->first;
      unclaimed_.erase(task);
      co_await remove_unclaimed(task);
    }
  }
  for (auto& [id, actor] : tasks_) co_await actor->stop();
  tasks_.clear();
}

Async<> Agent::serve_edge(std::shared_ptr<link::Session> session) {
  return holds_->serve(std::move(session));
}

std::vector<std::string> Agent::images_in_use() const {
  std::vector<std::string> digests;
  for (const auto& [id, actor] : tasks_) {
    const std::string& digest = actor->view().state.image_digest;
    if (!digest.empty()) digests.push_back(digest);
  }
  return digests;
}

Async<> Agent::keep_link() {
  Backoff backoff = kLinkBackoff;
  // The session's writer lives in the agent's own scope; dropping the session ends it.
  if (!options_.connect) {
    options_.connect = [this] { return link::connect(scope_, options_.control_socket); };
  }
  for (;;) {
    Result<std::shared_ptr<link::Session>> connected = co_await options_.connect();
    if (connected) {
      connects_.add();
      co_await serve(*connected);
      if (session_) backoff.reset();
      session_ = nullptr;
      *linked_gauge_ = 0;
      (*connected)->close();
      log::warn("link to control lost; tasks go on");
    }
    co_await sleep_for(backoff.next(unit(random_)));
  }
}

Async<> Agent::serve(std::shared_ptr<link::Session> session) {
  if (!session->send(link::encode(hello()))) co_return;
  for (;;) {
    const Result<link::Message> message = co_await session->receive();
    if (!message) co_return;
    if (message->type == "HostWelcome") session_ = session;
    const Result<void> taken = take(*message);
    if (!taken) {
      // What was not understood may have been an order: ask for the whole again.
      log::error("message from control not understood",
                 {{"type", message->type}, {"error", taken.error().message}});
      co_return;
    }
  }
}

Result<void> Agent::take(const link::Message& message) {
  if (message.type == "HostWelcome") {
    link::HostWelcome all;
    HOB_CHECK(link::decode(message, all));
    welcome(all);
  } else if (message.type == "AssignmentChange") {
    link::AssignmentChange change;
    HOB_CHECK(link::decode(message, change));
    for (const link::Assignment& assignment : change.put) assign(assignment);
    for (const TaskId& task : change.remove) {
      if (const auto found = tasks_.find(task); found != tasks_.end()) found->second->unassign();
    }
  } else if (message.type == "BuildOrder") {
    link::BuildOrder order;
    HOB_CHECK(link::decode(message, order));
    builds_->order(order);
  } else if (message.type == "BuildEnd") {
    link::BuildEnd end;
    HOB_CHECK(link::decode(message, end));
    builds_->end(end.build);
  } else if (message.type == "LogAck") {
    link::LogAck ack;
    HOB_CHECK(link::decode(message, ack));
    logs_->ack(ack);
  } else {
    log::debug("message from control ignored", {{"type", message.type}});
  }
  return {};
}

void Agent::welcome(const link::HostWelcome& welcome) {
  *linked_gauge_ = 1;
  logs_->connected();
  for (const link::Assignment& assignment : welcome.assignments) {
    welcomed_.insert(assignment.task);
    assign(assignment);
  }
  if (welcome.more) return;  // only with the last part is it known what is not listed
  const std::set<TaskId> listed = std::exchange(welcomed_, {});
  for (auto& [task, actor] : tasks_) {
    if (listed.contains(task))
      send_report(actor->report());
    else
      actor->unassign();
  }
  builds_->linked();
  for (const auto& unclaimed : std::exchange(unclaimed_, {}))
    scope_.spawn("remove unclaimed",
                 [this, task = unclaimed.first] { return remove_unclaimed(task); });
  reap_.set();
  log::info("linked to control", {{"assignments", listed.size()}});
}

void Agent::assign(const link::Assignment& assignment) {
  if (const auto found = tasks_.find(assignment.task); found != tasks_.end()) {
    found->second->assign(assignment);
    return;
  }
  if (tasks_.size() >= kTasksMax) {
    link::TaskReport refusal{
        .task = assignment.task,
        .status = link::TaskStatus::kStopped,
        .stop_code = link::StopCode::kTaskFailedToStart,
        .reason = fmt::format("TaskFailedToStart: this host already has {} tasks", tasks_.size())};
    send_report(refusal);
    return;
  }
  assigned_.add();
  const auto unclaimed = unclaimed_.extract(assignment.task);
  add({.assignment = assignment}, unclaimed ? unclaimed.mapped() : TaskActor::Found::kNothing);
}

void Agent::add(SavedTask saved, TaskActor::Found found) {
  const TaskId task = saved.assignment.task;
  TaskActor::Callbacks callbacks{
      .report =
          [this](const link::TaskReport& report) {
            count_asleep();
            send_report(report);
          },
      .wakefulness = [this, task](Wakefulness wakefulness) { holds_->tell(task, wakefulness); },
      .done = [this] { reap_.set(); }};
  auto actor = std::make_unique<TaskActor>(executor_, ports_, random_, std::move(callbacks),
                                           state_file(task), std::move(saved), found);
  actor->start();
  tasks_.emplace(task, std::move(actor));
  *tasks_gauge_ = static_cast<int>(tasks_.size());
  count_asleep();  // it may have been found so
}

void Agent::count_asleep() {
  *asleep_gauge_ = static_cast<int>(std::ranges::count_if(
      tasks_, [](const auto& task) { return task.second->view().sleep.frozen; }));
}

std::filesystem::path Agent::state_file(const TaskId& task) const {
  return options_.directory / "tasks" / (task.value + ".json");
}

void Agent::send_report(const link::TaskReport& report) {
  if (!session_) return;  // told whole at the next welcome
  reports_.add();
  if (const Result<void> sent = session_->send(link::encode(report)); !sent) {
    log::debug("report not sent", {{"task", report.task.value}, {"error", sent.error().message}});
  }
}

link::HostHello Agent::hello() const {
  const Capacity capacity = capacity_of(options_.machine ? *options_.machine : measure(),
                                        options_.cpu_overcommit, options_.memory_overcommit);
  return {.host = options_.host,
          .zone = options_.zone,
          .version = options_.version,
          .cpu = capacity.cpu,
          .memory_mib = capacity.memory_mib,
          .microvm = options_.microvms,
          .can_microvm = options_.can_microvm};
}

// Drops actors whose task is gone, and their output once control has it.
Async<> Agent::reap() {
  std::map<TaskId, Instant> done_since;
  for (;;) {
    reap_.reset();
    std::vector<TaskId> gone;
    for (const auto& [task, actor] : tasks_) {
      if (!actor->done()) continue;
      const Instant since = done_since.try_emplace(task, ports_.clock.now()).first->second;
      const bool given_up = ports_.clock.now() - since > kLogKeptMax;
      if ((logs_->drained(task) || given_up) && !logs_->holds(task)) gone.push_back(task);
    }
    for (const TaskId& task : gone) {
      if (logs_->holds(task)) continue;  // since we looked
      done_since.erase(task);
      co_await remove_done(task);
    }
    if (done_since.empty())
      co_await reap_.wait();
    else
      co_await reap_.wait_for(kReapPoll);
  }
}

// A container without a record that control does not know either.
Async<> Agent::remove_unclaimed(TaskId task) {
  log::warn("a container that is nobody's task, removed", {{"task", task.value}});
  Result<void> removed = co_await ports_.sandbox.remove(task.value);
  if (removed) removed = co_await ports_.sandbox.remove_log(task.value);
  if (removed) removed = co_await ports_.network.detach(task.value);
  if (!removed)
    log::warn("what is left of it stays until the next start",
              {{"task", task.value}, {"error", removed.error().message}});
}

Async<> Agent::remove_done(TaskId task) {
  const auto found = tasks_.find(task);
  HOB_ASSERT(found != tasks_.end());
  // Out of the list first: nobody else gets hold of it while it ends.
  const std::unique_ptr<TaskActor> actor = std::move(found->second);
  tasks_.erase(found);
  *tasks_gauge_ = static_cast<int>(tasks_.size());
  logs_->forget(task);
  co_await actor->stop();
  const Result<void> unlogged = co_await ports_.sandbox.remove_log(task.value);
  if (!unlogged)
    log::warn("output not removed", {{"task", task.value}, {"error", unlogged.error().message}});
  const Result<void> forgotten =
      co_await on_pool(ports_.pool, [file = state_file(task)] { return remove_tree(file); });
  if (!forgotten)
    log::warn("task's state not removed",
              {{"task", task.value}, {"error", forgotten.error().message}});
}

}  // namespace hob::host
