// What is to be done so that a certificate is shown with what its authority says of it (OCSP):
// pure; and how one certificate takes another's place.
#pragma once

#include <set>
#include <string>
#include <variant>
#include <vector>

#include "base/async.h"
#include "base/result.h"
#include "base/time.h"
#include "cluster/records.h"
#include "store/store.h"

namespace hob::runner {

// Between two questions about one certificate: half of the answer's life, within these.
inline constexpr Duration kStapleAgainMin = std::chrono::minutes(1);
inline constexpr Duration kStapleAgainMax = std::chrono::hours(24 * 3);
// After one that failed; doubled each time.
inline constexpr Duration kStapleRetryMin = std::chrono::minutes(1);
inline constexpr Duration kStapleRetryMax = std::chrono::hours(1);
// A successor that clients shall not accept without a staple waits so long for it, and is asked
// about that often.
inline constexpr Duration kNextStapleWithin = std::chrono::minutes(2);
inline constexpr Duration kNextStapleRetry{5'000};

// A responder that does not answer holds one for 30 s: no account's hold them all.
inline constexpr size_t kStaplesAtOnce = 4;
inline constexpr size_t kStaplesOfAccountAtOnce = 2;

struct StapleView {
  cluster::Certificate certificate{};
  bool asks = false;       // it names a responder
  bool next_asks = false;  // its successor does
};

struct AskResponder {
  bool next = false;  // about the successor
};
struct ShowNext {};  // the successor takes its place
struct StapleWakeAt {
  Instant at{};
};
struct NoStaple {};  // there is nobody to ask
using StapleAction = std::variant<AskResponder, ShowNext, StapleWakeAt, NoStaple>;
StapleAction decide_staple(const StapleView& view, Instant now);

// When the authority is asked again, after an answer that is good until then.
Instant staple_again_at(Instant until, Instant now);
Instant staple_retry_at(int failures, Instant now);

// Which of the certificates (keys of records) are seen to now, while `busy` are.
std::vector<std::string> next_staples(const std::set<std::string>& dirty,
                                      const std::set<std::string>& busy);

// The successor in the place of the one that is shown, with no staple yet.
void take_place(cluster::Certificate& certificate);

// Adds to `transaction` that `made` is at `key`: in the place of the one there, at once, or, if it
// is one that clients shall not accept without a staple, once it has that. Awaited by the caller,
// so that the references hold.
Async<Result<void>> put_certificate_record(store::Store& store, std::string key,
                                           cluster::Certificate made,
                                           store::Transaction& transaction);

}  // namespace hob::runner
