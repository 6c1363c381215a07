#include "runner/decide.h"

#include <algorithm>

#include "cluster/routes.h"
#include "cluster/service_decision.h"
#include "runner/cluster_service.h"
#include "runner/extensions.h"
#include "runner/rollout.h"

namespace hob::runner {

static_assert(kRolloutTimeMax >=
              cluster::kFailedTasksMax * cluster::kTaskStartMax + cluster::kDrainMax);
static_assert(kStopTimeMax > cluster::kDrainMax);

namespace {

using cluster::RolloutState;

const char* trigger(OperationType type) {
  switch (type) {
    case OperationType::kCreateService:
      return "SERVICE_CREATE";
    case OperationType::kUpdateService:
      return "SERVICE_UPDATE";
    case OperationType::kStartDeployment:
      return "MANUAL_DEPLOYMENT";
    case OperationType::kResumeService:
      return "SERVICE_RESUME";
    case OperationType::kPauseService:
      return "SERVICE_PAUSE";
    case OperationType::kDeleteService:
      return "SERVICE_DELETE";
  }
  return "";
}

const char* doing(OperationType type) {
  switch (type) {
    case OperationType::kCreateService:
      return "Service creation";
    case OperationType::kUpdateService:
      return "Service update";
    case OperationType::kStartDeployment:
      return "Deployment";
    case OperationType::kResumeService:
      return "Service resume";
    case OperationType::kPauseService:
      return "Service pause";
    case OperationType::kDeleteService:
      return "Service deletion";
  }
  return "";
}

// Collects one decision; the records are copies that change as it goes.
class Decision {
 public:
  Decision(const RunnerView& view, Instant now)
      : view_(view), now_(now), service_(view.service), operation_(view.operation) {}

  std::vector<RunnerAction> decide();

 private:
  void decide_idle();
  void decide_operation();
  // Its rollout has, whether or not that was seen before.
  bool has_completed() const;
  void begin_operation();
  // The image is known, or needs none: writes the cluster service with the new deployment in front.
  void apply_rollout();
  // Its source is still to be made into an image.
  bool needs_build() const;
  void follow_build();
  void begin_build();
  link::BuildOrder build_order() const;
  // The lines that came since; true: all of the report's are kept.
  bool take_lines(const link::BuildReport& report);
  void fail_build(const std::string& reason);
  void tell_start();
  void apply_resume();
  // image_digest: what the image's tag meant when it ran last, if that is what shall run again.
  void put_deployment(cluster::TaskTemplate task, std::string image_digest = {});
  const cluster::Deployment* own_deployment() const;  // nullptr: cluster has none (any more)
  void follow_rollout();
  // Somebody asked the operation to end: undoes what it did.
  void cancel();
  void fail_deployment(const std::string& reason);
  // What it deploys gets its number, before anything else knows of it.
  void number_revision();
  void put_revision(RevisionState state, std::string digest);
  void note_step(const cluster::Deployment& mine);
  // Somebody wants the rest of its steps left out. False: nothing is to be written.
  bool promote(const cluster::Deployment& mine);
  // What now serves becomes a revision.
  void make_revision(const cluster::Deployment& serves);
  void follow_pause();
  void follow_delete();
  void succeed(ServiceStatus status);
  void fail_rollout(const std::string& reason, const std::vector<std::string>& last_lines);
  void end_operation(OperationStatus status, const std::string& reason);
  void keep_in_step();
  int desired_count(bool rolling_out);
  void tell_of_starts(const Starts& starts);

  void event(std::string line) { lines_.events.push_back("[AppRunner] " + std::move(line)); }
  void detail(std::string line) { lines_.deployment.push_back("[AppRunner] " + std::move(line)); }
  void set_status(ServiceStatus status) {
    service_.status = status;
    event(fmt::format("Service status is set to {}.", word(status)));
  }
  void put_cluster(cluster::Service service) { cluster_ = std::move(service); }
  bool overdue(Duration limit) {
    const Instant deadline = operation_->started_at + limit;
    if (now_ >= deadline) return true;
    wake_at(deadline);
    return false;
  }
  void wake_at(Instant at) { wake_at_ = wake_at_ ? std::min(*wake_at_, at) : at; }
  std::vector<RunnerAction> actions();

