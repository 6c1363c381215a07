#include "host/log_shipper.h"

#include <algorithm>
#include <vector>

#include "base/log.h"
#include "host/log_reader.h"

namespace hob::host {

LogShipper::LogShipper(Agent& agent, Metrics& metrics)
    : agent_(agent),
      wake_(agent.executor_),
      lines_(
          metrics.counter("hob_host_log_lines_total", "Lines of tasks' output sent to control.")) {}

Async<> LogShipper::run() {
  Duration delay = kLogPollMin;
  for (;;) {
    wake_.reset();
    std::vector<TaskId> tasks;
    for (const auto& [task, actor] : agent_.tasks_) tasks.push_back(task);
    bool sent = false;
    for (const TaskId& task : tasks) {
      if (co_await ship(task)) sent = true;
    }
    delay = sent ? kLogPollMin : std::min(delay * 2, kLogPollMax);
    const bool acked = co_await wake_.wait_for(delay);
    if (acked) delay = kLogPollMin;
  }
}

void LogShipper::connected() {
  waiting_.clear();
  drained_.clear();
  wake_.set();
}

void LogShipper::ack(const link::LogAck& ack) {
  for (auto& [task, actor] : agent_.tasks_) {
    const auto& containers = actor->view().assignment.containers;
    if (containers.empty() || containers.front().log_stream != ack.stream ||
        containers.front().log_group != ack.group) {
      continue;
    }
    if (!waiting_.contains(task) || ack.position < actor->log_sent().position) return;
    actor->set_log_acked(actor->log_sent());
    waiting_.erase(task);
    wake_.set();
    return;
  }
}

void LogShipper::forget(const TaskId& task) {
  waiting_.erase(task);
  drained_.erase(task);
}

Async<bool> LogShipper::ship(TaskId task) {
  const auto find = [&]() -> TaskActor* {
    const auto found = agent_.tasks_.find(task);
    return found == agent_.tasks_.end() ? nullptr : found->second.get();
  };
  TaskActor* actor = find();
  if (actor == nullptr || !agent_.session_ || waiting_.contains(task)) co_return false;
  const link::Assignment& assignment = actor->view().assignment;
  if (assignment.containers.empty() || assignment.containers.front().log_group.empty()) {
    drained_.insert(task);
    co_return false;
  }
  link::LogBatch batch{.account = assignment.account,
                       .group = assignment.containers.front().log_group,
                       .stream = assignment.containers.front().log_stream};
  // Whether it had ended before the look: what it wrote until then is what there is.
  const bool was_done = actor->done();
  const LogPosition from = actor->log_acked();
  const bool repeats = actor->log_sent().position > from.position;
  const int64_t until = repeats ? actor->log_sent().position : INT64_MAX;
  const std::filesystem::path path = agent_.ports_.sandbox.log_path(task.value);
  Result<ReadLines> read = co_await on_pool(
      agent_.ports_.pool, [path, from, until] { return read_lines(path, from, until); });
  actor = find();
  if (actor == nullptr || !agent_.session_ || waiting_.contains(task)) co_return false;
  if (!read) {
    log::warn("output not read", {{"task", task.value}, {"error", read.error().message}});
    co_return false;
  }
  if (read->next == from) {
    // What was sent and never acknowledged is not there any more: it cannot be repeated.
    if (repeats) {
      const Busy busy(*this, task);
      co_await actor->set_log_sent(from);
    } else if (was_done) {
      drained_.insert(task);
    }
    co_return false;
  }
  if (read->lines.empty()) {  // nothing but what is not in the format
    actor->set_log_acked(read->next);
    co_return true;
  }
  batch.position = read->next.position;
  batch.lines = std::move(read->lines);
  const std::shared_ptr<link::Session> session = agent_.session_;
  waiting_.insert(task);
  {
    const Busy busy(*this, task);
    co_await actor->set_log_sent(read->next);
  }
  if (agent_.session_ != session) co_return false;  // a new link: connected() has started all over
  lines_.add(batch.lines.size());
  // A link that has ended is seen by its reader; the batch is read again on the next.
  (void)session->send(link::encode(batch));
  co_return true;
}

}  // namespace hob::host
