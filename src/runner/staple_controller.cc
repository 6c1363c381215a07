#include "runner/staple_controller.h"

#include <algorithm>

#include "base/digest.h"
#include "base/log.h"
#include "certify/ocsp.h"
#include "cluster/keys.h"
#include "cluster/records.h"
#include "runner/follow.h"
#include "runner/staple.h"

namespace hob::runner {
namespace {

constexpr Duration kRetryDelay{1'000};
constexpr Duration kIdleWait = std::chrono::hours(1);

}  // namespace

StapleController::StapleController(store::Store& store, Executor executor, Clock& clock,
                                   certify::Fetcher& fetcher, certify::Responders responders)
    : store_(store),
      clock_(clock),
      fetcher_(fetcher),
      responders_(responders),
      scope_(executor),
      dirty_event_(executor) {}

void StapleController::start() {
  scope_.spawn("runner: certificates",
               follow_keys(store_, std::string(cluster::kCertificatesPrefix),
                           [this](const std::string& key) {
                             dirty_.insert(key);
                             dirty_event_.set();
                           }));
  scope_.spawn("runner: staple controller", work());
}

Async<> StapleController::stop() {
  scope_.cancel();
  co_await scope_.join();
}

Async<> StapleController::work() {
  for (;;) {
    dirty_event_.reset();
    const Instant now = clock_.now();
    Duration wait = kIdleWait;
    for (auto it = wake_at_.begin(); it != wake_at_.end();) {
      if (it->second <= now) {
        dirty_.insert(it->first);
        it = wake_at_.erase(it);
      } else {
        wait = std::min(wait, it->second - now);
        ++it;
      }
    }
    for (const std::string& key : next_staples(dirty_, busy_)) {
      busy_.insert(key);
      dirty_.erase(key);
      scope_.spawn("runner: staple", process(key));
    }
    co_await dirty_event_.wait_for(wait);
  }
}

Async<> StapleController::process(std::string key) {
  wake_at_.erase(key);
  for (bool again = true; again;) {
    again = false;
    const auto done = co_await step(key, again);
    if (!done && done.error().code == Code::kConflict) {
      again = true;
    } else if (!done) {
      log::warn("runner: no staple", {{"key", key}, {"error", done.error().message}});
      wake_at_[key] = clock_.now() + kRetryDelay;
    }
  }
  busy_.erase(key);
  dirty_event_.set();
}

Async<Result<void>> StapleController::step(std::string key, bool& again) {
  HOB_CO_TRY(const auto entry, co_await store_.get(key));
  if (!entry) co_return Result<void>{};
  StapleView view;
  HOB_CO_TRY(view.certificate,
             context(cluster::decode_certificate(entry->value), "record {}", key));
  view.asks = certify::ocsp_question(view.certificate.certificate).has_value();
  view.next_asks = certify::ocsp_question(view.certificate.next_certificate).has_value();
  const StapleAction action = decide_staple(view, clock_.now());
  if (std::holds_alternative<NoStaple>(action)) co_return Result<void>{};
  if (const auto* wake = std::get_if<StapleWakeAt>(&action)) {
    wake_at_[key] = wake->at;
    co_return Result<void>{};
  }
  again = true;
  if (const auto* asked = std::get_if<AskResponder>(&action))
    co_return co_await ask(key, *entry, asked->next);
  log::warn("certificate is shown without the staple that it must have", {{"key", key}});
  take_place(view.certificate);
  store::Transaction transaction;
  transaction.expect[key] = entry->revision;
  transaction.put[key] = cluster::encode_over(view.certificate, entry->value);
  HOB_CO_CHECK(co_await store_.commit(std::move(transaction)));
  co_return Result<void>{};
}

// What is answered is about what the entry has: if that was replaced meanwhile, it is a conflict.
Async<Result<void>> StapleController::ask(std::string key, store::Entry entry, bool next) {
  HOB_CO_TRY(cluster::Certificate certificate, cluster::decode_certificate(entry.value));
  const std::string chain = next ? certificate.next_certificate : certificate.certificate;
  auto question = certify::ocsp_question(chain);
  if (!question) co_return Result<void>{};
  const auto answer =
      co_await certify::ask_responder(fetcher_, clock_, chain, std::move(*question), responders_);
  const Instant now = clock_.now();
  if (answer) {
    if (next) take_place(certificate);
    certificate.staple = base64(answer->response);
    certificate.staple_until = answer->until;
    certificate.staple_again_at = staple_again_at(answer->until, now);
    certificate.staple_failures = 0;
    certificate.staple_error.clear();
  } else {
    // What it said before is not so any more.
    if (!next && answer.error().code == Code::kDenied) certificate.staple.clear();
    certificate.staple_again_at =
        next ? now + kNextStapleRetry : staple_retry_at(++certificate.staple_failures, now);
    log::warn("certificate has no staple", {{"key", key}, {"error", answer.error().message}});
    // How its responder cannot be reached would tell the account of networks that are not its own.
    certificate.staple_error =
        answer.error().code == Code::kDenied
            ? answer.error().message
            : "its authority's OCSP responder gives no answer that holds; control's log says why";
  }
  store::Transaction transaction;
  transaction.expect[key] = entry.revision;
  transaction.put[key] = cluster::encode_over(certificate, entry.value);
  HOB_CO_CHECK(co_await store_.commit(std::move(transaction)));
  co_return Result<void>{};
}

}  // namespace hob::runner
