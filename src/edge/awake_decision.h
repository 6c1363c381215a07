// Which targets of a service an edge keeps awake: as many as its load asks for, the others sleep.
//
// Pure: no clock, no I/O, no state. Called by AwakeController when a request waits, a target is
// near its limit, a host answered, a table changed, a released target's last request ended, or a
// time it asked for has come. Waking is cheap and undone easily, so it follows what is in flight at
// once, and so does sleeping of those beyond the first, after the little while in which chance
// brings a load back. Only the first is kept for visitors: `sleep_after`.
// Times are milliseconds of steady time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

namespace hob::edge {

inline constexpr uint64_t kUnknownRetry =
    1'000;                                      // a target its host did not know is asked for again
inline constexpr uint64_t kAwakeCheckMin = 10;  // between two looks at a load that may fall
inline constexpr uint64_t kAwakeCheckMax = 1'000;
// A target beyond the first that was not needed for so long goes to sleep, or after sleep_after
// where that is shorter. Waking takes a millisecond, so keeping them longer buys little.
inline constexpr uint64_t kSurplusAfter = 50;
inline constexpr size_t kPeakSlots = 16;  // both spans are measured this finely

enum class Phase {
  kAsleep,     // not held: may be frozen, gets nothing
  kWaking,     // held, its host has not answered yet: gets nothing
  kAwake,      // held, and its host said that it runs
  kReleasing,  // held and awake, gets no new requests, released when its last one has ended
};

struct AwakeTarget {
  Phase phase = Phase::kAsleep;
  int in_flight = 0;
  bool asked_for = false;  // requests wait for it and no other
  bool failing = false;    // its last request failed at the gateway: it is no place to count on
  uint64_t since = 0;      // in this phase
  uint64_t retry_at = 0;   // asleep: not to be asked for before, its host did not know it
};

struct AwakeView {
  // In the order in which targets are woken; released from the end. Every edge has the same order,
  // so that several edges hold the same targets.
  std::vector<AwakeTarget> targets{};
  int waiting = 0;           // requests in the queues
  int max_concurrency = 1;   // at least 1
  int awake_min = 0;         // -1: all
  uint64_t sleep_after = 0;  // milliseconds
  double demand = 0;  // mean of requests in flight (waiting ones among them) since the last look
  double peak = 0;    // the most that demand and what was in flight were over sleep_after
  double recent = 0;  // and over surplus_after()
};

struct AwakeActions {
  std::vector<size_t> hold{};     // asleep: ask its host for it
  std::vector<size_t> let_go{};   // awake: take it out of the choice, it is releasing
  std::vector<size_t> keep{};     // releasing: put it back into the choice
  std::vector<size_t> release{};  // nothing is in flight to it: tell its host, it is asleep
  std::optional<uint64_t> again{};
  // Requests wait, and no sleeping target is left to be woken for them.
  bool short_of_targets = false;
  // A target that gets this many requests in flight should be told about, before requests wait.
  int signal_at = std::numeric_limits<int>::max();
  size_t wanted = 0;  // targets that shall be awake
};

uint64_t surplus_after(uint64_t sleep_after);

AwakeActions decide_awake(const AwakeView& view, uint64_t now);

// Targets for so many requests at once; 0 for none.
size_t targets_for(double load, int max_concurrency);

// The largest of the values noted over a sliding span: at least `span`, at most one slot more.
class Peak {
 public:
  void note(double value, uint64_t now, uint64_t span);
  double value(uint64_t now, uint64_t span) const;

 private:
  struct Slot {
    uint64_t number = 0;
    double value = 0;
  };
  static uint64_t slot_of(uint64_t now, uint64_t span);
  std::array<Slot, kPeakSlots + 1> slots_{};
};

}  // namespace hob::edge
