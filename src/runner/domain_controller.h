// The loop around decide_domain: follows domains and services, asks the DNS and the authority, and
// writes what comes of it. Belongs to control's loop.
//
// An order takes minutes, so each domain is worked on beside the others, kDomainsAtOnce at most.
// What must outlive a crash is in the domain's record before anything depends on it.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>

#include "base/async.h"
#include "base/ids.h"
#include "certify/acme_client.h"
#include "certify/dns.h"
#include "certify/ocsp.h"
#include "link/messages.h"
#include "runner/domain.h"
#include "runner/given_certificates.h"
#include "store/store.h"

namespace hob::runner {

inline constexpr size_t kDomainsAtOnce = 4;
inline constexpr Duration kDomainCertificateLife = std::chrono::hours(24 * 90);  // of our own ones

// The world outside, given in by daemon/.
struct DomainPorts {
  certify::AcmeClient* acme = nullptr;  // not enabled: domains get authorities of their own
  certify::Dns* dns = nullptr;
  certify::Fetcher* fetcher =
      nullptr;  // for what authorities say of certificates; none: nobody asks
  certify::Responders responders = certify::Responders::kPublic;
  certify::AcmeWay way = certify::AcmeWay::kHttp;
  // Whether all edges do that now (cluster.h).
  std::function<bool(const link::AcmeChallenge& challenge)> answered{};
  std::function<bool(const std::string& account, const std::string& certificate,
                     const std::string& host_name)>
      shown{};
};

class DomainController {
 public:
  // All must outlive it.
  DomainController(store::Store& store, Executor executor, Clock& clock, Random& random,
                   DomainPorts ports);
  void start();
  Async<> stop();

 private:
  Async<> work();
  Async<> process(std::string key);
  Async<Result<void>> step(std::string key, bool& again);
  Async<Result<void>> put(std::string key, store::Entry entry, Domain domain);
  Async<Result<bool>> look_up(Domain& domain);
  Async<Result<void>> obtain(std::string key, Domain domain);
  Async<Result<CertifiedKey>> ask_authority(std::string key, Domain domain,
                                            certify::AcmeOutcome& outcome);
  Async<Result<std::string>> acme_account();
  Async<Result<void>> bind(store::Entry entry, Domain domain,
                           std::map<std::string, std::string> certificates);
  Async<> sweep();
  Async<Result<bool>> sweep_once();  // whether some are left
  Async<Result<bool>> is_used(std::string account, std::string certificate);
  Async<Result<void>> remove(store::Entry entry, Domain domain);
  void mark(const std::string& key);

  store::Store& store_;
  Clock& clock_;
  Random& random_;
  DomainPorts ports_;
  AsyncScope scope_;
  Event dirty_event_;
  Event sweep_event_;
  std::set<std::string> known_;  // keys of all domains
  std::set<std::string> dirty_;
  std::set<std::string> busy_;
  std::map<std::string, Instant> wake_at_;
};

}  // namespace hob::runner
