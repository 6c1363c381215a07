#include "runner/decide.h"

#include <gtest/gtest.h>

#include <chrono>

#include "runner/cluster_service.h"
#include "runner/extensions.h"

namespace hob::runner {
namespace {

using namespace std::chrono_literals;
using cluster::RolloutState;

constexpr Instant t0{1'000'000s};
const std::string kOperationId = "11111111-1111-4111-8111-111111111111";
const std::string kFreshId = "22222222-2222-4222-8222-222222222222";

ResolvedImage image(const std::string& digest = "sha256:one") {
  return {.source = {.registry = "127.0.0.1:4566",
                     .plain_http = true,
                     .repository = "app",
                     .reference = digest},
          .digest = digest};
}

Service service(ServiceStatus status) {
  Service service{.account = "000000000001",
                  .region = "us-east-1",
                  .id = std::string(32, 'a'),
                  .name = "app",
                  .subdomain = "abcdefghjk",
                  .url = "abcdefghjk.us-east-1.hob.localhost",
                  .status = status,
                  .created_at = t0,
                  .updated_at = t0};
  service.configuration.image = "127.0.0.1:4566/app:1";
  return service;
}

// A view in which an operation of `type` was just accepted.
RunnerView accepted(OperationType type) {
  RunnerView view{.service = service(ServiceStatus::kOperationInProgress)};
  view.operation = Operation{.id = kOperationId,
                             .account = view.service.account,
                             .service = view.service.id,
                             .type = type,
                             .started_at = t0,
                             .updated_at = t0};
  view.service.operation = kOperationId;
  view.service.ever_ran = type != OperationType::kCreateService;
  view.scaling = AutoScalingConfiguration{.name = "DefaultConfiguration"};
  view.load.heard_since = t0 - 1h;
  view.operation_id = kFreshId;
  return view;
}

cluster::Deployment deployment(const std::string& id, RolloutState rollout, const Service& of,
                               const ResolvedImage& runs = image()) {
  return {.id = DeploymentId{id},
          .task = task_template(of, runs).value(),
          .rollout = rollout,
          .created_at = t0,
          .settings = request_settings(of.tags)};
}

cluster::Service cluster_of(const Service& of, std::vector<cluster::Deployment> deployments) {
  return {.account = of.account,
          .name = of.id,
          .deployments = std::move(deployments),
          .routing = routing_of(of, AutoScalingConfiguration{}, link::RouteState::kServing),
          .keep_previous = kKeepPrevious};
}

// The same once the cluster service was written.
RunnerView applied(OperationType type, RolloutState rollout) {
  RunnerView view = accepted(type);
  view.operation->applied = true;
  view.operation->status = OperationStatus::kInProgress;
  view.operation->steps = {{.name = "SCALE_UP", .started_at = t0}};
  view.cluster = cluster_of(
      view.service, {deployment(deployment_of(*view.operation).value, rollout, view.service)});
  return view;
}

RunnerView running() {
  RunnerView view{.service = service(ServiceStatus::kRunning)};
  view.service.ever_ran = true;
  view.service.digest_tried = "sha256:one";
  view.scaling = AutoScalingConfiguration{};
  view.load.heard_since = t0 - 1h;
  view.cluster =
      cluster_of(view.service, {deployment("old", RolloutState::kCompleted, view.service)});
  view.operation_id = kFreshId;
  return view;
}

// "http1 120s 60s 0s"
std::string served(const link::RequestSettings& settings) {
  return fmt::format(
      "{} {}s {}s {}s", settings.protocol == link::TargetProtocol::kHttp2 ? "http2" : "http1",
      settings.request_timeout / 1s, settings.idle_timeout / 1s, settings.sticky / 1s);
}

// "service RUNNING; operation SUCCEEDED; cluster 1 SERVING active [new*]; wake 60s"
std::string show(const std::vector<RunnerAction>& actions) {
  std::string all;
  const auto add = [&all](const std::string& text) { all += (all.empty() ? "" : "; ") + text; };
  for (const RunnerAction& action : actions) {
    if (std::holds_alternative<ResolveImage>(action)) add("resolve");
    if (const auto* put = std::get_if<PutService>(&action))
      add("service " + word(put->service.status));
    if (const auto* put = std::get_if<PutOperation>(&action))
      add("operation " + word(put->operation.status));
    if (const auto* put = std::get_if<PutCluster>(&action)) {
      std::string text = "cluster " + std::to_string(put->service.desired_count);
      text += put->service.routing.state == link::RouteState::kPaused ? " paused" : " serving";
      if (put->service.status == cluster::ServiceStatus::kDraining) text += " draining";
      for (const cluster::Deployment& each : put->service.deployments) {
        const char* state = each.rollout == RolloutState::kCompleted ? "done"
                            : each.rollout == RolloutState::kFailed  ? "failed"
                                                                     : "new";
        text += " " + each.id.value.substr(0, 3) + ":" + state;
      }
      add(text);
    }
    if (const auto* put = std::get_if<PutRevision>(&action))
      add("revision " + std::to_string(put->revision.number) +
          (put->revision.state == RevisionState::kInProgress ? " begun"
           : put->revision.state == RevisionState::kFailed   ? " failed"
                                                             : ""));
    if (const auto* amend = std::get_if<AmendRevision>(&action))
      add(fmt::format("amend {} {}", amend->number, served(amend->settings)));
    if (std::holds_alternative<ReleaseName>(action)) add("release");
    if (std::holds_alternative<Forget>(action)) add("forget");
    if (const auto* wake = std::get_if<WakeAt>(&action))
      add("wake " + std::to_string((wake->at - t0) / 1s) + "s");
  }
  return all.empty() ? "nothing" : all;
}

std::string decide(const RunnerView& view, Duration now = 0s) {
  return show(decide_runner(view, t0 + now));
}

template <class F>
RunnerView with(RunnerView view, F change) {
  change(view);
  return view;
}

TEST(Decide, BeginsAnOperation) {
  struct Case {
    const char* name;
    RunnerView view;
    Duration now;
    const char* want;
  };
  const auto found = [](RunnerView& view) { view.image = image(); };
  const auto fails = [](Code code) {
    return [code](RunnerView& view) {
      view.image = Result<ResolvedImage>(fail(code, "no such image"));
    };
  };
  for (const Case& c : {
           Case{"the image is asked first", accepted(OperationType::kCreateService), 0s, "resolve"},
           Case{"a create makes the cluster service",
                with(accepted(OperationType::kCreateService), found), 0s,
                "service OPERATION_IN_PROGRESS; operation IN_PROGRESS; cluster 1 serving 111:new; "
                "revision 1 begun"},
           Case{"an image that is not there fails the create",
                with(accepted(OperationType::kCreateService), fails(Code::kNotFound)), 0s,
                "service CREATE_FAILED; operation FAILED"},
           Case{"a registry that does not answer is asked again",
                with(accepted(OperationType::kCreateService), fails(Code::kUnavailable)), 5s,
                "wake 6s"},
           Case{"but not for ever",
                with(accepted(OperationType::kCreateService), fails(Code::kUnavailable)), 60s,
                "service CREATE_FAILED; operation FAILED"},
           Case{"a deployment goes in front of what serves",
                with(accepted(OperationType::kStartDeployment),
                     [](RunnerView& view) {
                       view.image = image("sha256:two");
                       view.cluster =
                           cluster_of(view.service,
                                      {deployment("old", RolloutState::kCompleted, view.service)});
                     }),
                0s,
                "service OPERATION_IN_PROGRESS; operation IN_PROGRESS; cluster 1 serving 111:new "
                "old:done; revision 1 begun"},
           Case{"a deployment of the same image is one all the same",
                with(accepted(OperationType::kStartDeployment),
                     [](RunnerView& view) {
                       view.image = image();
                       view.cluster =
                           cluster_of(view.service,
                                      {deployment("old", RolloutState::kCompleted, view.service)});
                     }),
                0s,
                "service OPERATION_IN_PROGRESS; operation IN_PROGRESS; cluster 1 serving 111:new "
                "old:done; revision 1 begun"},
           Case{"an update of what does not concern tasks replaces none",
                with(accepted(OperationType::kUpdateService),
                     [](RunnerView& view) {
                       view.image = image();
                       view.cluster =
                           cluster_of(view.service,
                                      {deployment("bad", RolloutState::kFailed, view.service),
                                       deployment("old", RolloutState::kCompleted, view.service)});
                       view.scaling->min_size = 3;
                     }),
                0s, "service RUNNING; operation SUCCEEDED; cluster 3 serving bad:failed old:done"},
           Case{"an update whose image is not there rolls back",
                with(accepted(OperationType::kUpdateService), fails(Code::kNotFound)), 0s,
                "service RUNNING; operation ROLLBACK_SUCCEEDED"},
           Case{"pausing takes the tasks and the requests away",
                with(running(),
                     [](RunnerView& view) {
                       view.operation = accepted(OperationType::kPauseService).operation;
                       view.tasks_left = true;
                     }),
                0s, "service RUNNING; operation IN_PROGRESS; cluster 0 paused old:done"},
           Case{"deleting drains",
                with(running(),
                     [](RunnerView& view) {
                       view.operation = accepted(OperationType::kDeleteService).operation;
                     }),
                0s, "service RUNNING; operation IN_PROGRESS; cluster 0 paused draining old:done"},
           Case{"deleting what never ran", accepted(OperationType::kDeleteService), 0s,
                "service OPERATION_IN_PROGRESS; operation IN_PROGRESS"},
           Case{"resuming starts the version that ran last, whatever the tag says now",
                with(accepted(OperationType::kResumeService),
                     [](RunnerView& view) {
                       view.cluster =
                           cluster_of(view.service,
                                      {deployment("bad", RolloutState::kFailed, view.service),
                                       deployment("old", RolloutState::kCompleted, view.service)});
                       view.cluster->desired_count = 0;
                     }),
                0s,
                "service OPERATION_IN_PROGRESS; operation IN_PROGRESS; cluster 1 serving 111:new"},
           Case{"resuming without a version", accepted(OperationType::kResumeService), 0s,
                "service PAUSED; operation FAILED"},
       }) {
    EXPECT_EQ(decide(c.view, c.now), c.want) << c.name;
  }
}

TEST(Decide, FollowsAnOperationToItsEnd) {
  struct Case {
    const char* name;
    RunnerView view;
    Duration now;
    const char* want;
  };
  const auto create = [](RolloutState rollout) {
    return applied(OperationType::kCreateService, rollout);
  };
  const auto with_old = [](RunnerView& view) {
    view.cluster->deployments.push_back(deployment("old", RolloutState::kCompleted, view.service));
  };
  const auto no_cluster = [](RunnerView& view) { view.cluster.reset(); };
  const auto left = [](RunnerView& view) { view.tasks_left = true; };
  const auto gone = [](RunnerView& view) { view.cluster.reset(); };
  for (const Case& c : {
           Case{"a rollout goes on", create(RolloutState::kInProgress), 1s, "wake 7200s"},
           Case{"a rollout that nobody ends", create(RolloutState::kInProgress), 120min,
                "service CREATE_FAILED; operation FAILED; cluster 0 paused draining 111:failed"},
           Case{"a create that works", create(RolloutState::kCompleted), 1s,
                "service RUNNING; operation SUCCEEDED; revision 1"},
           Case{"a create that fails leaves nothing running", create(RolloutState::kFailed), 1s,
                "service CREATE_FAILED; operation FAILED; cluster 0 paused draining 111:failed"},
           Case{"the deployment vanished", with(create(RolloutState::kCompleted), no_cluster), 1s,
                "service CREATE_FAILED; operation FAILED"},
           Case{"an update that fails leaves the old version alone",
                with(applied(OperationType::kUpdateService, RolloutState::kFailed), with_old), 1s,
                "service RUNNING; operation ROLLBACK_SUCCEEDED"},
           Case{"a deployment that fails does, too",
                with(applied(OperationType::kStartDeployment, RolloutState::kFailed), with_old), 1s,
                "service RUNNING; operation ROLLBACK_SUCCEEDED"},
           Case{"an update that nobody ends",
                with(applied(OperationType::kUpdateService, RolloutState::kInProgress), with_old),
                120min,
                "service RUNNING; operation ROLLBACK_SUCCEEDED; cluster 1 serving 111:failed "
                "old:done"},
           Case{"rebuilding a failed service fails again",
                with(applied(OperationType::kUpdateService, RolloutState::kFailed),
                     [](RunnerView& view) { view.service.ever_ran = false; }),
                1s,
                "service CREATE_FAILED; operation FAILED; cluster 0 paused draining 111:failed"},
           Case{"a resume that works",
                applied(OperationType::kResumeService, RolloutState::kCompleted), 1s,
                "service RUNNING; operation SUCCEEDED"},
           Case{"a resume that fails is paused again",
                applied(OperationType::kResumeService, RolloutState::kFailed), 1s,
                "service PAUSED; operation FAILED; cluster 0 paused 111:failed"},
           Case{"a pause waits for the tasks",
                with(applied(OperationType::kPauseService, RolloutState::kCompleted), left), 1s,
                "wake 5400s"},
           Case{"a pause is done", applied(OperationType::kPauseService, RolloutState::kCompleted),
                1s, "service PAUSED; operation SUCCEEDED"},
           Case{"a pause that cannot be",
                with(applied(OperationType::kPauseService, RolloutState::kCompleted), left), 90min,
                "service RUNNING; operation FAILED"},
           Case{"a delete waits for the cluster service",
                applied(OperationType::kDeleteService, RolloutState::kCompleted), 1s, "wake 5400s"},
           Case{"a delete is done",
                with(applied(OperationType::kDeleteService, RolloutState::kCompleted), gone), 1s,
                "service DELETED; operation SUCCEEDED; release"},
           Case{"a delete that cannot be",
                applied(OperationType::kDeleteService, RolloutState::kCompleted), 90min,
                "service DELETE_FAILED; operation FAILED"},
       }) {
    EXPECT_EQ(decide(c.view, c.now), c.want) << c.name;
  }
}

TEST(Decide, ACancelledOperationIsUndone) {
  const auto with_old = [](RunnerView& view) {
    view.cluster->deployments.push_back(deployment("old", RolloutState::kCompleted, view.service));
  };
  const auto pausing = [](bool applied_already) {
    return with(running(), [&](RunnerView& view) {
      view.operation = accepted(OperationType::kPauseService).operation;
      view.operation->applied = applied_already;
      view.service.status = ServiceStatus::kOperationInProgress;
      if (!applied_already) return;
      view.cluster->desired_count = 0;
      view.cluster->routing.state = link::RouteState::kPaused;
    });
  };
  struct Case {
    const char* name;
    RunnerView view;
    const char* want;
  };
  for (const Case& c : {
           Case{"before it began", accepted(OperationType::kUpdateService),
                "service RUNNING; operation ROLLBACK_SUCCEEDED"},
           Case{"a create before it began", accepted(OperationType::kCreateService),
                "service CREATE_FAILED; operation FAILED"},
           Case{"a create in its rollout",
                applied(OperationType::kCreateService, RolloutState::kInProgress),
                "service CREATE_FAILED; operation FAILED; cluster 0 paused draining 111:failed"},
           Case{"a deployment in its rollout",
                with(applied(OperationType::kStartDeployment, RolloutState::kInProgress), with_old),
                "service RUNNING; operation ROLLBACK_SUCCEEDED; cluster 1 serving 111:failed "
                "old:done"},
           Case{"too late",
                with(applied(OperationType::kStartDeployment, RolloutState::kCompleted), with_old),
                "service RUNNING; operation SUCCEEDED; revision 1"},
           Case{"a resume", applied(OperationType::kResumeService, RolloutState::kInProgress),
                "service PAUSED; operation FAILED; cluster 0 paused 111:failed"},
           Case{"a pause before it began", pausing(false),
                "service RUNNING; operation ROLLBACK_SUCCEEDED"},
           Case{"a pause whose tasks are going", pausing(true),
                "service RUNNING; operation ROLLBACK_SUCCEEDED; cluster 1 serving old:done"},
       }) {
    const RunnerView view =
        with(c.view, [](RunnerView& each) { each.operation->cancel_requested_at = t0; });
    EXPECT_EQ(decide(view, 1s), c.want) << c.name;
  }
}

TEST(Decide, KeepsAServiceWithoutAnOperationInStep) {
  struct Case {
    const char* name;
    RunnerView view;
    Duration now;
    const char* want;
  };
  const auto automatic = [](const std::string& digest) {
    return [digest](RunnerView& view) {
      view.service.configuration.auto_deployments = true;
      if (!digest.empty()) view.image = image(digest);
    };
  };
  for (const Case& c : {
           Case{"nothing to do", running(), 0s, "nothing"},
           Case{"a tag changes a timeout",
                with(running(),
                     [](RunnerView& view) { view.service.tags["hob:request-timeout"] = "5m"; }),
                0s, "cluster 1 serving old:done"},
           Case{"after a rollback the old scaling holds again",
                with(running(), [](RunnerView& view) { view.cluster->desired_count = 9; }), 0s,
                "cluster 1 serving old:done"},
           Case{"automatic: asks what the tag names", with(running(), automatic("")), 0s,
                "resolve"},
           Case{"automatic: the same image", with(running(), automatic("sha256:one")), 0s,
                "nothing"},
           Case{"automatic: another image", with(running(), automatic("sha256:two")), 0s,
                "service OPERATION_IN_PROGRESS; operation PENDING"},
           Case{"automatic: the tag is gone",
                with(running(),
                     [](RunnerView& view) {
                       view.service.configuration.auto_deployments = true;
                       view.image = Result<ResolvedImage>(fail(Code::kNotFound, "gone"));
                     }),
                0s, "nothing"},
           Case{"a paused service deploys nothing",
                with(running(),
                     [](RunnerView& view) {
                       view.service.status = ServiceStatus::kPaused;
                       view.service.configuration.auto_deployments = true;
                       view.image = image("sha256:two");
                     }),
                0s, "nothing"},
           Case{"a deleted one can be described for an hour",
                with(running(),
                     [](RunnerView& view) {
                       view.service.status = ServiceStatus::kDeleted;
                       view.service.deleted_at = t0;
                     }),
                59min, "wake 3600s"},
           Case{"and is then forgotten",
                with(running(),
                     [](RunnerView& view) {
                       view.service.status = ServiceStatus::kDeleted;
                       view.service.deleted_at = t0;
                     }),
                1h, "forget"},
       }) {
    EXPECT_EQ(decide(c.view, c.now), c.want) << c.name;
  }
}

template <class T>
T only(const std::vector<RunnerAction>& actions) {
  for (const RunnerAction& action : actions) {
    if (const T* found = std::get_if<T>(&action)) return *found;
  }
  return {};
}

cluster::Task task_of(const RunnerView& view, const std::string& id, Duration created) {
  return {.id = TaskId{id},
          .service = view.service.id,
          .deployment = DeploymentId{"old"},
          .created_at = t0 + created};
}
cluster::Task healthy_task(const RunnerView& view, const std::string& id, Duration created,
                           Duration took) {
  cluster::Task task = task_of(view, id, created);
  task.status = cluster::TaskStatus::kRunning;
  task.health = cluster::Health::kHealthy;
  task.was_healthy = true;
  task.healthy_at = task.created_at + took;
  return task;
}
cluster::Task failed_task(const RunnerView& view, const std::string& id, Duration created) {
  cluster::Task task = task_of(view, id, created);
  task.status = cluster::TaskStatus::kStopped;
  task.stop_code = cluster::StopCode::kTaskFailedToStart;
  task.stopped_reason = "RESOURCE:MEMORY";
  return task;
}

TEST(Decide, KeepsAsManyTasksAsLoadAsksFor) {
  struct Case {
    const char* name;
    RunnerView view;
    const char* want;
  };
  const auto no_minimum = [](RunnerView& view) {
    view.service.tags["hob:min-size"] = "0";
    view.cluster->routing = routing_of(view.service, view.scaling, link::RouteState::kServing);
  };
  const auto idle_stopped = [&](RunnerView& view) {
    no_minimum(view);
    view.cluster->desired_count = 0;
  };
  const auto loaded = [](RunnerView& view) {
    view.load.peaks = {{t0, 250}};
    view.load.in_flight = 250;
  };
  const auto is = [](ServiceStatus status) {
    return [status](RunnerView& view) { view.service.status = status; };
  };
  const auto rolling = [](RunnerView& view) {
    const auto deploying = applied(OperationType::kStartDeployment, RolloutState::kInProgress);
    view.operation = deploying.operation;
    view.service.operation = view.operation->id;
    view.service.status = ServiceStatus::kOperationInProgress;
    view.cluster->deployments.insert(view.cluster->deployments.begin(),
                                     deploying.cluster->deployments[0]);
  };
  for (const Case& c : {
           Case{"load", with(running(), loaded), "cluster 3 serving old:done; wake 300s"},
           Case{"at most the maximum",
                with(with(running(), loaded), [](RunnerView& view) { view.scaling->max_size = 2; }),
                "cluster 2 serving old:done; wake 300s"},
           Case{"stopped for lack of visitors", with(running(), idle_stopped), "nothing"},
           Case{"long idle",
                with(with(running(), no_minimum),
                     [](RunnerView& view) { view.service.updated_at = t0 - 1h; }),
                "cluster 0 serving old:done"},
           Case{"a visitor comes", with(with(running(), idle_stopped), loaded),
                "cluster 3 serving old:done; wake 300s"},
           Case{"a paused service starts nothing",
                with(with(with(running(), idle_stopped), loaded), is(ServiceStatus::kPaused)),
                "nothing"},
           Case{"a deployment of a stopped service starts one task",
                with(with(running(), idle_stopped), rolling),
                "cluster 1 serving 111:new old:done; wake 7200s"},
           Case{"load counts while it is rolled out", with(with(running(), rolling), loaded),
                "cluster 3 serving 111:new old:done; wake 300s"},
       }) {
    EXPECT_EQ(decide(c.view), c.want) << c.name;
  }
}

TEST(Decide, TellsOfStartsThatFail) {
  RunnerView view = running();
  view.tasks = {healthy_task(view, "a", -100s, 3s)};
  const Service learned = only<PutService>(decide_runner(view, t0)).service;
  EXPECT_EQ(learned.start_time, 3s);
  view.service = learned;
  view.load.peaks = {{t0, 900}};
  for (int failed = 1; failed <= 3; ++failed) {
    EXPECT_TRUE(only<LogLines>(decide_runner(view, t0)).events.empty()) << failed;
    view.tasks.push_back(failed_task(view, fmt::format("f{}", failed), Duration(failed)));
  }
  const auto actions = decide_runner(view, t0);
  const auto events = only<LogLines>(actions).events;
  ASSERT_EQ(events.size(), 1u);
  EXPECT_NE(events[0].find("Instances fail to start: RESOURCE:MEMORY"), std::string::npos);
  EXPECT_EQ(only<PutCluster>(actions).service.desired_count, 2) << "one at a time";
  view.service = only<PutService>(actions).service;
  EXPECT_TRUE(only<LogLines>(decide_runner(view, t0)).events.empty()) << "once";
  view.tasks.push_back(healthy_task(view, "z", 10s, 3s));
  const auto again = decide_runner(view, t0);
  EXPECT_EQ(only<LogLines>(again).events,
            std::vector<std::string>{"[AppRunner] Instances start again."});
  EXPECT_EQ(only<PutCluster>(again).service.desired_count, 9);
}

TEST(Decide, AFailedUpdateShowsTheOldConfigurationAgain) {
  RunnerView view = applied(OperationType::kUpdateService, RolloutState::kFailed);
  view.service.previous = view.service.configuration;
  view.service.previous->image = "127.0.0.1:4566/app:old";
  view.service.digest_tried = "sha256:new";
  view.service.digest_tried_previous = "sha256:old";
  const Service after = only<PutService>(decide_runner(view, t0)).service;
  EXPECT_EQ(after.configuration.image, "127.0.0.1:4566/app:old");
  EXPECT_EQ(after.digest_tried, "sha256:old");
  EXPECT_FALSE(after.previous);
  EXPECT_EQ(after.operation, "");
}

TEST(Decide, AnImageThatFailedIsNotTriedAgainByItself) {
  RunnerView view = applied(OperationType::kStartDeployment, RolloutState::kFailed);
  view.service.digest_tried = "sha256:bad";
  const Service after = only<PutService>(decide_runner(view, t0)).service;
  RunnerView next = running();
  next.service = after;
  next.service.configuration.auto_deployments = true;
  next.image = image("sha256:bad");
  EXPECT_EQ(decide(next), "nothing");
}

TEST(Decide, AnAutomaticDeploymentThatIsCancelledBeforeItBeganIsNotBegunAgain) {
  RunnerView view = running();
  view.service.configuration.auto_deployments = true;
  view.image = image("sha256:two");
  const std::vector<RunnerAction> begun = decide_runner(view, t0);
  view.service = only<PutService>(begun).service;
  view.operation = only<PutOperation>(begun).operation;
  view.operation->cancel_requested_at = t0;
  view.service = only<PutService>(decide_runner(view, t0)).service;
  EXPECT_EQ(view.service.status, ServiceStatus::kRunning);
  view.operation.reset();
  EXPECT_EQ(decide(view), "nothing");
}

TEST(Decide, RollingBackDoesNotDeployWhatTheOtherTagMeans) {
  RunnerView view = applied(OperationType::kUpdateService, RolloutState::kCompleted);
  view.service.configuration.auto_deployments = true;
  view.service.digest_tried = "sha256:of-the-newer-tag";
  view.operation->rolls_back_to = 1;
  EXPECT_EQ(decide(view), "resolve");
  view.image = image("sha256:moved");
  EXPECT_EQ(only<PutService>(decide_runner(view, t0)).service.digest_tried, "sha256:moved");
}

TEST(Decide, ResumingDoesNotDeployWhatWasPushedMeanwhile) {
  RunnerView view = applied(OperationType::kResumeService, RolloutState::kCompleted);
  view.service.configuration.auto_deployments = true;
  EXPECT_EQ(decide(view), "resolve");
  view.image = image("sha256:pushed");
  EXPECT_EQ(only<PutService>(decide_runner(view, t0)).service.digest_tried, "sha256:pushed");
}

TEST(Decide, ARevisionKnowsWhatAnotherRegistrysTagMeant) {
  RunnerView view = applied(OperationType::kCreateService, RolloutState::kCompleted);
  view.cluster->deployments[0].task.containers.at(0).image.reference = "latest";
  view.cluster->deployments[0].image_digest = "sha256:found";
  EXPECT_EQ(only<PutRevision>(decide_runner(view, t0)).revision.digest, "sha256:found");
}

TEST(Decide, AResumedServiceRunsTheImageItRan) {
  RunnerView view = accepted(OperationType::kResumeService);
  view.cluster =
      cluster_of(view.service, {deployment("old", RolloutState::kCompleted, view.service)});
  view.cluster->deployments[0].image_digest = "sha256:found";
  const cluster::Service after = only<PutCluster>(decide_runner(view, t0)).service;
  EXPECT_EQ(after.deployments.at(0).image_digest, "sha256:found");
}

// "old:http1 120s 60s 0s"
std::string served(const cluster::Service& service) {
  std::string all;
  for (const cluster::Deployment& each : service.deployments) {
    all += fmt::format("{}{}:{}", all.empty() ? "" : ", ", each.id.value.substr(0, 3),
                       each.settings ? served(*each.settings) : "-");
  }
  return all;
}

TEST(Decide, HowRequestsAreServedBelongsToAVersion) {
  const auto tags = [](RunnerView& view) {
    view.service.tags = {{"hob:protocol", "http2"}, {"hob:sticky", "9s"}};
  };
  const auto of_an_older_release = [](RunnerView& view) {
    view.cluster->routing.request_timeout = 77s;
    for (cluster::Deployment& each : view.cluster->deployments) each.settings.reset();
  };
  const auto deploying = [](OperationType type) {
    RunnerView view = accepted(type);
    view.cluster =
        cluster_of(view.service, {deployment("old", RolloutState::kCompleted, view.service)});
    view.image = image("sha256:two");
    return view;
  };
  RunnerView rolling = applied(OperationType::kUpdateService, RolloutState::kInProgress);
  rolling.cluster->deployments.push_back(
      deployment("old", RolloutState::kCompleted, rolling.service));
  RunnerView same = deploying(OperationType::kUpdateService);
  same.image = image("sha256:one");
  struct Case {
    const char* name;
    RunnerView view;
    const char* want;
  };
  for (const Case& c : {
           Case{"a deployment has the tags', what serves keeps its own",
                with(deploying(OperationType::kUpdateService), tags),
                "111:http2 120s 60s 9s, old:http1 120s 60s 0s"},
           Case{"while it runs tags are the new one's, but for what it speaks", with(rolling, tags),
                "111:http1 120s 60s 9s, old:http1 120s 60s 0s"},
           Case{"at other times the one's that serves", with(running(), tags),
                "old:http1 120s 60s 9s"},
           Case{"an update that changes nothing but what it speaks is a deployment",
                with(same, tags), "111:http2 120s 60s 9s, old:http1 120s 60s 0s"},
           Case{"one that changes the rest is none",
                with(same, [](RunnerView& view) { view.service.tags["hob:sticky"] = "9s"; }),
                "old:http1 120s 60s 9s"},
           Case{"who resumes speaks what it spoke",
                with(deploying(OperationType::kResumeService), tags), "111:http1 120s 60s 9s"},
           Case{"versions of an older release are served as they were",
                with(with(deploying(OperationType::kUpdateService), tags), of_an_older_release),
                "111:http2 120s 60s 9s, old:http1 77s 60s 0s"},
       }) {
    EXPECT_EQ(served(only<PutCluster>(decide_runner(c.view, t0)).service), c.want) << c.name;
  }
}

TEST(Decide, ARevisionKnowsHowItWasServed) {
  RunnerView view = running();
  view.cluster->deployments[0].revision = 4;
  view.service.tags["hob:idle-timeout"] = "5m";
  EXPECT_EQ(decide(view), "cluster 1 serving old:done; amend 4 http1 120s 300s 0s");
  view.cluster = only<PutCluster>(decide_runner(view, t0)).service;
  EXPECT_EQ(decide(view), "nothing");
  // What it speaks was set meanwhile, for the next one.
  view = applied(OperationType::kUpdateService, RolloutState::kCompleted);
  view.service.tags = {{"hob:protocol", "http2"}};
  EXPECT_EQ(served(*only<PutRevision>(decide_runner(view, t0)).revision.settings),
            "http1 120s 60s 0s");
}

TEST(Decide, AFailedDeploymentTakesItsTagsAlong) {
  RunnerView view = applied(OperationType::kUpdateService, RolloutState::kFailed);
  view.service.tags = {{"hob:protocol", "http2"}, {"hob:min-size", "2"}, {"team", "web"}};
  view.service.previous = view.service.configuration;
  view.service.version_tags_previous.emplace().emplace("hob:sticky", "off");
  const Service after = only<PutService>(decide_runner(view, t0)).service;
  EXPECT_EQ(after.tags, (std::map<std::string, std::string>{
                            {"hob:sticky", "off"}, {"hob:min-size", "2"}, {"team", "web"}}));
  EXPECT_FALSE(after.version_tags_previous);
}

TEST(VersionTags, AreWrittenAndReadBack) {
  for (const link::RequestSettings& settings :
       {link::RequestSettings{}, link::RequestSettings{.protocol = link::TargetProtocol::kHttp2,
                                 .request_timeout = 0s,
                                 .idle_timeout = 1500ms,
                                 .sticky = 24h}})
    EXPECT_EQ(request_settings(version_tags(settings)), settings);
  EXPECT_TRUE(version_tags(link::RequestSettings{}).empty());
}

TEST(Decide, AFailureIsToldWithItsReasonAndTheLastLines) {
  RunnerView view = applied(OperationType::kCreateService, RolloutState::kFailed);
  view.cluster->deployments[0].reason = "the task exited with 1";
  view.cluster->deployments[0].last_lines = {"panic: no config"};
  const auto actions = decide_runner(view, t0);
  const LogLines lines = only<LogLines>(actions);
  std::string text;
  for (const std::string& line : lines.deployment) {
    EXPECT_TRUE(line.starts_with("[AppRunner] ")) << line;
    text += line + "\n";
  }
  EXPECT_NE(text.find("the task exited with 1"), std::string::npos);
  EXPECT_NE(text.find("panic: no config"), std::string::npos);
  EXPECT_EQ(only<PutService>(actions).service.events_logged,
            static_cast<int64_t>(lines.events.size()));
  EXPECT_EQ(only<PutOperation>(actions).operation.lines_logged,
            static_cast<int64_t>(lines.deployment.size()));
  EXPECT_EQ(only<PutOperation>(actions).operation.reason, "the task exited with 1");
}

// docs/decisions/sleep.md's table, and what a request waits for.
TEST(ClusterService, WhoSleepsAndHowLongRequestsWait) {
  struct Case {
    const char* name;
    std::map<std::string, std::string> tags;
    Duration start_time;
    int awake_min;
    Duration sleep_after;
    Duration queue_timeout;
  };
  for (const Case& c : {
           Case{"none", {}, 40s, 1, 20s, 10s},
           Case{"sleep-after", {{"hob:sleep-after", "5m"}}, 0s, 0, 5min, 10s},
           Case{"never", {{"hob:sleep-after", "off"}}, 0s, -1, 20s, 10s},
           Case{"no minimum", {{"hob:min-size", "0"}}, 0s, 0, 60s, 30s},
           Case{"no minimum, slow to start", {{"hob:min-size", "0"}}, 20s, 0, 60s, 70s},
           Case{"no minimum, with a time of its own",
                {{"hob:min-size", "0"}, {"hob:sleep-after", "2s"}},
                0s,
                0,
                2s,
                30s},
           Case{"how long a request may take is its version's matter",
                {{"hob:min-size", "0"}, {"hob:request-timeout", "5s"}},
                20s,
                0,
                60s,
                70s},
       }) {
    Service of = service(ServiceStatus::kRunning);
    of.tags = c.tags;
    of.start_time = c.start_time;
    const cluster::Routing routing =
        routing_of(of, AutoScalingConfiguration{}, link::RouteState::kServing);
    EXPECT_EQ(routing.awake_min, c.awake_min) << c.name;
    EXPECT_EQ(routing.sleep_after, c.sleep_after) << c.name;
    EXPECT_EQ(routing.queue_timeout, c.queue_timeout) << c.name;
  }
}

TEST(ClusterService, ATaskIsWhatTheConfigurationSays) {
  Service of = service(ServiceStatus::kRunning);
  of.configuration.port = "80";
  of.configuration.environment = {{"A", "b"}};
  of.configuration.start_command = "serve --root '/a b'";
  of.configuration.cpu = 256;
  of.configuration.memory_mib = 512;
  of.configuration.health_protocol = link::ProbeProtocol::kHttp;
  of.configuration.health_path = "/up";
  const auto task = task_template(of, image());
  ASSERT_TRUE(task);
  const link::Container& container = task->containers.at(0);
  EXPECT_EQ(container.environment,
            (std::map<std::string, std::string>{{"A", "b"}, {"PORT", "80"}}));
  EXPECT_EQ(container.command, (std::vector<std::string>{"serve", "--root", "/a b"}));
  EXPECT_TRUE(container.entry_point.empty());
  EXPECT_EQ(container.log_group, "/aws/apprunner/app/" + of.id + "/application");
  EXPECT_EQ(task->port, 80);
  EXPECT_EQ(task->probe->port, 80);
  EXPECT_EQ(task->probe->path, "/up");
  EXPECT_EQ(task->cpu, 256);
  of.configuration.start_command = "broken '";
  EXPECT_FALSE(task_template(of, image()));
}

// An update in its rollout, "111", over "old", at `step` of a canary.
RunnerView shifting(int step) {
  RunnerView view = applied(OperationType::kUpdateService, RolloutState::kInProgress);
  view.operation->revision = 2;
  view.service.revision = 1;
  view.service.revisions_made = 2;
  view.cluster->deployments.push_back(deployment("old", RolloutState::kCompleted, view.service));
  view.cluster->deployments[0].step = step;
  view.cluster->deployments[0].configuration =
      parse_strategy("canary 10% 5m bake=1h")->configuration;
  return view;
}

TEST(Decide, ARolloutsStepsAreInItsRecordAndItsLog) {
  const auto told = [](const RunnerView& view) {
    std::string text;
    std::string line;
    for (const RunnerAction& action : decide_runner(view, t0 + 7s)) {
      if (const auto* put = std::get_if<PutOperation>(&action)) {
        for (const OperationStep& step : put->operation.steps)
          text += fmt::format("{} {} {}; ", step.name, step.result, (step.started_at - t0) / 1s);
      }
      if (const auto* lines = std::get_if<LogLines>(&action)) line = lines->deployment.front();
    }
    return text + line;
  };
  EXPECT_EQ(told(shifting(0)), "");
  EXPECT_EQ(
      told(shifting(1)),
      "SCALE_UP SUCCEEDED 0; PRODUCTION_TRAFFIC_SHIFT 10%  7; [AppRunner] 10% of the requests "
      "go to revision 2, for 5m.");
  EXPECT_EQ(
      told(with(shifting(1),
                [](RunnerView& view) {
                  view.cluster->deployments[0].step_at =
                      Instant(std::chrono::hours(24 * 365) + 90s);
                })),
      "SCALE_UP SUCCEEDED 0; PRODUCTION_TRAFFIC_SHIFT 10%  7; [AppRunner] 10% of the requests "
      "go to revision 2, for 5m (until 00:06:30 UTC).");
  EXPECT_EQ(told(shifting(2)),
            "SCALE_UP SUCCEEDED 0; BAKE_TIME  7; [AppRunner] All requests go to revision 2, for 1h "
            "with the version before ready.");
  EXPECT_EQ(
      told(with(shifting(0), [](RunnerView& view) { view.operation->cancel_requested_at = t0; }))
          .substr(0, 30),
      "SCALE_UP ROLLBACK_SUCCEEDED 0;");
}

TEST(Decide, PromotesCancelsAndFailsAtAnyStep) {
  for (const int step : {0, 1, 2}) {
    RunnerView view = shifting(step);
    view.operation->promote_requested_at = t0;
    bool promoted = false;
    for (const RunnerAction& action : decide_runner(view, t0 + 7s)) {
      if (const auto* put = std::get_if<PutCluster>(&action))
        promoted = put->service.deployments[0].promoted;
    }
    EXPECT_TRUE(promoted) << step;
    view.cluster->deployments[0].promoted = true;
    EXPECT_EQ(decide(view, 7s).find("111:"), std::string::npos) << "once is enough";
    view.operation->cancel_requested_at = t0;
    EXPECT_EQ(decide(view, 7s),
              "service RUNNING; operation ROLLBACK_SUCCEEDED; cluster 1 serving 111:failed "
              "old:done; revision 2 failed")
        << step;
    view.operation->cancel_requested_at.reset();
    view.cluster->deployments[0].rollout = RolloutState::kFailed;
    EXPECT_EQ(decide(view, 7s), "service RUNNING; operation ROLLBACK_SUCCEEDED; revision 2 failed")
        << step;
  }
  EXPECT_EQ(decide(shifting(1), kRolloutTimeMax + 64min).find("ROLLBACK"), std::string::npos)
      << "its waits are no delay";
  EXPECT_NE(decide(shifting(1), kRolloutTimeMax + 65min).find("ROLLBACK"), std::string::npos);
}

TEST(Decide, ARollBackToAVersionThatIsKeptBringsItsTasksBack) {
  RunnerView view = accepted(OperationType::kUpdateService);
  view.operation->rolls_back_to = 1;
  view.image = image();
  cluster::Deployment kept = deployment("old", RolloutState::kCompleted, view.service);
  kept.kept_since = t0;
  view.cluster = cluster_of(
      view.service,
      {deployment("new", RolloutState::kCompleted, view.service, image("sha256:two")), kept});
  EXPECT_EQ(decide(view),
            "service OPERATION_IN_PROGRESS; operation IN_PROGRESS; cluster 1 serving old:new "
            "new:done");
  Operation begun;
  cluster::Service cluster;
  for (const RunnerAction& action : decide_runner(view, t0)) {
    if (const auto* put = std::get_if<PutOperation>(&action)) begun = put->operation;
    if (const auto* put = std::get_if<PutCluster>(&action)) cluster = put->service;
  }
  EXPECT_FALSE(cluster.deployments[0].kept_since);
  EXPECT_EQ(begun.revision, 1);
  // Cancelled, it is the way back again.
  view.operation = begun;
  view.operation->cancel_requested_at = t0;
  view.cluster = cluster;
  EXPECT_EQ(decide(view),
            "service RUNNING; operation ROLLBACK_SUCCEEDED; cluster 1 serving new:done old:done");
  // One that runs something else is no help, nor is another revision that runs the same: it would
  // come back under that one's number.
  for (const int revision : {0, 2}) {
    view = accepted(OperationType::kUpdateService);
    view.operation->rolls_back_to = 1;
    view.image = image(revision == 0 ? "sha256:three" : "sha256:one");
    kept.revision = revision;
    view.cluster = cluster_of(
        view.service,
        {deployment("new", RolloutState::kCompleted, view.service, image("sha256:two")), kept});
    EXPECT_EQ(decide(view),
              "service OPERATION_IN_PROGRESS; operation IN_PROGRESS; cluster 1 serving 111:new "
              "new:done old:done")
        << revision;
  }
}

TEST(Strategy, IsParsedStrictly) {
  for (const char* text :
       {"rolling min=50 max=150", "blue-green", "blue-green bake=10m", "canary 10% 5m, 50% 30s",
        "canary 1% 5m bake=24h", "linear 10% 1m", "linear 3% 500ms bake=1h"}) {
    const auto strategy = parse_strategy(text);
    ASSERT_TRUE(strategy) << text << ": " << strategy.error().message;
    EXPECT_EQ(show(*strategy), text);
  }
  EXPECT_EQ(show(*parse_strategy("rolling")), "rolling min=100 max=200");
  EXPECT_EQ(parse_strategy("canary 10 5m / 50 5m").value(),
            parse_strategy("canary 10% 5m,50% 5m").value());
  EXPECT_EQ(parse_strategy("linear 40% 1m")->configuration.steps.size(), 2u) << "40, 80, all";
  for (const char* bad :
       {"", "canary", "canary 10%", "canary 0% 5m", "canary 100% 5m", "canary 50% 5m, 10% 5m",
        "canary 10% 25h", "canary 10% 5m,", "canary 10% 5m bake=x", "canary 10% 5m 50% 5m",
        "linear 2% 1m", "rolling min=101", "rolling max=99", "rolling min=100 max=100",
        "rolling bake=1m", "blue-green 10%", "green", "blue-green bake=-1s"}) {
    const auto refused = parse_strategy(bad);
    ASSERT_FALSE(refused) << bad;
    EXPECT_NE(refused.error().message.find("canary 10% 5m, 50% 5m"), std::string::npos)
        << "what would be right: " << refused.error().message;
  }
}

}  // namespace
}  // namespace hob::runner
