#include "cluster/service_decision.h"

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

#include "cluster/deployment_failure.h"
#include "cluster/routes.h"
#include "cluster/task_state.h"

namespace hob::cluster {

namespace {

// One decision being made: the view sorted into what the rules ask for.
class Decision {
 public:
  Decision(const ServiceView& view, Instant now) : view_(view), service_(view.service), now_(now) {
    for (const Task& task : view.tasks) tasks_.push_back(&task);
    std::ranges::sort(tasks_, {},
                      [](const Task* task) { return std::tie(task->created_at, task->id); });
    desired_ = service_.status == ServiceStatus::kActive ? std::max(0, service_.desired_count) : 0;
  }

  std::vector<ServiceAction> run() {
    judge_newest();
    choose_target();
    choose_base();
    choose_refused();
    choose_kept();
    pin_image();
    end_drained();
    end_never_healthy();
    replace_and_grow();
    shrink();
    finish_rollout();
    drop_deployments();
    forget_stopped();
    remove_service();
    if (wake_) actions_.push_back(WakeAt{*wake_});
    return std::move(actions_);
  }

 private:
  // ---- questions ----
  bool newest(const Deployment& deployment) const {
    return &deployment == &service_.deployments.front();
  }
  bool lost(const Task& task) const {
    return !task.host.empty() && view_.lost_hosts.contains(task.host);
  }
  // The longest that a request may take which it still has.
  Duration drain_max(const Task& task) const {
    const auto of = std::ranges::find(service_.deployments, task.deployment, &Deployment::id);
    const Duration timeout = of != service_.deployments.end()
                                 ? settings_of(service_, *of).request_timeout
                                 : service_.routing.request_timeout;
    return timeout == Duration(0) ? kDrainMax : std::min(timeout, kDrainMax);
  }
  // Told to stop, or ended, in this decision too.
  bool wanted(const Task& task) const { return is_wanted(task) && !ended_.contains(task.id); }
  // Wanted, but not to be counted on: its host is away, or it has been unhealthy for longer than a
  // restart takes.
  bool lame(const Task& task) const {
    if (lost(task)) return true;
    return task.unhealthy_since && now_ - *task.unhealthy_since >= kReplaceUnhealthyAfter;
  }
  bool healthy(const Task& task) const { return wanted(task) && is_healthy(task) && !lost(task); }
  Traffic traffic(const Task& task) const {
    const auto found = view_.traffic.find(task.id);
    if (found != view_.traffic.end()) return found->second;
    return Traffic{.ready = false, .gone = view_.edges_settled};
  }
  bool serving(const Task& task) const { return healthy(task) && traffic(task).ready; }
  bool of_target(const Task& task) const {
    return target_ != nullptr && task.deployment == target_->id && runs_image_of(task, *target_);
  }
  bool of_base(const Task& task) const { return base_ != nullptr && task.deployment == base_->id; }
  // Of a version that is only the way back, or was: it takes part in nothing.
  bool retired(const Task& task) const { return retired_.contains(task.deployment); }
  // There are to be as many of these as are desired; others go.
  bool stays(const Task& task) const { return of_target(task) || (shifts_ && of_base(task)); }
  // Of a version that failed while requests were shifted to it: it gets none as long as another has
  // a task (weights_of).
  bool refused(const Task& task) const { return refused_.contains(task.deployment); }
  // False for one that found another image under the tag: its host was lost while it pulled, and
  // came back.
  static bool runs_image_of(const Task& task, const Deployment& deployment) {
    return task.image_digest.empty() || deployment.image_digest.empty() ||
           task.image_digest == deployment.image_digest;
  }
  template <class F>
  int count(F&& wanted_one) const {
    return static_cast<int>(
        std::ranges::count_if(tasks_, [&](const Task* task) { return wanted_one(*task); }));
  }
  // Tasks that serve, of any deployment: what must not fall below L. One that requests are shifted
  // to does not count for the others: it may have none yet. One of a version that failed counts
  // where there is no other.
  int serving_count() const {
    const auto serves = [&](const Task& task) {
      return serving(task) && !retired(task) && !(shifts_ && of_target(task));
    };
    const int others = count([&](const Task& task) { return serves(task) && !refused(task); });
    return others > 0 ? others : count(serves);
  }

