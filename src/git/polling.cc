#include "git/polling.h"

#include <algorithm>

namespace hob::git {

namespace {

// From one question to the next: the interval, doubled by each failure, and up to a quarter more.
Duration wait_of(const PolledBranch& branch) {
  Duration wait = kPollEvery;
  for (int i = 0; i < branch.failures && wait < kPollBackoffMax; ++i) wait *= 2;
  wait = std::min(wait, kPollBackoffMax);
  return wait +
         std::chrono::duration_cast<Duration>(wait * std::clamp(branch.jitter, 0.0, 1.0) / 4);
}

}  // namespace

PollAction decide_poll(const PolledBranch& branch, Instant now) {
  if (branch.failures == 0 && !branch.head.empty() && branch.head != branch.deployed)
    return DeployHead{branch.head};
  if (!branch.asked_at) return AskHead{};
  // A clock that was set back: asked now.
  const Instant asked_at = std::min(*branch.asked_at, now);
  const bool hinted = branch.hinted_at && *branch.hinted_at >= asked_at && branch.failures == 0;
  const Instant next = asked_at + (hinted ? kPollSoonest : wait_of(branch));
  if (next <= now) return AskHead{};
  return PollAt{next};
}

}  // namespace hob::git
