#include "cluster/service_changes.h"

#include <algorithm>
#include <type_traits>
#include <utility>
#include <variant>

#include "base/assert.h"
#include "base/log.h"

namespace hob::cluster {

namespace {

class Applying {
 public:
  Applying(const ServiceView& view, Instant now, Random& random)
      : service_(view.service), view_(view), now_(now), random_(random) {}

  void operator()(const StartTask& action) {
    const Deployment& from = deployment(action.deployment);
    Task task{.id = TaskId{random_hex(random_, 32)},
              .account = service_.account,
              .cluster = service_.cluster,
              .service = service_.name,
              .deployment = from.id,
              .cpu = from.task.cpu,
              .memory_mib = from.task.memory_mib,
              .created_at = now_,
              .isolation = from.task.isolation};
    log::info("task created",
              {{"task", task.id.value}, {"service", task.service}, {"deployment", from.id.value}});
    put_.push_back(std::move(task));
  }
  void operator()(const DrainTask& action) { task(action.task).draining_since = now_; }
  void operator()(const StopTask& action) {
    Task& stopped = task(action.task);
    stopped.desired = link::DesiredStatus::kStopped;
    stopped.stop_code = action.code;
    stopped.stopped_reason = action.reason;
    if (stopped.host.empty()) {  // nobody else has to do anything
      stopped.status = TaskStatus::kStopped;
      stopped.stopped_at = now_;
    }
    log::info(
        "task stopping",
        {{"task", stopped.id.value}, {"service", stopped.service}, {"reason", action.reason}});
  }
  void operator()(const ForgetTask& action) { changes.remove.push_back(action.task); }
  void operator()(const PinImage& action) {
    written(action.deployment).image_digest = action.digest;
    log::info("image pinned", {{"service", service_.name},
                               {"deployment", action.deployment.value},
                               {"digest", action.digest}});
  }
  void operator()(const CountFailures& action) {
    written(action.deployment).failed_tasks = action.failed_tasks;
  }
  void operator()(const ShiftTraffic& action) {
    Deployment& shifted = written(action.deployment);
    shifted.step = action.step;
    shifted.step_at = now_;
    log::info("traffic shifted", {{"service", service_.name},
                                  {"deployment", shifted.id.value},
                                  {"percent", percent_of(shifted)}});
  }
  void operator()(const KeepDeployment& action) { written(action.deployment).kept_since = now_; }
  void operator()(const CompleteDeployment& action) {
    Deployment& done = written(action.deployment);
    done.rollout = RolloutState::kCompleted;
    done.ended_at = now_;
    log::info("deployment completed", {{"service", service_.name}, {"deployment", done.id.value}});
  }
  void operator()(const FailDeployment& action) {
    Deployment& failed = written(action.deployment);
    failed.rollout = RolloutState::kFailed;
    failed.reason = action.reason;
    failed.last_lines = action.last_lines;
    failed.ended_at = now_;
    log::warn(
        "deployment failed",
        {{"service", service_.name}, {"deployment", failed.id.value}, {"reason", action.reason}});
  }
  void operator()(const DropDeployment& action) {
    service_changed_ = true;
    std::erase_if(service_.deployments,
                  [&](const Deployment& d) { return d.id == action.deployment; });
  }
  void operator()(const RemoveService&) {
    changes.remove_service = true;
    log::info("service removed", {{"service", service_.name}});
  }
  void operator()(const WakeAt& action) { changes.wake_at = action.at; }

  ServiceChanges finish() {
    if (service_changed_ && !changes.remove_service) changes.service = std::move(service_);
    changes.put = std::move(put_);
    return std::move(changes);
  }

 private:
  Deployment& deployment(const DeploymentId& id) {
    const auto found = std::ranges::find(service_.deployments, id, &Deployment::id);
    HOB_ASSERT(found != service_.deployments.end());
    return *found;
  }
  Deployment& written(const DeploymentId& id) {
    service_changed_ = true;
    return deployment(id);
  }
  Task& task(const TaskId& id) {
    if (const auto mine = std::ranges::find(put_, id, &Task::id); mine != put_.end()) return *mine;
    const auto found = std::ranges::find(view_.tasks, id, &Task::id);
    HOB_ASSERT(found != view_.tasks.end());
    return put_.emplace_back(*found);
  }

  ServiceChanges changes{};
  Service service_;
  const ServiceView& view_;
  Instant now_;
  Random& random_;
  bool service_changed_ = false;
  std::vector<Task> put_;
};

}  // namespace

ServiceChanges changes_of(const ServiceView& view, const std::vector<ServiceAction>& actions,
                          Instant now, Random& random) {
  Applying applying(view, now, random);
  for (const ServiceAction& action : actions) std::visit(applying, action);
  return applying.finish();
}

}  // namespace hob::cluster