  // ---- effects ----
  void wake_at(Instant at) {
    if (at <= now_) at = now_ + Duration(1);
    if (!wake_ || at < *wake_) wake_ = at;
  }
  void stop(const Task& task, std::string reason) {
    if (!ended_.insert(task.id).second) return;
    actions_.push_back(StopTask{.task = task.id, .reason = std::move(reason)});
  }
  // Out of the routes first if requests may reach it; a task that no edge knows is stopped at once.
  void end(const Task& task) {
    if (ended_.contains(task.id)) return;
    const bool may_get_requests = is_healthy(task) || !traffic(task).gone;
    if (!may_get_requests) return stop(task, scaling_reason(task));
    ended_.insert(task.id);
    draining_.insert(task.id);
    actions_.push_back(DrainTask{task.id});
  }
  static std::string scaling_reason(const Task& task) {
    return "Scaling activity initiated by (deployment " + task.deployment.value + ")";
  }

  // ---- the rules, in order ----

  void judge_newest() {
    if (service_.deployments.empty() || service_.status != ServiceStatus::kActive) return;
    const Deployment& newest = service_.deployments.front();
    const Failures failures = failures_of(newest.id, tasks_);
    if (failures.count != newest.failed_tasks) {
      actions_.push_back(CountFailures{.deployment = newest.id, .failed_tasks = failures.count});
    }
    if (newest.rollout != RolloutState::kInProgress) return;
    judge_traffic(newest);
    if (newest_failed_ || failures.count == 0) return;
    if (failures.count < kFailedTasksMax && !is_permanent_failure(*failures.last)) return;
    fail(newest, explained(*failures.last, newest.task), failures.last->last_lines);
  }

  void fail(const Deployment& newest, std::string reason, std::vector<std::string> last_lines) {
    newest_failed_ = true;
    actions_.push_back(FailDeployment{
        .deployment = newest.id, .reason = std::move(reason), .last_lines = std::move(last_lines)});
  }

  // Of a version that has got requests, beside one that can take them back.
  void judge_traffic(const Deployment& newest) {
    const Deployment* before = base_of(service_);
    if (before == nullptr || newest.step <= 0) return;
    for (const Task* task : tasks_) {
      if (task->deployment != newest.id || !wanted(*task) || lost(*task) || !lame(*task)) continue;
      return fail(newest,
                  fmt::format("{}: it was healthy, and is not since {} s",
                              task->unhealthy_reason.empty() ? std::string(kReasonUnhealthy)
                                                             : task->unhealthy_reason,
                              kReplaceUnhealthyAfter / std::chrono::seconds(1)),
                  task->last_lines);
    }
    const auto outcomes = [this](const Deployment& of) {
      const auto found = view_.outcomes.find(of.id);
      return found == view_.outcomes.end() ? VersionOutcomes{} : found->second;
    };
    if (auto reason = errors_rose(outcomes(newest), outcomes(*before)))
      fail(newest, std::move(*reason), {});
  }

  // The newest deployment, unless it failed; then the newest completed one goes on. Where none was
  // completed, one that was overtaken in its rollout goes on if it serves: stopping it would help
  // nobody.
  void choose_target() {
    for (const Deployment& deployment : service_.deployments) {
      const bool completed =
          deployment.rollout == RolloutState::kCompleted && !deployment.kept_since;
      const bool in_progress =
          newest(deployment) && deployment.rollout == RolloutState::kInProgress && !newest_failed_;
      if (!completed && !in_progress) continue;
      target_ = &deployment;
      return;
    }
    for (const Deployment& deployment : service_.deployments) {
      if (deployment.rollout != RolloutState::kInProgress || newest(deployment)) continue;
      const bool serves =
          count([&](const Task& t) { return t.deployment == deployment.id && is_healthy(t); }) > 0;
      if (!serves) continue;
      target_ = &deployment;
      return;
    }
    desired_ = 0;  // nothing ever worked: nothing is run
  }

  // What a rollout takes over from, and goes back to.
  void choose_base() {
    if (target_ == nullptr || target_->rollout != RolloutState::kInProgress) return;
    base_ = base_of(service_);
    if (base_ == nullptr) return;
    const bool shifts = target_->configuration.strategy != DeploymentStrategy::kRolling;
    const bool has_tasks =
        count([&](const Task& task) { return task.deployment == base_->id && wanted(task); }) > 0;
    // Where nothing serves there is nobody to take requests from step by step.
    shifts_ = shifts && (target_->step > 0 || has_tasks);
  }

  void choose_refused() {
    for (const Deployment& deployment : service_.deployments) {
      const bool failed =
          deployment.rollout == RolloutState::kFailed || (newest(deployment) && newest_failed_);
      if (failed && &deployment != target_ &&
          deployment.configuration.strategy != DeploymentStrategy::kRolling)
        refused_.insert(deployment.id);
    }
  }

