#include "runner/staple.h"

#include <algorithm>
#include <map>
#include <utility>

#include "certify/ocsp.h"

namespace hob::runner {

StapleAction decide_staple(const StapleView& view, Instant now) {
  const cluster::Certificate& certificate = view.certificate;
  const bool waits = certificate.staple_again_at && now < *certificate.staple_again_at;
  if (!certificate.next_certificate.empty()) {
    const Instant until = certificate.next_at + kNextStapleWithin;
    if (!view.next_asks || now >= until) return ShowNext{};
    if (waits) return StapleWakeAt{std::min(*certificate.staple_again_at, until)};
    return AskResponder{.next = true};
  }
  if (!view.asks) return NoStaple{};
  if (waits) return StapleWakeAt{*certificate.staple_again_at};
  return AskResponder{};
}

Instant staple_again_at(Instant until, Instant now) {
  return now + std::clamp<Duration>((until - now) / 2, kStapleAgainMin, kStapleAgainMax);
}

Instant staple_retry_at(int failures, Instant now) {
  Duration delay = kStapleRetryMin;
  for (int i = 1; i < failures && delay < kStapleRetryMax; ++i) delay *= 2;
  return now + std::min(delay, kStapleRetryMax);
}

std::vector<std::string> next_staples(const std::set<std::string>& dirty,
                                      const std::set<std::string>& busy) {
  const auto account_of = [](const std::string& key) { return key.substr(0, key.rfind('/')); };
  std::map<std::string, size_t> held;  // by account
  for (const std::string& key : busy) ++held[account_of(key)];
  std::vector<std::string> next;
  for (const std::string& key : dirty) {
    if (busy.size() + next.size() >= kStaplesAtOnce) break;
    if (busy.contains(key)) continue;
    size_t& of_account = held[account_of(key)];
    if (of_account >= kStaplesOfAccountAtOnce) continue;
    ++of_account;
    next.push_back(key);
  }
  return next;
}

void take_place(cluster::Certificate& certificate) {
  certificate.certificate = std::exchange(certificate.next_certificate, {});
  certificate.key = std::exchange(certificate.next_key, {});
  certificate.created_at = std::exchange(certificate.next_at, {});
  certificate.staple.clear();
  certificate.staple_until = {};
  certificate.staple_again_at.reset();
  certificate.staple_failures = 0;
}

Async<Result<void>> put_certificate_record(store::Store& store, std::string key,
                                           cluster::Certificate made,
                                           store::Transaction& transaction) {
  HOB_CO_TRY(const auto entry, co_await store.get(key));
  if (entry) {
    transaction.expect[key] = entry->revision;
    HOB_CO_TRY(cluster::Certificate before,
               context(cluster::decode_certificate(entry->value), "record {}", key));
    if (certify::must_staple(made.certificate) && certify::ocsp_question(made.certificate)) {
      before.next_certificate = std::move(made.certificate);
      before.next_key = std::move(made.key);
      before.next_at = made.created_at;
      before.staple_again_at.reset();
      made = std::move(before);
    }
  }
  transaction.put[key] = entry ? cluster::encode_over(made, entry->value) : cluster::encode(made);
  co_return Result<void>{};
}

}  // namespace hob::runner
