#include "git/polling.h"

#include <gtest/gtest.h>

#include <vector>

namespace hob::git {
namespace {

using namespace std::chrono_literals;
constexpr Instant t0{1'000'000s};

std::string show(const PollAction& action) {
  if (std::holds_alternative<AskHead>(action)) return "ask";
  if (const auto* deploy = std::get_if<DeployHead>(&action)) return "deploy " + deploy->commit;
  return "at " + std::to_string((std::get<PollAt>(action).at - t0) / 1s) + " s";
}

TEST(Polling, Decides) {
  struct Case {
    const char* name;
    PolledBranch branch;
    Duration now;
    const char* want;
  };
  for (const Case& c : std::vector<Case>{
           {"never asked", {}, 0s, "ask"},
           {"asked just now", {.asked_at = t0}, 0s, "at 180 s"},
           {"one before its time", {.asked_at = t0}, 180s - 1ms, "at 180 s"},
           {"its time", {.asked_at = t0}, 180s, "ask"},
           {"jitter makes it later", {.asked_at = t0, .jitter = 0.5}, 180s, "at 202 s"},
           {"the head is what runs",
            {.deployed = "a", .head = "a", .asked_at = t0},
            1s,
            "at 180 s"},
           {"the head is another", {.deployed = "a", .head = "b", .asked_at = t0}, 1s, "deploy b"},
           {"nothing was ever deployed", {.head = "b", .asked_at = t0}, 1s, "deploy b"},
           {"the branch is gone: what runs goes on",
            {.deployed = "a", .asked_at = t0},
            1s,
            "at 180 s"},
           {"a hint asks soon", {.asked_at = t0, .hinted_at = t0 + 1s}, 1s, "at 2 s"},
           {"and not sooner", {.asked_at = t0, .hinted_at = t0 + 1s}, 2s, "ask"},
           {"a hint of before is no news", {.asked_at = t0, .hinted_at = t0 - 1s}, 2s, "at 180 s"},
           {"a failure doubles the wait", {.asked_at = t0, .failures = 1}, 180s, "at 360 s"},
           {"each of them", {.asked_at = t0, .failures = 3}, 180s, "at 1440 s"},
           {"up to an hour", {.asked_at = t0, .failures = 1'000'000}, 180s, "at 3600 s"},
           {"and hints do not hurry a failing one",
            {.asked_at = t0, .hinted_at = t0 + 1s, .failures = 1},
            3s,
            "at 360 s"},
           {"an old head of a failing one is not deployed",
            {.deployed = "a", .head = "b", .asked_at = t0, .failures = 1},
            3s,
            "at 360 s"},
           {"the clock was set back", {.asked_at = t0 + 1h}, 0s, "at 180 s"},
       }) {
    EXPECT_EQ(show(decide_poll(c.branch, t0 + c.now)), c.want) << c.name;
  }
}

}  // namespace
}  // namespace hob::git