  // Ways back, as long as nobody needs their room: a rollout is one that may.
  void choose_kept() {
    for (const Deployment& deployment : service_.deployments) {
      if (!deployment.kept_since || &deployment == target_) continue;
      retired_.insert(deployment.id);
      const Instant until = *deployment.kept_since + service_.keep_previous;
      if (base_ != nullptr || view_.crowded || desired_ == 0 || now_ >= until) continue;
      kept_.insert(deployment.id);
      wake_at(until);
    }
  }

  // The oldest task that knows counts: the first one, but for records of versions that did not pin.
  void pin_image() {
    if (target_ == nullptr || names_digest(*target_)) return;
    const auto knows = [&](const Task* task) {
      return of_target(*task) && !task->image_digest.empty();
    };
    if (const auto first = std::ranges::find_if(tasks_, knows); first != tasks_.end()) {
      actions_.push_back(PinImage{.deployment = target_->id, .digest = (*first)->image_digest});
      return;
    }
    // A host that runs a task and does not say what of will not say it later.
    image_known_ = count([&](const Task& task) { return of_target(task) && task.was_healthy; }) > 0;
  }

  void end_drained() {
    for (const Task* task : tasks_) {
      if (!is_present(*task) || task->desired != link::DesiredStatus::kRunning ||
          !task->draining_since)
        continue;
      const Instant deadline = *task->draining_since + drain_max(*task);
      if (traffic(*task).gone || now_ >= deadline)
        stop(*task, scaling_reason(*task));
      else
        wake_at(deadline);
    }
  }

  void end_never_healthy() {
    for (const Task* task : tasks_) {
      if (!wanted(*task) || task->was_healthy) continue;
      if (task->health == Health::kUnhealthy) {
        failed_now_ = true;
        // The host's words, which say what it found: the port that does listen, say.
        stop(*task, task->unhealthy_reason.empty() ? std::string(kReasonUnhealthy)
                                                   : task->unhealthy_reason);
      } else if (now_ - task->created_at >= kTaskStartMax) {
        failed_now_ = true;
        stop(*task, fmt::format("{}: {} minutes", kReasonStartTimeout,
                                kTaskStartMax / std::chrono::minutes(1)));
      } else {
        wake_at(task->created_at + kTaskStartMax);
      }
    }
  }

  void replace_and_grow() {
    for (const Task* task : tasks_) {  // a task becomes lame by the mere passing of time
      if (wanted(*task) && task->unhealthy_since) {
        const Instant at = *task->unhealthy_since + kReplaceUnhealthyAfter;
        if (at > now_) wake_at(at);
      }
    }
    // What failed in this decision is judged in the next, before anything takes its place.
    if (target_ == nullptr || failed_now_) return;
    grow(*target_, image_known_ ? desired_ : std::min(desired_, 1));
    if (shifts_) grow(*base_, desired_);
  }

  void grow(const Deployment& deployment, int tasks) {
    const auto of = [&](const Task& task) {
      return task.deployment == deployment.id && stays(task);
    };
    const int sound =
        count([&](const Task& task) { return of(task) && wanted(task) && !lame(task); });
    // A lost host's tasks take no room where new ones can go.
    const int alive =
        count([&](const Task& task) { return wanted(task) && !lost(task) && !retired(task); });
    const int missing = tasks - sound;
    if (missing <= 0) return;
    const std::optional<Instant> at = may_start_at(deployment);
    if (at && *at > now_) return wake_at(*at);
    // By weights, both versions have all their tasks.
    const int most = shifts_ ? 2 * desired_ : tasks_max(service_);
    const int room = most - alive - started_;
    short_of_room_ = missing - std::max(room, 0);
    if (room <= 0) return make_room();
    for (int i = 0; i < std::min({missing, room, kStartsPerStepMax}); ++i) {
      actions_.push_back(StartTask{deployment.id});
      ++started_;
    }
    if (std::min(missing, room) > kStartsPerStepMax) wake_at(now_);
  }

  // Of a deployment that once worked, starts that fail are not repeated at full speed. nullopt: no
  // reason to wait.
  std::optional<Instant> may_start_at(const Deployment& deployment) const {
    const Failures failures = failures_of(deployment.id, tasks_);
    if (failures.count < kFailedTasksMax || !failures.last->stopped_at) return std::nullopt;
    Duration delay = kRestartDelayMin;
    for (int i = kFailedTasksMax; i < failures.count && delay < kRestartDelayMax; ++i) delay *= 2;
    return *failures.last->stopped_at + std::min(delay, kRestartDelayMax);
  }

