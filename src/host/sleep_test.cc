#include "host/sleep.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace hob::host {
namespace {

using namespace std::chrono_literals;
constexpr Instant t0{1'000'000s};
const EdgeId kA{"a"};
const EdgeId kB{"b"};

std::string show(const std::optional<SleepAction>& action) {
  if (!action) return "nothing";
  if (std::holds_alternative<Freeze>(*action)) return "freeze";
  if (std::holds_alternative<Thaw>(*action)) return "thaw";
  return "later " + std::to_string((std::get<SleepLater>(*action).at - t0) / 1ms);
}

// A healthy task whose container started at t0.
TEST(Sleep, AsTheTableSays) {
  struct Case {
    const char* name;
    std::function<void(SleepState&)> before;
    Duration now;
    const char* want;
    bool healthy = true;
  };
  const auto released = [](SleepState& s) { note_released(s, kA); };
  const auto frozen = [](SleepState& s) {
    note_released(s, kA);
    s.frozen = true;
  };
  const auto freezing = [](SleepState& s) {
    note_released(s, kA);
    s.freezing = true;
  };
  const auto also = [](auto first, auto second) {
    return [first, second](SleepState& s) {
      first(s);
      second(s);
    };
  };
  const auto held_by_a = [](SleepState& s) { note_held(s, kA); };
  const auto a_gone_at_60 = [](SleepState& s) { note_edge_gone(s, kA, t0 + 60s); };
  for (const Case& c : std::vector<Case>{
           {"nobody ever spoke of it", [](SleepState&) {}, 24h, "nothing"},
           {"released", released, 60s, "freeze"},
           {"released at once after its start", released, 0s, "later 10000"},
           {"one ms before it has been awake long enough", released, 9'999ms, "later 10000"},
           {"at that instant", released, 10s, "freeze"},
           {"released, not healthy", released, 60s, "nothing", false},
           {"held", held_by_a, 60s, "nothing"},
           {"held again", also(released, held_by_a), 60s, "nothing"},
           {"held by another",
            [](SleepState& s) {
              note_held(s, kB);
              note_released(s, kA);
            },
            60s, "nothing"},
           {"released by both",
            [](SleepState& s) {
              note_held(s, kA);
              note_held(s, kB);
              note_released(s, kA);
              note_released(s, kB);
            },
            60s, "freeze"},
           {"its edge is gone: that is no release", also(held_by_a, a_gone_at_60), 24h, "nothing"},
           {"released by one, held by one that is gone",
            [](SleepState& s) {
              note_held(s, kB);
              note_released(s, kA);
              note_edge_gone(s, kB, t0 + 60s);
            },
            60s, "later 70000"},
           {"and its hold has ended",
            [](SleepState& s) {
              note_held(s, kB);
              note_released(s, kA);
              note_edge_gone(s, kB, t0 + 60s);
            },
            70s, "freeze"},
           {"and it came back in time",
            [](SleepState& s) {
              note_held(s, kB);
              note_released(s, kA);
              note_edge_gone(s, kB, t0 + 60s);
              note_edge_back(s, kB, t0 + 61s);
            },
            90s, "nothing"},
           {"and it came back too late",
            [](SleepState& s) {
              note_held(s, kB);
              note_released(s, kA);
              note_edge_gone(s, kB, t0 + 60s);
              note_edge_back(s, kB, t0 + 70s);
            },
            90s, "freeze"},
           {"the agent has just started",
            also(released, [](SleepState& s) { s.not_before = t0 + 65s; }), 60s, "later 65000"},
           {"being frozen", freezing, 60s, "nothing"},
           {"being frozen and held", also(freezing, held_by_a), 60s, "thaw"},
           {"frozen", frozen, 24h, "nothing"},
           {"frozen and held", also(frozen, held_by_a), 60s, "thaw"},
           {"frozen and held in its first seconds", also(frozen, held_by_a), 0s, "thaw"},
           {"frozen, held, and its edge is gone", also(also(frozen, held_by_a), a_gone_at_60), 60s,
            "thaw"},
           {"frozen, and found not to be healthy", frozen, 60s, "thaw", false},
           {"being thawed", also(also(frozen, held_by_a), [](SleepState& s) { s.thawing = true; }),
            60s, "nothing"},
           {"being thawed and released", also(frozen, [](SleepState& s) { s.thawing = true; }), 60s,
            "nothing"},
           {"it ended",
            also(also(frozen, held_by_a), [](SleepState& s) { note_container_gone(s); }), 60s,
            "nothing"},
       }) {
    SleepState state;
    c.before(state);
    const SleepView view{.healthy = c.healthy, .started_at = t0};
    const auto action = decide_sleep(state, view, t0 + c.now);
    EXPECT_EQ(show(action), c.want) << c.name;
  }
}

TEST(Sleep, RemembersSoManyEdgesAndTheLinkedOnesFirst) {
  SleepState state;
  for (size_t i = 0; i < 10 * kEdgesMax; ++i) {
    const EdgeId gone{"gone " + std::to_string(i)};
    note_held(state, gone);
    note_edge_gone(state, gone, t0 + i * 1s);
    note_held(state, kA);
    EXPECT_LE(state.holders.size(), kEdgesMax);
    EXPECT_TRUE(state.holders.contains(kA));
    EXPECT_TRUE(state.holders.contains(gone)) << "the last to go is the last to be forgotten";
  }
}

}  // namespace
}  // namespace hob::host