  const RunnerView& view_;
  const Instant now_;
  Service service_;
  std::optional<Operation> operation_;
  std::optional<cluster::Service> cluster_{};  // to be written
  std::optional<Revision> revision_{};         // likewise
  std::optional<AmendRevision> amended_{};
  LogLines lines_{};
  bool changed_ = false;  // the service and its operation are to be written
  bool resolve_ = false;
  bool release_name_ = false;
  bool forget_ = false;
  std::optional<link::BuildOrder> order_{};
  std::string end_build_{};
  std::optional<WatchLoad> watch_{};
  std::optional<Instant> wake_at_{};
};

std::vector<RunnerAction> Decision::decide() {
  if (service_.status == ServiceStatus::kDeleted) {
    const Instant forgotten_at = service_.deleted_at.value_or(service_.updated_at) + kDeletedKept;
    if (now_ >= forgotten_at)
      forget_ = true;
    else
      wake_at(forgotten_at);
  } else if (operation_) {
    decide_operation();
  } else {
    decide_idle();
  }
  return actions();
}

void Decision::decide_idle() {
  if (service_.status != ServiceStatus::kRunning) return;
  keep_in_step();
  if (service_.configuration.code) return;  // what its branch holds is not seen here
  if (!service_.configuration.auto_deployments.value_or(false)) return;
  if (!view_.image) {
    resolve_ = true;
    return;
  }
  const Result<ResolvedImage>& image = *view_.image;
  if (!image) {
    // A tag that was deleted deploys nothing; one that cannot be read now is asked again later.
    if (image.error().code == Code::kUnavailable) wake_at(now_ + kResolveRetryDelay);
    return;
  }
  if (image->digest.empty() || image->digest == service_.digest_tried) return;
  // Tried, whatever becomes of it: one that is cancelled before it began is not begun again.
  service_.digest_tried = image->digest;
  operation_ = Operation{.id = view_.operation_id,
                         .account = service_.account,
                         .service = service_.id,
                         .type = OperationType::kStartDeployment,
                         .status = OperationStatus::kPending,
                         .started_at = now_,
                         .updated_at = now_};
  service_.operation = operation_->id;
  service_.updated_at = now_;
  event(fmt::format("A new version of {} was found, which is deployed automatically.",
                    service_.configuration.image));
  set_status(ServiceStatus::kOperationInProgress);
  changed_ = true;
}

void Decision::keep_in_step() {
  if (!view_.cluster) return;
  cluster::Service wanted = *view_.cluster;
  const bool rolling_out = operation_ && !operation_->ended_at;
  bool changed = settle_settings(wanted);
  if (rolling_out) {
    changed |= follow_tags(wanted, deployment_of(*operation_), request_settings(service_.tags));
  } else if (const cluster::Deployment* serves = last_that_ran(wanted); serves != nullptr) {
    if (follow_tags(wanted, serves->id, request_settings(service_.tags))) {
      changed = true;
      if (serves->revision > 0)
        amended_ = AmendRevision{.number = serves->revision, .settings = *serves->settings};
    }
  }
  wanted.desired_count = desired_count(rolling_out);
  wanted.routing = routing_of(service_, view_.scaling, link::RouteState::kServing);
  wanted.keep_previous = keep_previous_of(service_);
  set_bounds(wanted, strategy_of(service_, operation_.value_or(Operation{})));
  if (!changed && wanted.routing == view_.cluster->routing &&
      wanted.desired_count == view_.cluster->desired_count &&
      wanted.keep_previous == view_.cluster->keep_previous &&
      wanted.minimum_healthy_percent == view_.cluster->minimum_healthy_percent &&
      wanted.maximum_percent == view_.cluster->maximum_percent)
    return;
  put_cluster(std::move(wanted));
}

int Decision::desired_count(bool rolling_out) {
  const Starts starts = view_.cluster ? starts_of(*view_.cluster, view_.tasks) : Starts{};
  if (!rolling_out) tell_of_starts(starts);
  watch_ = WatchLoad{.limits = limits_of(service_, view_.scaling),
                     .fleet = {.desired = view_.cluster ? view_.cluster->desired_count : 0,
                               .ready = starts.ready,
                               .starting = starts.starting,
                               .failed_in_row = starts.failed_in_row,
                               .rolling_out = rolling_out,
                               .settled_at = service_.updated_at},
                     .start_time = service_.start_time};
  watch_->plan =
      decide_scale({.limits = watch_->limits, .load = view_.load, .fleet = watch_->fleet}, now_);
  if (watch_->plan.again) wake_at(*watch_->plan.again);
  return watch_->plan.desired;
}

void Decision::tell_of_starts(const Starts& starts) {
  const Duration known = service_.start_time;
  // A quarter more or less is chance, and not worth a write.
  if (starts.start_time > Duration(0) &&
      (starts.start_time > known * 5 / 4 || starts.start_time < known * 3 / 4)) {
    service_.start_time = starts.start_time;
    changed_ = true;
  }
  const bool failing = starts.failed_in_row >= kStartFailuresMax;
  if (failing == service_.starts_failing) return;
  service_.starts_failing = failing;
  changed_ = true;
  if (!failing && starts.ready == 0) return;  // it is another version, or nobody asked for more
  event(failing ? fmt::format("Instances fail to start: {}. One is tried at a time, with longer "
                              "and longer waits between them.",
                              starts.failure.empty() ? "the task stopped" : starts.failure)
                : "Instances start again.");
}

void Decision::decide_operation() {
  if (operation_->cancel_requested_at && !has_completed()) return cancel();
  if (!operation_->applied) {
    begin_operation();
    return;
  }
  if (is_rollout(operation_->type))
    follow_rollout();
  else if (operation_->type == OperationType::kPauseService)
    follow_pause();
  else
    follow_delete();
}

void Decision::begin_operation() {
  switch (operation_->type) {
    case OperationType::kCreateService:
    case OperationType::kUpdateService:
    case OperationType::kStartDeployment:
      apply_rollout();
      return;
    case OperationType::kResumeService:
      apply_resume();
      return;
    case OperationType::kPauseService:
    case OperationType::kDeleteService: {
      const bool pause = operation_->type == OperationType::kPauseService;
      event(fmt::format("{} started.", doing(operation_->type)));
      operation_->status = OperationStatus::kInProgress;
      operation_->updated_at = now_;
      operation_->applied = true;
      changed_ = true;
      if (!view_.cluster) return;  // the next decision finds that nothing runs
      cluster::Service wanted = *view_.cluster;
      wanted.desired_count = 0;
      wanted.routing.state = link::RouteState::kPaused;
      if (!pause) wanted.status = cluster::ServiceStatus::kDraining;
      put_cluster(std::move(wanted));
      return;
    }
  }
}

bool Decision::needs_build() const {
  return service_.configuration.code && operation_->rolls_back_to == 0 &&
         operation_->digest.empty();
}

void Decision::tell_start() {
  event(fmt::format("{} started.", doing(operation_->type)));
  event(fmt::format("Deployment with ID : {} started. Triggering event : {}", operation_->id,
                    trigger(operation_->type)));
  operation_->status = OperationStatus::kInProgress;
  operation_->updated_at = now_;
  changed_ = true;
}

void Decision::begin_build() {
  const CodeSource& code = *service_.configuration.code;
  if (operation_->build_attempts == 0) {
    tell_start();
    detail(
        fmt::format("Deployment Artifact: [Repo Type: Source], [Repository: {}], [Branch: {}], "
                    "[SourceDirectory: {}]",
                    code.repository_url, code.branch, code.source_directory.value_or("/")));
    begin_step(*operation_, "SOURCE_BUILD", now_);
    event("Starting source code build.");
  } else {
    end_build_ = build_of(*operation_);
  }
  ++operation_->build_attempts;
  operation_->build_lines = 0;
  operation_->updated_at = now_;
  changed_ = true;
  order_ = build_order();
}

link::BuildOrder Decision::build_order() const {
  const CodeSource& code = *service_.configuration.code;
  link::BuildOrder order{.build = build_of(*operation_),
                         .account = service_.account,
                         .service = service_.id,
                         .url = code.repository_url,
                         .branch = code.branch,
                         .source_directory = code.source_directory.value_or(""),
                         .lines_taken = operation_->build_lines};
  // It is absolute from the repository's root (the API's reference).
  order.source_directory.erase(0, order.source_directory.find_first_not_of('/'));
  if (!code.from_file) {
    // NODEJS_22 is nodejs22 in the file.
    for (const char c : code.runtime) {
      if (c != '_') order.runtime += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
    order.build_command = code.build_command.value_or("");
    order.start_command = code.start_command.value_or("");
  }
  return order;
}

bool Decision::take_lines(const link::BuildReport& report) {
  const int64_t end = report.first_line + static_cast<int64_t>(report.lines.size());
  if (report.first_line > operation_->build_lines) return false;  // it is told what is kept
  const int64_t until =
      std::min(end, operation_->build_lines + static_cast<int64_t>(kBuildLinesPerStep));
  for (; operation_->build_lines < until; ++operation_->build_lines) {
    const auto at = static_cast<size_t>(operation_->build_lines - report.first_line);
    lines_.deployment.push_back("[Build] " + report.lines[at]);
    changed_ = true;
  }
  return operation_->build_lines >= end;
}

void Decision::follow_build() {
  if (operation_->build_attempts == 0) return begin_build();
  if (overdue(kBuildTimeMax)) {
    fail_build(
        fmt::format("The build took longer than {} minutes.",
                    std::chrono::duration_cast<std::chrono::minutes>(kBuildTimeMax).count()));
    return;
  }
  wake_at(now_ + kBuildAskEvery);
  const bool ours = view_.build && view_.build->build == build_of(*operation_);
  if (!ours) {
    order_ = build_order();
    return;
  }
  const link::BuildReport& report = *view_.build;
  const bool all = take_lines(report);
  if (operation_->commit.empty() && !report.commit.empty()) {
    operation_->commit = report.commit;
    event("Successfully pulled your application source code.");
    changed_ = true;
  }
  if (!all || report.state == link::BuildState::kRunning) {
    order_ = build_order();
    return;
  }
  if (report.state == link::BuildState::kFailed) {
    if (report.again && operation_->build_attempts < kBuildAttemptsMax) {
      detail(fmt::format("The build is tried again: {}", report.reason));
      begin_build();
      return;
    }
    fail_build(report.reason);
    return;
  }
  operation_->digest = report.digest;
  operation_->updated_at = now_;
  if (service_.ever_ran && !service_.previous) {  // what a deployment that fails goes back to
    service_.previous = service_.configuration;
    service_.digest_tried_previous = service_.digest_tried;
  }
  service_.configuration.image = view_.build_image;
  service_.configuration.image_type = "ECR";
  // The file's, where that is what configures it.
  service_.configuration.port = service_.configuration.code->from_file
                                    ? std::to_string(report.port)
                                    : service_.configuration.code->port;
  event("Successfully built your application source code.");
  detail("Successfully built your application source code.");
  end_build_ = build_of(*operation_);
  changed_ = true;
}

void Decision::fail_build(const std::string& reason) {
  event("Failed to build your application source code.");
  const size_t end = std::min(reason.find('\n'), reason.size());
  std::vector<std::string> more;
  for (size_t at = end; at < reason.size();) {
    const size_t next = std::min(reason.find('\n', at + 1), reason.size());
    more.push_back(reason.substr(at + 1, next - at - 1));
    at = next;
  }
  fail_rollout("Failed to build your application source code. Reason: " + reason.substr(0, end),
               more);
}

void Decision::apply_rollout() {
  if (needs_build()) return follow_build();
  if (!view_.image) {
    resolve_ = true;
    return;
  }
  const Result<ResolvedImage>& image = *view_.image;
  const bool built = operation_->build_attempts > 0;
  const Duration resolve_time_max = kResolveTimeMax + (built ? kBuildTimeMax : Duration(0));
  if (!image && image.error().code == Code::kUnavailable && !overdue(resolve_time_max)) {
    wake_at(now_ + kResolveRetryDelay);
    return;
  }
  if (!built) {
    tell_start();
    detail(fmt::format("Deployment Artifact: [Repo Type: {}], [Image URL: {}]",
                       service_.configuration.image_type, service_.configuration.image));
  }
  operation_->updated_at = now_;
  operation_->applied = true;
  changed_ = true;
  if (!image) {
    detail("Failed to resolve the application image.");
    fail_rollout(image.error().message, {});
    return;
  }
  // A roll-back says nothing of the tag: what it names now has been tried.
  if (operation_->rolls_back_to == 0) service_.digest_tried = image->digest;
  auto task = task_template(service_, *image);
  if (!task) {
    fail_rollout(task.error().message, {});
    return;
  }
  const cluster::Deployment* serving = view_.cluster ? last_that_ran(*view_.cluster) : nullptr;
  const bool unchanged = serving != nullptr && serving->rollout == RolloutState::kCompleted &&
                         view_.cluster->status == cluster::ServiceStatus::kActive &&
                         same_template(serving->task, *task) &&
                         cluster::settings_of(*view_.cluster, *serving).protocol ==
                             request_settings(service_.tags).protocol;
  if (operation_->type == OperationType::kUpdateService && service_.ever_ran && unchanged) {
    // Only routing or scaling changed: what runs is what is wanted.
    detail("What runs already is what the update asks for: no instance is replaced.");
    succeed(ServiceStatus::kRunning);
    keep_in_step();
    return;
  }
  if (!image->digest.empty()) detail(fmt::format("The image is {}.", image->digest));
  put_deployment(std::move(*task));
}

void Decision::apply_resume() {
  const cluster::Deployment* last = view_.cluster ? last_that_ran(*view_.cluster) : nullptr;
  event(fmt::format("{} started.", doing(operation_->type)));
  operation_->status = OperationStatus::kInProgress;
  operation_->updated_at = now_;
  operation_->applied = true;
  changed_ = true;
  if (last == nullptr) {
    fail_rollout("The version that ran last is not known any more; update the service instead.",
                 {});
    return;
  }
  put_deployment(last->task, last->image_digest);
}

void Decision::put_deployment(cluster::TaskTemplate task, std::string image_digest) {
  cluster::Service wanted = view_.cluster.value_or(
      cluster::Service{.account = service_.account, .name = service_.id, .created_at = now_});
  const link::Probe probe = task.probe.value_or(link::Probe{});
  detail("Provisioning instances and deploying image for publicly accessible service.");
  detail(fmt::format("Performing health check on protocol `{}` [Port: '{}'{}].",
                     probe.protocol == link::ProbeProtocol::kTcp ? "TCP" : "HTTP", probe.port,
                     probe.protocol == link::ProbeProtocol::kTcp
                         ? ""
                         : fmt::format("], [Path: '{}'", probe.path)));
  const Strategy strategy = strategy_of(service_, *operation_);
  operation_->strategy = show(strategy);
  number_revision();
  begin_step(*operation_, "SCALE_UP", now_);
  // After a pause every task is gone: the old deployments have nothing left to serve with.
  if (operation_->type == OperationType::kResumeService) wanted.deployments.clear();
  const link::RequestSettings tags = request_settings(service_.tags);
  settle_settings(wanted);
  const cluster::Deployment* kept = operation_->rolls_back_to != 0
                                        ? kept_deployment(wanted, task, operation_->rolls_back_to)
                                        : nullptr;
  if (kept != nullptr) {
    operation_->deployment = kept->id.value;
    follow_tags(wanted, kept->id, tags);
    bring_back(wanted, kept->id, strategy.configuration);
    detail("Its instances were kept: they are woken.");
  } else {
    cluster::Deployment made{.id = deployment_of(*operation_),
                             .task = std::move(task),
                             .created_at = now_,
                             .image_digest = std::move(image_digest),
                             .revision = operation_->revision,
                             .configuration = strategy.configuration,
                             .settings = tags};
    // It runs what ran before.
    if (operation_->type == OperationType::kResumeService)
      made.settings->protocol =
          cluster::settings_of(*view_.cluster, *last_that_ran(*view_.cluster)).protocol;
    if (made.revision > 0) made.host_names = {revision_host_name(service_, made.revision)};
    wanted.deployments.insert(wanted.deployments.begin(), std::move(made));
  }
  wanted.status = cluster::ServiceStatus::kActive;
  wanted.desired_count = desired_count(true);
  wanted.routing = routing_of(service_, view_.scaling, link::RouteState::kServing);
  wanted.keep_previous = keep_previous_of(service_);
  set_bounds(wanted, strategy);
  put_cluster(std::move(wanted));
}

void Decision::number_revision() {
  if (operation_->type == OperationType::kResumeService) {
    operation_->revision = service_.revision;
    return;
  }
  if (operation_->rolls_back_to != 0) {
    operation_->revision = operation_->rolls_back_to;
    return;
  }
  operation_->revision = ++service_.revisions_made;
  detail(fmt::format("This is revision {}: {}", operation_->revision,
                     revision_host_name(service_, operation_->revision)));
  put_revision(RevisionState::kInProgress, {});
}

const cluster::Deployment* Decision::own_deployment() const {
  return deployment_in(view_.cluster, *operation_);
}

bool Decision::has_completed() const {
  const cluster::Deployment* mine = own_deployment();
  return operation_->applied && is_rollout(operation_->type) && mine != nullptr &&
         mine->rollout == RolloutState::kCompleted;
}

void Decision::fail_deployment(const std::string& reason) {
  cluster::Service wanted = *view_.cluster;
  undo(wanted, *operation_, reason, now_);
  put_cluster(std::move(wanted));
}

void Decision::cancel() {
  const std::string reason = "The operation was cancelled.";
  if (is_rollout(operation_->type)) {
    if (operation_->applied && own_deployment() != nullptr) fail_deployment(reason);
    fail_rollout(reason, {});
    return;
  }
  // Of the others only a pause is ever asked to end: its instances are brought back.
  event(fmt::format("{} was cancelled.", doing(operation_->type)));
  set_status(ServiceStatus::kRunning);
  end_operation(OperationStatus::kRollbackSucceeded, reason);
  if (operation_->applied) keep_in_step();
}

void Decision::put_revision(RevisionState state, std::string digest) {
  const cluster::Deployment* mine = own_deployment();
  revision_ = Revision{
      .number = operation_->revision,
      .account = service_.account,
      .service = service_.id,
      .configuration = service_.configuration,
      .digest = std::move(digest),
      .operation = operation_->id,
      .created_at = operation_->started_at,
      .state = state,
      .settings = mine != nullptr ? cluster::settings_of(*view_.cluster, *mine)
                                  : request_settings(service_.tags),
      .cancelled = state == RevisionState::kFailed && operation_->cancel_requested_at.has_value()};
}

void Decision::make_revision(const cluster::Deployment& serves) {
  if (operation_->rolls_back_to != 0) {
    service_.revision = operation_->rolls_back_to;
    return;
  }
  // One that an older version began has no number yet.
  if (operation_->revision == 0) operation_->revision = ++service_.revisions_made;
  service_.revision = operation_->revision;
  const std::string& reference = serves.task.containers.at(0).image.reference;
  put_revision(RevisionState::kSucceeded,
               reference.starts_with("sha256:") ? reference : serves.image_digest);
}

bool Decision::promote(const cluster::Deployment& mine) {
  if (!operation_->promote_requested_at || mine.promoted) return false;
  cluster::Service wanted = *view_.cluster;
  for (cluster::Deployment& deployment : wanted.deployments) {
    if (deployment.id == mine.id) deployment.promoted = true;
  }
  put_cluster(std::move(wanted));
  return true;
}

void Decision::note_step(const cluster::Deployment& mine) {
  if (!begin_step(*operation_, step_name(mine), now_)) return;
  operation_->updated_at = now_;
  changed_ = true;
  const std::string line = step_line(mine, operation_->revision);
  if (line.empty()) return;
  detail(line);
  event(fmt::format("Deployment with ID : {}: {}", operation_->id, line));
}

void Decision::follow_rollout() {
  const cluster::Deployment* mine = own_deployment();
  if (mine == nullptr) {
    fail_rollout("The deployment was removed while it was rolled out.", {});
    return;
  }
  switch (mine->rollout) {
    case RolloutState::kInProgress: {
      note_step(*mine);
      const Duration time_max = kRolloutTimeMax + waits_of(mine->configuration) +
                                (operation_->build_attempts > 0 ? kBuildTimeMax : Duration(0));
      if (!overdue(time_max)) {
        if (!promote(*mine)) keep_in_step();
        return;
      }
      const std::string reason =
          fmt::format("The deployment took longer than {} minutes.",
                      std::chrono::duration_cast<std::chrono::minutes>(time_max).count());
      fail_deployment(reason);
      fail_rollout(reason, mine->last_lines);
      return;
    }
    case RolloutState::kFailed:
      fail_rollout(mine->reason.empty() ? "No instance became healthy." : mine->reason,
                   mine->last_lines);
      return;
    case RolloutState::kCompleted:
      break;
  }
  const bool older =
      operation_->type == OperationType::kResumeService || operation_->rolls_back_to != 0;
  if (older && service_.configuration.auto_deployments.value_or(false)) {
    // Versions pushed meanwhile are not deployed by resuming or rolling back, nor right after it.
    if (!view_.image) {
      resolve_ = true;
      return;
    }
    if (*view_.image && !(*view_.image)->digest.empty())
      service_.digest_tried = (*view_.image)->digest;
  }
  if (operation_->type != OperationType::kResumeService) make_revision(*mine);
  detail("Health check is successful. Routing traffic to application.");
  detail("Successfully deployed your application.");
  succeed(ServiceStatus::kRunning);
}

void Decision::follow_pause() {
  if (!view_.tasks_left) {
    succeed(ServiceStatus::kPaused);
    return;
  }
  if (!overdue(kStopTimeMax)) return;
  const std::string reason = "Not every instance could be stopped in time.";
  set_status(ServiceStatus::kRunning);  // keep_in_step() brings the instances back
  end_operation(OperationStatus::kFailed, reason);
}

void Decision::follow_delete() {
  if (!view_.cluster) {  // cluster removes it when nothing of it runs
    service_.deleted_at = now_;
    release_name_ = true;
    succeed(ServiceStatus::kDeleted);
    return;
  }
  if (!overdue(kStopTimeMax)) return;
  set_status(ServiceStatus::kDeleteFailed);
  end_operation(OperationStatus::kFailed, "Not every instance could be stopped in time.");
}

void Decision::succeed(ServiceStatus status) {
  if (is_rollout(operation_->type)) {
    event(fmt::format("Deployment with ID : {} succeeded.", operation_->id));
    service_.ever_ran = true;
  }
  event(fmt::format("{} completed successfully.", doing(operation_->type)));
  set_status(status);
  end_operation(OperationStatus::kSucceeded, "");
}

void Decision::fail_rollout(const std::string& reason, const std::vector<std::string>& last_lines) {
  const bool cancelled = operation_->cancel_requested_at.has_value();
  detail(cancelled ? "The deployment was cancelled."
                   : fmt::format("Failed to deploy your application. Failure reason : {}", reason));
  if (!last_lines.empty()) {
    detail(operation_->build_attempts > 0 && !operation_->applied
               ? "The last lines of its output:"
               : "The last lines of the instance's output:");
    const size_t skip = last_lines.size() > kLastLinesMax ? last_lines.size() - kLastLinesMax : 0;
    for (size_t i = skip; i < last_lines.size(); ++i) detail("| " + last_lines[i]);
  }
  event(cancelled ? fmt::format("Deployment with ID : {} was cancelled.", operation_->id)
                  : fmt::format("Deployment with ID : {} failed. Failure reason : {}",
                                operation_->id, reason));

  const bool resume = operation_->type == OperationType::kResumeService;
  if (!resume && operation_->rolls_back_to == 0 && operation_->revision > 0)
    put_revision(RevisionState::kFailed, {});
  if (service_.ever_ran && !resume) {
    // The version before serves on: the failed rollout never touched it.
    detail("Rolling back: the previous version keeps serving.");
    if (service_.previous) {
      service_.configuration = *service_.previous;
      service_.digest_tried = service_.digest_tried_previous;
      if (service_.version_tags_previous)
        replace_version_tags(service_.tags, *service_.version_tags_previous);
    }
    set_status(ServiceStatus::kRunning);
    end_operation(OperationStatus::kRollbackSucceeded, reason);
    return;
  }
  // Nothing ever served, or nothing serves after a pause: no instance is to be tried on.
  const std::optional<cluster::Service>& latest = cluster_ ? cluster_ : view_.cluster;
  if (latest) {
    cluster::Service stopped = *latest;
    stopped.desired_count = 0;
    stopped.routing.state = link::RouteState::kPaused;
    if (!resume) stopped.status = cluster::ServiceStatus::kDraining;
    put_cluster(std::move(stopped));
  }
  set_status(resume ? ServiceStatus::kPaused : ServiceStatus::kCreateFailed);
  end_operation(OperationStatus::kFailed, reason);
}

void Decision::end_operation(OperationStatus status, const std::string& reason) {
  end_step(*operation_, word(status), now_);
  operation_->status = status;
  operation_->reason = reason;
  operation_->updated_at = now_;
  operation_->ended_at = now_;
  if (operation_->build_attempts > 0 && !operation_->applied) end_build_ = build_of(*operation_);
  service_.operation.clear();
  service_.previous.reset();
  service_.digest_tried_previous.clear();
  service_.version_tags_previous.reset();
  service_.updated_at = now_;
  changed_ = true;
}

std::vector<RunnerAction> Decision::actions() {
  std::vector<RunnerAction> actions;
  if (resolve_) actions.emplace_back(ResolveImage{});
  if (forget_) actions.emplace_back(Forget{});
  if (!lines_.events.empty() || !lines_.deployment.empty()) {
    service_.events_logged += static_cast<int64_t>(lines_.events.size());
    if (operation_) operation_->lines_logged += static_cast<int64_t>(lines_.deployment.size());
    actions.emplace_back(lines_);
  }
  if (changed_) {
    actions.emplace_back(PutService{service_});
    if (operation_) actions.emplace_back(PutOperation{*operation_});
  }
  if (cluster_) actions.emplace_back(PutCluster{*cluster_});
  if (revision_) actions.emplace_back(PutRevision{*revision_});
  if (amended_) actions.emplace_back(*amended_);
  if (release_name_) actions.emplace_back(ReleaseName{});
  if (watch_) actions.emplace_back(*watch_);
  if (wake_at_) actions.emplace_back(WakeAt{*wake_at_});
  if (!end_build_.empty()) actions.emplace_back(EndBuild{end_build_});
  if (order_) actions.emplace_back(OrderBuild{*order_});
  return actions;
}

}  // namespace

std::string build_of(const Operation& operation) {
  return fmt::format("{}-{}", operation.id, operation.build_attempts);
}

std::vector<RunnerAction> decide_runner(const RunnerView& view, Instant now) {
  return Decision(view, now).decide();
}

}  // namespace hob::runner