  // There are as many tasks as there may be, and not the right ones: one that does not serve makes
  // way.
  void make_room() {
    for (const Task* task : tasks_) {
      if (!wanted(*task) || healthy(*task) || lost(*task) || retired(*task)) continue;
      if (lame(*task) || !stays(*task)) return end(*task);
    }
  }

  // Ends old tasks, lame ones that have been replaced, and surplus, never going below L healthy
  // ones.
  void shrink() {
    struct Sound {
      int all = 0;
      int serving = 0;
    };
    std::map<DeploymentId, Sound> sound;
    int kept_now = 0;
    for (const Task* task : tasks_) {
      if (wanted(*task) && kept_.contains(task->deployment)) ++kept_now;
      if (!stays(*task) || !wanted(*task) || lame(*task)) continue;
      ++sound[task->deployment].all;
      if (serving(*task)) ++sound[task->deployment].serving;
    }
    int serving_now = serving_count();
    const bool refused_serve = count([&](const Task& task) {
                                 return serving(task) && !retired(task) && !refused(task);
                               }) == 0;
    const int keep = healthy_min_now();
    for (const Task* task : in_order_of_ending()) {
      if (!wanted(*task)) continue;
      if (retired(*task)) {
        const bool stays_kept = kept_.contains(task->deployment);
        if (stays_kept && kept_now <= desired_ && !lame(*task)) continue;
        if (stays_kept) --kept_now;
        end(*task);
        continue;
      }
      if (refused(*task) && !refused_serve) {
        end(*task);  // at once: others may need its room
        continue;
      }
      const bool old = !stays(*task);
      const bool counted = serving(*task);
      Sound& mine = sound[task->deployment];
      if (!old && lame(*task)) {
        if (mine.serving < desired_) continue;  // its replacement first
      } else if (!old) {
        if (mine.all <= desired_) continue;
      } else if (of_base(*task) && service_.keep_previous > Duration(0) && !lame(*task)) {
        if (short_of_room_ <= 0) continue;  // it will be the way back
      }
      const bool apart = shifts_ && !old;
      if (counted && (apart ? mine.serving : serving_now) - 1 < keep) continue;
      // Some edges may send it requests, or nobody can tell, its host being lost: it goes when
      // enough others serve.
      const bool may_serve = healthy(*task) || (old && lost(*task));
      if (!counted && may_serve && serving_now < keep) continue;
      if (counted && !(shifts_ && of_target(*task))) --serving_now;
      if (old && of_base(*task)) --short_of_room_;
      if (!old && !lame(*task)) {
        --mine.all;
        if (counted) --mine.serving;
      }
      end(*task);
    }
  }

  // L, of what is still desired.
  int healthy_min_now() const {
    if (desired_ == 0) return 0;
    return healthy_min(service_);
  }

  // Old before new, what does not serve before what does, what sleeps before what is awake, the
  // fullest zone first, then the newest.
  std::vector<const Task*> in_order_of_ending() const {
    std::map<std::string, int> in_zone;
    for (const Task* task : tasks_) {
      if (wanted(*task) && stays(*task)) ++in_zone[task->zone];
    }
    std::vector<const Task*> left(tasks_.begin(), tasks_.end());
    std::vector<const Task*> order;
    // A zone's count falls with each that is taken, so each is chosen anew. Tasks of one service:
    // some tens.
    while (!left.empty()) {
      const auto rank = [&](const Task* task) {
        return std::tuple(stays(*task), healthy(*task), serving(*task), !task->asleep,
                          -in_zone[task->zone], -task->created_at.time_since_epoch().count(),
                          task->id);
      };
      const auto next = std::ranges::min_element(left, {}, rank);
      if (stays(**next)) --in_zone[(*next)->zone];
      order.push_back(*next);
      left.erase(next);
    }
    return order;
  }

  void finish_rollout() {
    if (target_ == nullptr || target_->rollout != RolloutState::kInProgress) return;
    if (service_.status != ServiceStatus::kActive) return;
    const int ready = count([&](const Task& task) { return of_target(task) && serving(task); });
    if (ready < desired_) return;
    if (shifts_) {
      const TrafficNext next = decide_traffic(*target_, now_);
      if (next.at) wake_at(*next.at);
      if (next.step)
        actions_.push_back(ShiftTraffic{.deployment = target_->id, .step = *next.step});
      if (!next.done) return;
    } else if (others_left()) {
      return;
    }
    completed_now_ = true;
    actions_.push_back(CompleteDeployment{target_->id});
    if (base_ != nullptr && service_.keep_previous > Duration(0))
      actions_.push_back(KeepDeployment{base_->id});
  }

