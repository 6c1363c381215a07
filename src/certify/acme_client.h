// An ACME client (RFC 8555): from a set of host names to a certificate for them.
//
// The server decides how far an order is, and the client goes on from there: an order that was kept
// is taken up again after a crash, with the key that it was made for. Belongs to one loop; several
// orders may be under way. Nothing is retried that the server refused; a nonce that it does not like
// (badNonce) is replaced.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/async.h"
#include "base/certificate.h"
#include "base/time.h"
#include "certify/acme_messages.h"
#include "certify/fetch.h"
#include "certify/jose.h"

namespace hob::certify {

inline constexpr int kNonceTriesMax = 10;                // of one request
inline constexpr Duration kAcmePollMin{250};             // between two looks at what the server does
inline constexpr Duration kAcmePollMax{5'000};
inline constexpr int kAcmePollsMax = 60;                 // of one thing
inline constexpr Duration kAcmeRetryAfterMax = std::chrono::hours(24);

// How the server shall ask whether a name is ours.
enum class AcmeWay { kHttp, kTlsAlpn };

struct AcmeSettings {
  std::string directory{};  // URL; empty: no ACME
  std::string contact{};    // a mail address, without "mailto:"; empty: none
  std::string ca_file{};    // who vouches for the server itself; empty: the system's authorities
  std::string external_key_id{};   // of an account that the authority made (EAB); empty: none
  std::string external_mac_key{};  // base64url; secret
};

// An order under way, to be kept.
struct AcmeOrderState {
  std::string url{};
  std::string key{};  // PEM, of the certificate to be; secret
};

struct AcmeTask {
  std::string account_key{};  // PEM, P-256; the account is made if the server does not know it
  std::vector<std::string> host_names{};
  std::optional<AcmeOrderState> resume{};
  AcmeWay way = AcmeWay::kHttp;
  // Keeps the order durably; nothing is asked to be signed before it has.
  std::function<Async<Result<void>>(AcmeOrderState)> keep{};
  // Answers the question about the host name until another comes; returns when all edges do.
  std::function<Async<Result<void>>(std::string host_name, std::string token,
                                    std::string key_authorization)>
      answer{};
};

struct AcmeOutcome {
  // kDenied: the server would not, and says why. kUnavailable, kTimeout: it cannot be reached, or
  // is not done; the kept order goes on. kInvalid: it answers what is no ACME.
  Result<CertifiedKey> certificate{};
  Duration retry_after{0};  // the server wants to be left alone for so long
  bool order_over = false;  // a kept order is worth nothing any more
};

class AcmeClient {
 public:
  // Both must outlive it.
  AcmeClient(AcmeSettings settings, Fetcher& fetcher, Clock& clock)
      : settings_(std::move(settings)), fetcher_(fetcher), clock_(clock) {}
  bool enabled() const { return !settings_.directory.empty(); }
  const std::string& directory() const { return settings_.directory; }
  Async<AcmeOutcome> obtain(AcmeTask task);

 private:
  struct Account {
    AccountKey key;
    std::string url{};  // empty: being asked for
  };
  Async<Result<AcmeDirectory>> directory_of_server();
  Async<Result<std::string>> new_nonce(std::string url);
  // A signed request; `payload` empty: only to read ("POST-as-GET").
  Async<Result<FetchAnswer>> post(const AcmeDirectory& directory, const Account& account,
                                  std::string url, std::string payload, AcmeOutcome& outcome);
  Async<Result<void>> find_account(const AcmeDirectory& directory, Account& account,
                                   AcmeOutcome& outcome);
  Async<Result<CertifiedKey>> follow(AcmeTask task, AcmeOutcome& outcome);
  Async<Result<void>> authorize(const AcmeDirectory& directory, const Account& account,
                                const AcmeTask& task, std::string url, AcmeOutcome& outcome);

  AcmeSettings settings_;
  Fetcher& fetcher_;
  Clock& clock_;
  std::string nonce_;  // of the last answer, unused
};

}  // namespace hob::certify
