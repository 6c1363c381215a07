#include "host/restart.h"

#include <gtest/gtest.h>

#include <string>

namespace hob::host {
namespace {

using namespace std::chrono_literals;
constexpr Instant t0{1'000'000s};
TaskRun ran(Duration from, Duration to) { return {t0 + from, t0 + to}; }
TaskRun running(Duration from) { return {t0 + from, std::nullopt}; }

std::string show(const std::optional<RestartAction>& action) {
  if (!action) return "nothing";
  if (std::holds_alternative<StartAgain>(*action)) return "start";
  return "start at " + std::to_string((std::get<StartAt>(*action).at - t0) / 1s) + " s";
}

TEST(Restart, Decides) {
  struct Case {
    const char* name;
    std::vector<TaskRun> runs;
    Duration now;
    const char* want;
  };
  for (const Case& c : {
           Case{"never ran", {}, 0s, "start"},
           Case{"running", {ran(0s, 5s), running(6s)}, 7s, "nothing"},
           Case{"a stable run ended: no wait", {ran(0s, 60s)}, 60s, "start"},
           Case{"a failure waits 1 s", {ran(0s, 5s)}, 5s, "start at 6 s"},
           Case{"the wait is over at its last ms", {ran(0s, 5s)}, 6s, "start"},
           Case{"a second failure doubles it", {ran(0s, 5s), ran(6s, 7s)}, 7s, "start at 9 s"},
           Case{"a stable run forgives", {ran(0s, 5s), ran(6s, 99s)}, 99s, "start"},
           Case{"one ms short of stable", {ran(0s, 60s - 1ms)}, 60s, "start at 60 s"},
           Case{"the clock was set back", {ran(0s, 5s)}, 3s, "start at 4 s"},
           Case{"5 min at most", std::vector<TaskRun>(1000, ran(0s, 1s)), 1s, "start at 301 s"},
       }) {
    EXPECT_EQ(show(decide_restart({c.runs}, t0 + c.now)), c.want) << c.name;
  }
}

}  // namespace
}  // namespace hob::host