  // Tasks of other versions that are neither kept nor told to stop.
  bool others_left() const {
    return std::ranges::any_of(tasks_, [&](const Task* task) {
      if (of_target(*task) || !is_present(*task)) return false;
      if (of_base(*task) && service_.keep_previous > Duration(0) && wanted(*task)) return false;
      const bool told_to_stop = task->desired == link::DesiredStatus::kStopped ||
                                (ended_.contains(task->id) && !draining_.contains(task->id));
      return !told_to_stop;
    });
  }

  void drop_deployments() {
    bool completed_seen = false;
    for (const Deployment& deployment : service_.deployments) {
      const bool is_target = &deployment == target_;
      const bool completed =
          (deployment.rollout == RolloutState::kCompleted && !deployment.kept_since) ||
          (is_target && completed_now_);
      const bool stays = newest(deployment) || is_target || (completed && !completed_seen);
      completed_seen = completed_seen || completed;
      if (stays) continue;
      const bool has_tasks = std::ranges::any_of(tasks_, [&](const Task* task) {
        return task->deployment == deployment.id && is_present(*task) &&
               !(lost(*task) && task->desired == link::DesiredStatus::kStopped);
      });
      if (!has_tasks) actions_.push_back(DropDeployment{deployment.id});
    }
  }

  void forget_stopped() {
    std::vector<const Task*> stopped;
    for (const Task* task : tasks_) {
      if (!is_present(*task)) stopped.push_back(task);
    }
    std::ranges::sort(stopped, std::greater{}, [](const Task* task) {
      return std::tuple(task->stopped_at.value_or(task->created_at), task->id);
    });
    for (size_t i = 0; i < stopped.size(); ++i) {
      const Instant until =
          stopped[i]->stopped_at.value_or(stopped[i]->created_at) + kStoppedTaskKept;
      if (i >= kStoppedTasksMax || now_ >= until || service_.status != ServiceStatus::kActive) {
        actions_.push_back(ForgetTask{stopped[i]->id});
      } else {
        wake_at(until);
      }
    }
  }

  // Once nothing runs. What a lost host has is stopped when it comes back, with or without this
  // record.
  void remove_service() {
    if (service_.status == ServiceStatus::kActive) return;
    const bool running = std::ranges::any_of(tasks_, [&](const Task* task) {
      return is_present(*task) && !(lost(*task) && task->desired == link::DesiredStatus::kStopped);
    });
    if (!running) actions_.push_back(RemoveService{});
  }

  const ServiceView& view_;
  const Service& service_;
  const Instant now_;
  std::vector<const Task*> tasks_;  // oldest first
  int desired_ = 0;
  const Deployment* target_ = nullptr;  // whose tasks there should be
  const Deployment* base_ = nullptr;    // while target_ is rolled out: what it takes over from
  bool shifts_ = false;                 // by weights, the base's tasks staying
  std::set<DeploymentId> refused_;      // failed, and get no requests while another has a task
  std::set<DeploymentId> retired_;      // ways back, and those that are none any more
  std::set<DeploymentId> kept_;         // of these, those that are
  int started_ = 0;                     // by this decision
  int short_of_room_ = 0;               // tasks that must go before the target can have its own
  bool newest_failed_ = false;
  bool failed_now_ = false;
  bool completed_now_ = false;
  bool image_known_ = true;    // which one the target's tasks run
  std::set<TaskId> ended_;     // drained or stopped by this decision
  std::set<TaskId> draining_;  // of these, drained
  std::vector<ServiceAction> actions_;
  std::optional<Instant> wake_;
};

}  // namespace

int healthy_min(const Service& service) {
  const int64_t product = int64_t{service.desired_count} * service.minimum_healthy_percent;
  return static_cast<int>((product + 99) / 100);
}

int tasks_max(const Service& service) {
  const int64_t product = int64_t{service.desired_count} * service.maximum_percent;
  return static_cast<int>(product / 100);
}

std::vector<ServiceAction> decide_service(const ServiceView& view, Instant now) {
  return Decision(view, now).run();
}

}  // namespace hob::cluster
