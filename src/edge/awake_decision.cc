#include "edge/awake_decision.h"

#include <algorithm>
#include <cmath>

#include "base/assert.h"

namespace hob::edge {
namespace {

bool usable(const AwakeTarget& target, uint64_t now) {
  return target.phase == Phase::kAsleep ? now >= target.retry_at : !target.failing;
}

}  // namespace

size_t targets_for(double load, int max_concurrency) {
  if (load <= 0) return 0;
  // What is measured carries rounding; a millionth of a target is none.
  return static_cast<size_t>(std::ceil(load / max_concurrency - 1e-6));
}

uint64_t surplus_after(uint64_t sleep_after) { return std::min(sleep_after, kSurplusAfter); }

AwakeActions decide_awake(const AwakeView& view, uint64_t now) {
  HOB_ASSERT(view.max_concurrency >= 1);
  AwakeActions actions;
  const size_t count = view.targets.size();
  int in_flight = view.waiting;
  for (const AwakeTarget& target : view.targets) in_flight += target.in_flight;
  const double load = std::max({view.demand, view.recent, static_cast<double>(in_flight)});
  const size_t least = view.awake_min < 0 ? count : static_cast<size_t>(view.awake_min);
  const size_t visited = view.peak > 0 || load > 0 ? 1 : 0;
  // While the last place is taken one is woken for the next request, but where they come one after
  // the other.
  const int next = in_flight > 1 ? 1 : 0;
  const size_t loaded = std::max(targets_for(load, view.max_concurrency),
                                 targets_for(in_flight + next, view.max_concurrency));
  const size_t want = std::min(std::max({loaded, visited, least}), count);

  // The first `want` that can be used are wanted: those past them sleep in the end, whatever the
  // order in which they were woken.
  std::vector<bool> wanted(count, false);
  bool more = false;     // usable ones are left over
  bool settled = true;   // all that are wanted are awake
  bool surplus = false;  // some are awake, or are woken, that the load does not need
  std::optional<uint64_t> retry_at;
  int64_t coming = 0;
  int64_t free = 0;
  for (size_t i = 0; i < count; ++i) {
    const AwakeTarget& target = view.targets[i];
    if (!usable(target, now)) {
      if (target.phase == Phase::kAsleep)
        retry_at = std::min(retry_at.value_or(target.retry_at), target.retry_at);
      continue;
    }
    if (actions.wanted == want && target.asked_for) {
      // Beyond what the load needs: a client's own target.
      wanted[i] = surplus = true;
      continue;
    }
    if (actions.wanted == want) {
      more = more || target.phase == Phase::kAsleep;
      continue;
    }
    wanted[i] = true;
    ++actions.wanted;
    if (target.phase == Phase::kAsleep || target.phase == Phase::kWaking) {
      settled = false;
      coming += view.max_concurrency;
    } else {
      free += std::max(0, view.max_concurrency - target.in_flight);
    }
  }

  const uint64_t surplus_span = surplus_after(view.sleep_after);
  const uint64_t kept_for = actions.wanted > 0 ? surplus_span : view.sleep_after;
  for (size_t i = 0; i < count; ++i) {
    const AwakeTarget& target = view.targets[i];
    // One that fails is kept: asleep, it would look as good as new and be woken again.
    const bool let_go = !wanted[i] && !target.failing && settled && now >= target.since + kept_for;
    switch (target.phase) {
      case Phase::kAsleep:
        if (wanted[i]) actions.hold.push_back(i);
        break;
      case Phase::kWaking:
        // Its host's answer comes first: after a release it would pass for the next hold's.
        break;
      case Phase::kAwake:
        if (let_go) actions.let_go.push_back(i);
        break;
      case Phase::kReleasing:
        if (wanted[i]) {
          actions.keep.push_back(i);
        } else if (target.in_flight == 0) {
          actions.release.push_back(i);
        }
        break;
    }
    surplus =
        surplus || (!wanted[i] && target.phase != Phase::kAsleep && target.phase != Phase::kWaking);
  }

  actions.short_of_targets = !more && view.waiting > coming + free;
  if (more) actions.signal_at = actions.wanted == 0 ? 1 : view.max_concurrency;
  if (view.awake_min >= 0 && (surplus || want > least)) {
    const bool falls_soon = surplus || want > std::max(visited, least);
    const uint64_t span = falls_soon ? surplus_span : view.sleep_after;
    actions.again = now + std::clamp<uint64_t>(span / kPeakSlots, kAwakeCheckMin, kAwakeCheckMax);
  }
  if (retry_at && actions.wanted < want)
    actions.again = std::min(actions.again.value_or(*retry_at), *retry_at);
  return actions;
}

uint64_t Peak::slot_of(uint64_t now, uint64_t span) {
  // From 1 on, so that an untouched slot is never a recent one.
  return now / std::max<uint64_t>(span / kPeakSlots, 1) + kPeakSlots + 1;
}

void Peak::note(double value, uint64_t now, uint64_t span) {
  const uint64_t number = slot_of(now, span);
  Slot& slot = slots_[number % slots_.size()];
  if (slot.number != number) slot = {.number = number, .value = value};
  slot.value = std::max(slot.value, value);
}

double Peak::value(uint64_t now, uint64_t span) const {
  const uint64_t number = slot_of(now, span);
  double most = 0;
  for (const Slot& slot : slots_) {
    if (slot.number <= number && slot.number + kPeakSlots >= number)
      most = std::max(most, slot.value);
  }
  return most;
}

}  // namespace hob::edge
