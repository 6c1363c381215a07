#include "host/sleep.h"

#include <algorithm>

namespace hob::host {

std::optional<SleepAction> decide_sleep(const SleepState& state, const SleepView& view,
                                        Instant now) {
  if (state.thawing) return std::nullopt;
  bool linked = false;
  Instant kept_until{};
  for (const auto& [edge, until] : state.holders) {
    if (until)
      kept_until = std::max(kept_until, *until);
    else
      linked = true;
  }
  // Not healthy: probes have to find out, and cannot while it is frozen.
  if (state.frozen || state.freezing) {
    if (linked || now < kept_until || !view.healthy) return Thaw{};
    return std::nullopt;
  }
  if (linked || !view.healthy || !state.released) return std::nullopt;
  const Instant from = std::max({state.not_before, view.started_at + kAwakeAfterStart, kept_until});
  if (now < from) return SleepLater{from};
  return Freeze{};
}

void note_held(SleepState& state, const EdgeId& edge) {
  state.holders[edge] = std::nullopt;
  state.released = false;
  if (state.holders.size() <= kEdgesMax) return;
  // Those with a link sort last; there is one without, since only kEdgesMax have one.
  state.holders.erase(std::ranges::min_element(state.holders, {}, [](const auto& holder) {
    return holder.second.value_or(Instant::max());
  }));
}

void note_released(SleepState& state, const EdgeId& edge) {
  state.holders.erase(edge);
  state.released = true;
}

void note_edge_gone(SleepState& state, const EdgeId& edge, Instant now) {
  if (const auto found = state.holders.find(edge); found != state.holders.end())
    found->second = now + kHoldsKept;
}

void note_edge_back(SleepState& state, const EdgeId& edge, Instant now) {
  const auto found = state.holders.find(edge);
  if (found != state.holders.end() && found->second && now < *found->second) found->second.reset();
}

void note_container_gone(SleepState& state) {
  state.frozen = state.freezing = state.thawing = false;
}

}  // namespace hob::host
