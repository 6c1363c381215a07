#include "runner/domain_controller.h"

#include <algorithm>

#include "base/digest.h"
#include "base/log.h"
#include "cluster/keys.h"
#include "cluster/records.h"
#include "runner/follow.h"
#include "runner/keys.h"
#include "runner/staple.h"

namespace hob::runner {
namespace {

constexpr Duration kRetryDelay{1'000};
constexpr Duration kIdleWait = std::chrono::hours(1);
constexpr Duration kAnswerLook{50};
constexpr Duration kSweepWait{2'000};  // for services to be shown with another one

template <class T>
const T* as(const DomainAction& action) {
  return std::get_if<T>(&action);
}

// A certificate of an authority that can vouch for this domain alone, and that nobody trusts who is
// not told to.
Result<CertifiedKey> issue_own(Domain& domain, Instant now) {
  if (domain.authority.empty()) {
    std::string below = domain.name.starts_with("*.") ? domain.name.substr(2) : domain.name;
    HOB_TRY(CertifiedKey made, make_authority("Hob authority of " + below, below, now,
                                              std::chrono::hours(24 * 3650)));
    domain.authority = std::move(made.certificate);
    domain.authority_key = std::move(made.key);
  }
  HOB_TRY(CertifiedKey issued,
          issue_certificate({.certificate = domain.authority, .key = domain.authority_key},
                            host_names_of(domain), now, kDomainCertificateLife));
  issued.certificate += domain.authority;
  return issued;
}

}  // namespace

DomainController::DomainController(store::Store& store, Executor executor, Clock& clock,
                                   Random& random, DomainPorts ports)
    : store_(store),
      clock_(clock),
      random_(random),
      ports_(std::move(ports)),
      scope_(executor),
      dirty_event_(executor),
      sweep_event_(executor) {}

void DomainController::start() {
  scope_.spawn("runner: domains",
               follow_keys(store_, std::string(kDomainsPrefix), [this](const std::string& key) {
                 known_.insert(key);
                 mark(key);
               }));
  scope_.spawn("runner: domains' services",
               follow_keys(store_, std::string(kServicesPrefix), [this](const std::string& key) {
                 const auto ref = parse_service_key(kServicesPrefix, key);
                 if (!ref) return;
                 const std::string prefix = domains_of(ref->first, ref->second);
                 for (auto it = known_.lower_bound(prefix);
                      it != known_.end() && it->starts_with(prefix); ++it) {
                   mark(*it);
                 }
               }));
  scope_.spawn(
      "runner: given certificates",
      follow_keys(store_, std::string(kGivenCertificatesPrefix), [this](const std::string& key) {
        const std::string_view rest = std::string_view(key).substr(kGivenCertificatesPrefix.size());
        const std::string prefix =
            std::string(kDomainsPrefix).append(rest.substr(0, rest.find('/') + 1));
        for (auto it = known_.lower_bound(prefix); it != known_.end() && it->starts_with(prefix);
             ++it) {
          mark(*it);
        }
        sweep_event_.set();
      }));
  scope_.spawn("runner: removed certificates", sweep());
  scope_.spawn("runner: domain controller", work());
}

Async<> DomainController::stop() {
  scope_.cancel();
  co_await scope_.join();
}

void DomainController::mark(const std::string& key) {
  dirty_.insert(key);
  dirty_event_.set();
}

Async<> DomainController::work() {
  for (;;) {
    // First: what is spawned below may end at once, and its wake_at_ be seen in the next round only.
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
    for (auto it = dirty_.begin(); it != dirty_.end() && busy_.size() < kDomainsAtOnce;) {
      if (busy_.contains(*it)) {
        ++it;
        continue;
      }
      busy_.insert(*it);
      scope_.spawn("runner: domain", process(*it));
      it = dirty_.erase(it);
    }
    co_await dirty_event_.wait_for(wait);
  }
}

Async<> DomainController::process(std::string key) {
  wake_at_.erase(key);
  for (bool again = true; again;) {
    again = false;
    const auto done = co_await step(key, again);
    if (!done && done.error().code == Code::kConflict) {
      again = true;
    } else if (!done) {
      log::warn("runner: domain not moved on", {{"key", key}, {"error", done.error().message}});
      wake_at_[key] = clock_.now() + kRetryDelay;
    }
  }
  busy_.erase(key);
  dirty_event_.set();
}

// Given certificates that were taken away, once no service shows them any more.
Async<> DomainController::sweep() {
  for (;;) {
    const Result<bool> more = co_await sweep_once();
    if (!more) log::warn("runner: removing certificates failed", {{"error", more.error().message}});
    co_await sweep_event_.wait_for(more && !*more ? kIdleWait : kSweepWait);
    sweep_event_.reset();
  }
}

Async<Result<bool>> DomainController::sweep_once() {
  bool more = false;
  HOB_CO_TRY(const store::Listing listing,
             co_await store_.list(std::string(kGivenCertificatesPrefix)));
  for (const store::Entry& entry : listing.entries) {
    const auto given = decode_given_certificate(entry.value);
    if (!given || !given->removed_at) continue;
    HOB_CO_TRY(const bool used, co_await is_used(given->account, given->id));
    more = more || used;
    if (used) continue;
    store::Transaction transaction;
    transaction.expect[entry.key] = entry.revision;
    transaction.remove = {entry.key, cluster::certificate_key(given->account, given->id)};
    HOB_CO_CHECK(co_await store_.commit(std::move(transaction)));
    log::info("certificate removed", {{"name", given->name}});
  }
  co_return more;
}

// By what was written for edges, too: they lose it only after they have another.
Async<Result<bool>> DomainController::is_used(std::string account, std::string certificate) {
  HOB_CO_TRY(const store::Listing ours, co_await store_.list(services_of(account)));
  for (const store::Entry& entry : ours.entries) {
    HOB_CO_TRY(const Service service, context(decode_service(entry.value), "record {}", entry.key));
    for (const auto& [host, id] : service.custom_hosts) {
      if (id == certificate) co_return true;
    }
  }
  HOB_CO_TRY(const store::Listing shown,
             co_await store_.list(cluster::service_key(account, cluster::Service{}.cluster, "")));
  for (const store::Entry& entry : shown.entries) {
    HOB_CO_TRY(const cluster::Service service,
               context(cluster::decode_service(entry.value), "record {}", entry.key));
    for (const auto& [host, id] : service.routing.certificates) {
      if (id == certificate) co_return true;
    }
  }
  co_return false;
}

Async<Result<void>> DomainController::step(std::string key, bool& again) {
  HOB_CO_TRY(const auto entry, co_await store_.get(key));
  if (!entry) {
    known_.erase(key);
    co_return Result<void>{};
  }
  DomainView view{.acme = ports_.acme != nullptr && ports_.acme->enabled()};
  HOB_CO_TRY(view.domain, context(decode_domain(entry->value), "record {}", key));
  const Domain& domain = view.domain;
  HOB_CO_TRY(const auto of, co_await store_.get(service_key(domain.account, domain.service)));
  view.service_gone = !of;
  if (of) {
    HOB_CO_TRY(const Service service, context(decode_service(of->value), "record {}", of->key));
    view.service_gone = service.status == ServiceStatus::kDeleted;
    view.bound = service.custom_hosts;
  }
  HOB_CO_TRY(view.given, co_await given_certificates(store_, domain.account));
  view.shown = std::ranges::all_of(host_names_of(domain), [&](const std::string& host) {
    const auto bound = view.bound.find(host);
    return bound != view.bound.end() && ports_.shown &&
           ports_.shown(domain.account, bound->second, host);
  });
  DomainAction action = decide_domain(view, clock_.now());
  if (as<LookUp>(action) != nullptr) {
    HOB_CO_TRY(view.has_address, co_await look_up(view.domain));
    action = decide_domain(view, clock_.now());
  }
  if (const auto* wake = as<DomainWakeAt>(action)) {
    wake_at_[key] = wake->at;
    co_return Result<void>{};
  }
  again = true;
  if (const auto* wanted = as<PutDomain>(action)) {
    if (wanted->domain.status != domain.status)
      log::info("domain status",
                {{"domain", domain.name}, {"status", word(wanted->domain.status)}});
    co_return co_await put(key, *entry, wanted->domain);
  }
  if (const auto* wanted = as<BindDomain>(action))
    co_return co_await bind(*entry, domain, wanted->certificates);
  if (as<RemoveDomain>(action) != nullptr) co_return co_await remove(*entry, domain);
  co_return co_await obtain(key, domain);
}

Async<Result<void>> DomainController::put(std::string key, store::Entry entry, Domain domain) {
  store::Transaction transaction;
  transaction.expect[key] = entry.revision;
  transaction.put[key] = encode_over(domain, entry.value);
  HOB_CO_CHECK(co_await store_.commit(std::move(transaction)));
  co_return Result<void>{};
}

// Whether the name has an address; the proofs that were seen are noted in `domain`.
Async<Result<bool>> DomainController::look_up(Domain& domain) {
  for (DomainProof& proof : domain.proofs) {
    const auto alias = co_await ports_.dns->alias_of(proof.name);
    // A resolver that does not answer proves nothing, and is asked again.
    if (alias && *alias == proof.value) proof.seen = true;
  }
  const auto has_address = co_await ports_.dns->has_address(domain.name);
  co_return has_address.value_or(false);
}

Async<Result<void>> DomainController::obtain(std::string key, Domain domain) {
  const Instant now = clock_.now();
  certify::AcmeOutcome outcome;
  Result<CertifiedKey> issued = CertifiedKey{};
  if (ports_.acme != nullptr && ports_.acme->enabled())
    issued = co_await ask_authority(key, domain, outcome);
  else
    issued = issue_own(domain, now);

  HOB_CO_TRY(const auto entry, co_await store_.get(key));
  if (!entry) co_return Result<void>{};
  HOB_CO_TRY(Domain fresh, context(decode_domain(entry->value), "record {}", key));
  store::Transaction transaction;
  transaction.expect[key] = entry->revision;
  for (const std::string& host : host_names_of(fresh))
    transaction.remove.push_back(cluster::challenge_key(host));
  if (outcome.order_over) fresh.order_url = fresh.order_key = "";
  if (issued) {
    HOB_CO_TRY(const CertificateFacts facts, read_certificate(issued->certificate));
    // Under the id of the one before it: edges go from one to the other, and are never without.
    if (fresh.certificate.empty()) fresh.certificate = random_hex(random_, 32);
    fresh.renew_at = facts.not_after - (facts.not_after - facts.not_before) / 3;
    fresh.authority = domain.authority;
    fresh.authority_key = domain.authority_key;
    fresh.proven = true;
    fresh.attempts = 0;
    fresh.next_attempt_at.reset();
    fresh.reason.clear();
    if (fresh.status == DomainStatus::kPendingCertificateDnsValidation)
      fresh.status = DomainStatus::kBindingCertificate;
    const std::string path = cluster::certificate_key(fresh.account, fresh.certificate);
    const cluster::Certificate made{.id = fresh.certificate,
                                    .account = fresh.account,
                                    .certificate = issued->certificate,
                                    .key = issued->key,
                                    .created_at = now};
    HOB_CO_CHECK(co_await put_certificate_record(store_, path, made, transaction));
    log::info("domain has a certificate", {{"domain", fresh.name}});
  } else {
    fresh.reason = issued.error().message;
    fresh.next_attempt_at = domain_retry_at(++fresh.attempts, outcome.retry_after, clock_.now());
    log::warn("domain got no certificate", {{"domain", fresh.name}, {"error", fresh.reason}});
  }
  transaction.put[key] = encode_over(fresh, entry->value);
  HOB_CO_CHECK(co_await store_.commit(std::move(transaction)));
  co_return Result<void>{};
}

Async<Result<CertifiedKey>> DomainController::ask_authority(std::string key, Domain domain,
                                                            certify::AcmeOutcome& outcome) {
  certify::AcmeTask task{.host_names = host_names_of(domain), .way = ports_.way};
  HOB_CO_TRY(task.account_key, co_await acme_account());
  if (!domain.order_url.empty())
    task.resume = certify::AcmeOrderState{.url = domain.order_url, .key = domain.order_key};
  task.keep = [this, key](certify::AcmeOrderState order) -> Async<Result<void>> {
    HOB_CO_TRY(const auto entry, co_await store_.get(key));
    if (!entry) co_return fail(Code::kNotFound, "the domain was removed");
    HOB_CO_TRY(Domain kept, decode_domain(entry->value));
    kept.order_url = order.url;
    kept.order_key = order.key;
    co_return co_await put(key, *entry, std::move(kept));
  };
  task.answer = [this](std::string host, std::string token,
                       std::string authorization) -> Async<Result<void>> {
    const link::AcmeChallenge asked{
        .host_name = host, .token = token, .key_authorization = authorization};
    store::Transaction transaction;
    transaction.put[cluster::challenge_key(host)] =
        cluster::encode(cluster::Challenge{.host_name = host,
                                           .token = token,
                                           .key_authorization = authorization});
    HOB_CO_CHECK(co_await store_.commit(std::move(transaction)));
    for (Duration waited{0}; !ports_.answered(asked); waited += kAnswerLook) {
      if (waited >= kDomainShowWithin)
        co_return fail(Code::kUnavailable, "not all edges answer the authority's question");
      co_await sleep_for(kAnswerLook);
    }
    co_return Result<void>{};
  };
  outcome = co_await ports_.acme->obtain(std::move(task));
  co_return outcome.certificate;
}

// The key is this cell's, made once for each authority.
Async<Result<std::string>> DomainController::acme_account() {
  const std::string path =
      std::string(kAcmeAccountsPrefix).append(hex(sha256(ports_.acme->directory())));
  HOB_CO_TRY(const auto entry, co_await store_.get(path));
  if (entry) co_return entry->value;
  HOB_CO_TRY(const std::string made, make_private_key());
  store::Transaction transaction;
  transaction.expect[path] = store::kAbsent;
  transaction.put[path] = made;
  HOB_CO_CHECK(co_await store_.commit(std::move(transaction)));
  co_return made;
}

Async<Result<void>> DomainController::bind(store::Entry entry, Domain domain,
                                           std::map<std::string, std::string> certificates) {
  HOB_CO_TRY(const auto of, co_await store_.get(service_key(domain.account, domain.service)));
  if (!of) co_return Result<void>{};
  HOB_CO_TRY(Service service, context(decode_service(of->value), "record {}", of->key));
  for (auto& [host, certificate] : certificates)
    service.custom_hosts[host] = std::move(certificate);
  domain.bound_at = clock_.now();
  store::Transaction transaction;
  transaction.expect = {{of->key, of->revision}, {entry.key, entry.revision}};
  transaction.put = {{of->key, encode_over(service, of->value)},
                     {entry.key, encode_over(domain, entry.value)}};
  HOB_CO_CHECK(co_await store_.commit(std::move(transaction)));
  co_return Result<void>{};
}

Async<Result<void>> DomainController::remove(store::Entry entry, Domain domain) {
  store::Transaction transaction;
  transaction.expect[entry.key] = entry.revision;
  transaction.remove = {entry.key};
  HOB_CO_TRY(const auto of, co_await store_.get(service_key(domain.account, domain.service)));
  if (of) {
    HOB_CO_TRY(Service service, context(decode_service(of->value), "record {}", of->key));
    for (const std::string& host : host_names_of(domain)) service.custom_hosts.erase(host);
    transaction.expect[of->key] = of->revision;
    transaction.put[of->key] = encode_over(service, of->value);
  }
  for (const std::string& host : host_names_of(domain)) {
    transaction.remove.push_back(domain_host_key(host));
    transaction.remove.push_back(cluster::challenge_key(host));
  }
  if (!domain.certificate.empty())
    transaction.remove.push_back(cluster::certificate_key(domain.account, domain.certificate));
  HOB_CO_CHECK(co_await store_.commit(std::move(transaction)));
  log::info("domain removed", {{"domain", domain.name}});
  co_return Result<void>{};
}

}  // namespace hob::runner
