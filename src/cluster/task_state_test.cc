#include "cluster/task_state.h"

#include <gtest/gtest.h>

namespace hob::cluster {
namespace {

using namespace std::chrono_literals;
constexpr Instant t0{1'000'000s};

Task running() {
  return {.id = TaskId{"t"},
          .host = HostId{"h"},
          .status = TaskStatus::kRunning,
          .health = Health::kHealthy,
          .was_healthy = true};
}
link::TaskReport report(TaskStatus status, Health health = Health::kUnknown) {
  return {.task = TaskId{"t"}, .status = status, .health = health};
}

TEST(MergedReport, MovesOnlyOn) {
  struct Case {
    const char* name;
    TaskStatus had;
    TaskStatus told;
    TaskStatus want;
  };
  for (const Case& c : {
           Case{"on", TaskStatus::kPending, TaskStatus::kRunning, TaskStatus::kRunning},
           Case{"an old report", TaskStatus::kRunning, TaskStatus::kPending, TaskStatus::kRunning},
           Case{"stopped", TaskStatus::kRunning, TaskStatus::kStopped, TaskStatus::kStopped},
           Case{"stopped is final", TaskStatus::kStopped, TaskStatus::kRunning,
                TaskStatus::kStopped},
       }) {
    Task task{.id = TaskId{"t"}, .status = c.had};
    EXPECT_EQ(merged(task, report(c.told), t0).status, c.want) << c.name;
  }
}

TEST(MergedReport, HealthAndSinceWhen) {
  Task task{.id = TaskId{"t"}, .status = TaskStatus::kPending};
  task = merged(task, report(TaskStatus::kRunning), t0);
  EXPECT_FALSE(task.was_healthy);
  EXPECT_FALSE(task.unhealthy_since) << "it was never healthy";
  task = merged(task, report(TaskStatus::kRunning, Health::kHealthy), t0 + 1s);
  EXPECT_TRUE(task.was_healthy);
  EXPECT_EQ(task.healthy_at, t0 + 1s);
  task = merged(task, report(TaskStatus::kRunning, Health::kUnhealthy), t0 + 2s);
  EXPECT_EQ(task.unhealthy_since, t0 + 2s);
  task = merged(task, report(TaskStatus::kRunning, Health::kUnhealthy), t0 + 3s);
  EXPECT_EQ(task.unhealthy_since, t0 + 2s) << "the first time counts";
  task = merged(task, report(TaskStatus::kRunning, Health::kHealthy), t0 + 4s);
  EXPECT_FALSE(task.unhealthy_since);
  EXPECT_EQ(task.healthy_at, t0 + 1s) << "the first time counts";
  task = merged(task, report(TaskStatus::kPending, Health::kHealthy), t0 + 5s);
  EXPECT_EQ(task.health, Health::kUnhealthy) << "its container is being started again";
}

TEST(MergedReport, SleepIsOfARunningTaskAlone) {
  link::TaskReport asleep = report(TaskStatus::kRunning, Health::kHealthy);
  asleep.asleep = true;
  Task task = merged(running(), asleep, t0);
  EXPECT_TRUE(task.asleep);
  EXPECT_TRUE(is_healthy(task)) << "requests may go to it: its edge wakes it";
  EXPECT_FALSE(merged(task, report(TaskStatus::kRunning, Health::kHealthy), t0).asleep);
  EXPECT_FALSE(merged(task, report(TaskStatus::kStopped), t0).asleep);
}

TEST(MergedReport, KeepsWhyItsHostCallsItUnhealthy) {
  Task task{.id = TaskId{"t"}, .status = TaskStatus::kRunning};
  link::TaskReport bad = report(TaskStatus::kRunning, Health::kUnhealthy);
  bad.reason = std::string(kReasonUnhealthy) + "; the container listens on port 9999";
  task = merged(task, bad, t0);
  EXPECT_EQ(task.unhealthy_reason, bad.reason);
  EXPECT_EQ(task.stopped_reason, "") << "it runs";
  task = merged(task, report(TaskStatus::kRunning, Health::kHealthy), t0 + 1s);
  EXPECT_EQ(task.unhealthy_reason, "");
}

TEST(MergedReport, KeepsWhyControlStoppedIt) {
  Task task = running();
  task.desired = link::DesiredStatus::kStopped;
  task.stop_code = StopCode::kServiceSchedulerInitiated;
  task.stopped_reason = "Scaling activity";
  link::TaskReport told = report(TaskStatus::kStopped);
  told.stop_code = StopCode::kEssentialContainerExited;
  told.reason = "Essential container in task exited";
  told.exit_code = 143;
  told.stopped_at = t0 + 1h;
  task = merged(task, told, t0);
  EXPECT_EQ(task.stopped_reason, "Scaling activity");
  EXPECT_EQ(task.stop_code, StopCode::kServiceSchedulerInitiated);
  EXPECT_EQ(task.exit_code, 143);
  EXPECT_EQ(task.stopped_at, t0) << "a host's clock that is ahead does not count";
}

TEST(MergedReport, IsBounded) {
  link::TaskReport told = report(TaskStatus::kStopped);
  told.last_lines = std::vector<std::string>(100, std::string(10'000, 'x'));
  told.last_lines.back() = "the last";
  told.reason = std::string(1'000'000, 'r');
  told.stop_code = StopCode::kTaskFailedToStart;
  const Task task = merged(Task{.id = TaskId{"t"}}, told, t0);
  EXPECT_EQ(task.last_lines.size(), 20u);
  EXPECT_EQ(task.last_lines.back(), "the last");
  EXPECT_EQ(task.last_lines.front().size(), 1024u);
  EXPECT_EQ(task.stopped_reason.size(), 1024u);
}

TEST(PermanentFailure, ByItsText) {
  struct Case {
    const char* reason;
    bool want;
  };
  for (const Case& c : {
           Case{"CannotPullContainerError: 127.0.0.1:4566/app:1: manifest unknown", true},
           Case{"CannotPullContainerError: app:1 not found", true},
           Case{"CannotPullContainerError: access denied", true},
           Case{"CannotPullContainerError: connection refused", false},
           Case{"CannotPullContainerError: took longer than 30000 ms", false},
           Case{"CannotStartContainerError: /app: no such file or directory", true},
           Case{"Essential container in task exited", false},
           Case{"RESOURCE:CPU: no", true},
           Case{"", false},
       }) {
    Task task{.status = TaskStatus::kStopped,
              .stop_code = StopCode::kTaskFailedToStart,
              .stopped_reason = c.reason};
    EXPECT_EQ(is_permanent_failure(task), c.want) << c.reason;
    task.was_healthy = true;
    EXPECT_FALSE(is_permanent_failure(task)) << c.reason;
  }
}

TEST(PermanentFailure, AsTheHostSaysWhateverTheWords) {
  Task task{.id = TaskId{"t"}, .status = TaskStatus::kPending};
  link::TaskReport report{.task = task.id,
                          .status = TaskStatus::kStopped,
                          .stop_code = StopCode::kTaskFailedToStart,
                          .reason = "CannotPullContainerError: not found"};
  EXPECT_TRUE(is_permanent_failure(merged(task, report, t0))) << "an older host's words";
  report.permanent = false;
  EXPECT_FALSE(is_permanent_failure(merged(task, report, t0)));
  report = {.task = task.id,
            .status = TaskStatus::kRunning,
            .health = Health::kUnhealthy,
            .reason = std::string(kReasonUnhealthy) + "; the container listens on port 80",
            .permanent = true};
  task = merged(task, report, t0);
  EXPECT_FALSE(is_permanent_failure(task)) << "nobody has ended it yet";
  task.desired = link::DesiredStatus::kStopped;
  task.stop_code = StopCode::kServiceSchedulerInitiated;
  task.stopped_reason = task.unhealthy_reason;
  EXPECT_TRUE(is_permanent_failure(task));
}

TEST(AssignmentOf, SaysWhatTheDeploymentSays) {
  Service service;
  service.deployments = {{.id = DeploymentId{"d2"}}, {.id = DeploymentId{"d1"}}};
  service.deployments[1].task.containers = {{.name = "app", .log_group = "g"}};
  service.deployments[1].task.stop_timeout = 5s;
  Task task = running();
  task.deployment = DeploymentId{"d1"};
  task.zone = "us-east-1b";
  task.address = "198.18.16.9";
  link::Assignment made = assignment_of(task, &service);
  EXPECT_EQ(made.containers.at(0).log_stream, "instance/t");
  EXPECT_EQ(made.stop_timeout, 5s);
  EXPECT_EQ(made.gateway, "198.18.16.1");
  EXPECT_EQ(made.prefix_length, 20);
  EXPECT_EQ(made.desired, link::DesiredStatus::kRunning);
  task.deployment = DeploymentId{"gone"};
  EXPECT_EQ(assignment_of(task, &service).desired, link::DesiredStatus::kStopped);
  EXPECT_EQ(assignment_of(task, nullptr).desired, link::DesiredStatus::kStopped);
}

TEST(Records, KeepWhatANewerVersionWrote) {
  const auto task = decode_task(R"({"id":"t","status":"RUNNING","new_field":{"a":1}})");
  ASSERT_TRUE(task) << task.error().message;
  EXPECT_EQ(task->status, TaskStatus::kRunning);
  EXPECT_NE(encode_over(*task, R"({"id":"t","new_field":{"a":1}})").find("new_field"),
            std::string::npos);
  const auto bad = decode_task(R"({"id":"t","status":"SLEEPING"})");
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().message.find("status"), std::string::npos) << bad.error().message;
}

}  // namespace
}  // namespace hob::cluster
