// When a branch's head is asked for, and what its answer means: the net under webhooks.
//
// Pure (no clock, no I/O, no state); any thread.
#pragma once

#include <optional>
#include <string>
#include <variant>

#include "base/time.h"

namespace hob::git {

inline constexpr Duration kPollEvery{3 * 60'000};        // without a webhook, or beside one
inline constexpr Duration kPollSoonest{2'000};           // between two questions, hints or not
inline constexpr Duration kPollBackoffMax{60 * 60'000};  // of a repository that does not answer

struct PolledBranch {
  std::string deployed{};  // the commit deployed or tried last; empty: none
  std::string head{};      // as last answered; empty: never, or the branch is not there
  std::optional<Instant> asked_at{};
  std::optional<Instant> hinted_at{};  // somebody said that it may have moved
  int failures = 0;                    // questions without an answer, in a row
  double jitter = 0;  // [0, 1), drawn anew for each wait: hosts are not asked in step
};

struct AskHead {};
// Deploy `commit`, if it changes anything in the source directory (who applies this looks).
struct DeployHead {
  std::string commit{};
};
struct PollAt {
  Instant at{};  // always later than the `now` it was decided at
};
using PollAction = std::variant<AskHead, DeployHead, PollAt>;

PollAction decide_poll(const PolledBranch& branch, Instant now);

}  // namespace hob::git
