// Deployments of code services: the build before the rollout.
#include <gtest/gtest.h>

#include "runner/decide.h"

namespace hob::runner {
namespace {

using namespace std::chrono_literals;
constexpr Instant t0{1'000'000s};

template <class T>
const T* find(const std::vector<RunnerAction>& actions) {
  for (const RunnerAction& action : actions) {
    if (const T* found = std::get_if<T>(&action)) return found;
  }
  return nullptr;
}

// One that was just accepted.
RunnerView accepted(OperationType type) {
  RunnerView view{.service = {.account = "000000000001",
                              .region = "us-east-1",
                              .id = std::string(32, 'a'),
                              .name = "app",
                              .url = "a.us-east-1.hob.localhost",
                              .operation = "op"}};
  view.service.configuration.code = CodeSource{.repository_url = "https://git.example.com/a.git",
                                               .branch = "main",
                                               .source_directory = "/web"};
  view.service.ever_ran = type != OperationType::kCreateService;
  view.operation = Operation{.id = "op",
                             .account = view.service.account,
                             .service = view.service.id,
                             .type = type,
                             .started_at = t0,
                             .updated_at = t0};
  view.scaling = AutoScalingConfiguration{};
  view.build_image = "127.0.0.1:4566/source/a:op-1";
  return view;
}

// What is written is what the next decision sees.
std::vector<RunnerAction> step(RunnerView& view, Duration now) {
  std::vector<RunnerAction> actions = decide_runner(view, t0 + now);
  if (const auto* put = find<PutService>(actions)) view.service = put->service;
  if (const auto* put = find<PutOperation>(actions)) view.operation = put->operation;
  return actions;
}

RunnerView building(OperationType type) {
  RunnerView view = accepted(type);
  step(view, 0s);
  return view;
}

link::BuildReport report(link::BuildState state, std::vector<std::string> lines = {}) {
  return {.build = "op-1", .state = state, .lines = std::move(lines)};
}

TEST(CodeService, ABuildIsOrderedBeforeAnythingElse) {
  RunnerView view = accepted(OperationType::kCreateService);
  const auto actions = step(view, 0s);
  const auto* ordered = find<OrderBuild>(actions);
  ASSERT_NE(ordered, nullptr);
  EXPECT_EQ(ordered->order.build, "op-1");
  EXPECT_EQ(ordered->order.url, "https://git.example.com/a.git");
  EXPECT_EQ(ordered->order.source_directory, "web");
  EXPECT_EQ(ordered->order.runtime, "");
  EXPECT_EQ(view.operation->status, OperationStatus::kInProgress);
  EXPECT_FALSE(view.operation->applied);
  EXPECT_EQ(view.operation->steps.front().name, "SOURCE_BUILD");
  EXPECT_EQ(find<ResolveImage>(actions), nullptr);
}

TEST(CodeService, TheApisRuntimeIsOrderedAsTheFileNamesIt) {
  RunnerView view = accepted(OperationType::kCreateService);
  view.service.configuration.code->from_file = false;
  view.service.configuration.code->runtime = "CORRETTO_11";
  view.service.configuration.code->start_command = "java A";
  const auto actions = step(view, 0s);
  EXPECT_EQ(find<OrderBuild>(actions)->order.runtime, "corretto11");
  EXPECT_EQ(find<OrderBuild>(actions)->order.start_command, "java A");
}

TEST(CodeService, WithoutNewsTheSameIsAskedForAgain) {
  RunnerView view = building(OperationType::kCreateService);
  const auto actions = step(view, 5s);
  EXPECT_EQ(find<PutOperation>(actions), nullptr);
  EXPECT_EQ(find<OrderBuild>(actions)->order.build, "op-1");
  EXPECT_EQ(find<WakeAt>(actions)->at, t0 + 10s);
}

TEST(CodeService, LinesAreTakenOnceAndInParts) {
  RunnerView view = building(OperationType::kCreateService);
  view.build = report(link::BuildState::kRunning, std::vector<std::string>(60, "x"));
  auto actions = step(view, 1s);
  EXPECT_EQ(find<LogLines>(actions)->deployment.size(), 50u);
  EXPECT_EQ(find<OrderBuild>(actions)->order.lines_taken, 50);
  actions = step(view, 1s);
  EXPECT_EQ(find<LogLines>(actions)->deployment, std::vector<std::string>(10, "[Build] x"));
  actions = step(view, 1s);
  EXPECT_EQ(find<LogLines>(actions), nullptr);
  EXPECT_EQ(find<OrderBuild>(actions)->order.lines_taken, 60);
  view.build->first_line = 61;  // a host that is ahead is told again what is kept
  actions = step(view, 1s);
  EXPECT_EQ(find<LogLines>(actions), nullptr);
  EXPECT_EQ(find<OrderBuild>(actions)->order.lines_taken, 60);
}

TEST(CodeService, ABuiltImageIsRolledOut) {
  RunnerView view = building(OperationType::kCreateService);
  view.build = report(link::BuildState::kSucceeded, {"done"});
  view.build->digest = "sha256:one";
  view.build->port = 3000;
  auto actions = step(view, 1s);
  EXPECT_EQ(find<EndBuild>(actions)->build, "op-1");
  EXPECT_EQ(view.operation->digest, "sha256:one");
  EXPECT_EQ(view.service.configuration.image, view.build_image);
  EXPECT_EQ(view.service.configuration.port, "3000");
  actions = step(view, 1s);
  EXPECT_NE(find<ResolveImage>(actions), nullptr);
  view.image = ResolvedImage{.source = {.repository = "source/a", .reference = "sha256:one"},
                             .digest = "sha256:one"};
  actions = step(view, 1s);
  EXPECT_TRUE(view.operation->applied);
  ASSERT_NE(find<PutCluster>(actions), nullptr);
}

TEST(CodeService, AFailedBuildLeavesTheVersionBefore) {
  RunnerView view = building(OperationType::kStartDeployment);
  view.service.configuration.image = "old";
  view.build = report(link::BuildState::kFailed);
  view.build->reason = "Failed to execute 'build' command.\nlast line";
  const auto actions = step(view, 1s);
  EXPECT_EQ(view.service.status, ServiceStatus::kRunning);
  EXPECT_EQ(view.service.configuration.image, "old");
  EXPECT_EQ(view.operation->status, OperationStatus::kRollbackSucceeded);
  EXPECT_EQ(view.operation->reason,
            "Failed to build your application source code. Reason: Failed to execute 'build' "
            "command.");
  EXPECT_EQ(find<EndBuild>(actions)->build, "op-1");
  EXPECT_EQ(find<PutCluster>(actions), nullptr);
}

TEST(CodeService, AFailedFirstBuildIsAFailedService) {
  RunnerView view = building(OperationType::kCreateService);
  view.build = report(link::BuildState::kFailed);
  step(view, 1s);
  EXPECT_EQ(view.service.status, ServiceStatus::kCreateFailed);
  EXPECT_EQ(view.operation->status, OperationStatus::kFailed);
}

TEST(CodeService, WhatIsNotItsFaultIsTriedAgainAndNotForEver) {
  RunnerView view = building(OperationType::kStartDeployment);
  for (int attempt = 1; attempt < kBuildAttemptsMax; ++attempt) {
    view.build = report(link::BuildState::kFailed);
    view.build->build = build_of(*view.operation);
    view.build->again = true;
    const auto actions = step(view, 1s);
    EXPECT_EQ(find<EndBuild>(actions)->build, "op-" + std::to_string(attempt));
    EXPECT_EQ(find<OrderBuild>(actions)->order.build, "op-" + std::to_string(attempt + 1));
  }
  view.build->build = build_of(*view.operation);
  step(view, 1s);
  EXPECT_EQ(view.operation->status, OperationStatus::kRollbackSucceeded);
}

TEST(CodeService, ACancelledBuildEnds) {
  RunnerView view = building(OperationType::kStartDeployment);
  view.operation->cancel_requested_at = t0 + 1s;
  const auto actions = step(view, 1s);
  EXPECT_EQ(find<EndBuild>(actions)->build, "op-1");
  EXPECT_EQ(find<OrderBuild>(actions), nullptr);
  EXPECT_EQ(view.service.status, ServiceStatus::kRunning);
}

TEST(CodeService, ABuildThatNobodyEndsIsEndedByTime) {
  RunnerView view = building(OperationType::kStartDeployment);
  step(view, kBuildTimeMax - 1ms);
  EXPECT_FALSE(view.operation->ended_at);
  step(view, kBuildTimeMax);
  EXPECT_TRUE(view.operation->ended_at);
}

TEST(CodeService, ARollBackBuildsNothing) {
  RunnerView view = accepted(OperationType::kUpdateService);
  view.operation->rolls_back_to = 1;
  const auto actions = step(view, 0s);
  EXPECT_EQ(find<OrderBuild>(actions), nullptr);
  EXPECT_NE(find<ResolveImage>(actions), nullptr);
}

}  // namespace
}  // namespace hob::runner
