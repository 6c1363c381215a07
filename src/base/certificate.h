// X.509: an authority of one's own, the certificates it issues, and what a certificate says.
//
// Keys are ECDSA P-256, as their handshakes are the cheapest that every client knows. Each call
// takes about a millisecond.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/result.h"
#include "base/time.h"

namespace hob {

// Both as PEM. The key is a secret.
struct CertifiedKey {
  std::string certificate{};
  std::string key{};
  bool operator==(const CertifiedKey&) const = default;
};

struct CertificateFacts {
  Instant not_before{};
  Instant not_after{};
  std::vector<std::string> host_names{};  // lower case; "*.domain" stands for one label
};

// An authority that can vouch for names below `domain` alone, whoever gets hold of its key: its
// certificate says so (RFC 5280, name constraints).
Result<CertifiedKey> make_authority(const std::string& common_name, const std::string& domain,
                                    Instant now, Duration validity);
// A server's certificate. `host_names`: at least one, each may begin with "*.".
Result<CertifiedKey> issue_certificate(const CertifiedKey& authority,
                                       const std::vector<std::string>& host_names, Instant now,
                                       Duration validity);

// A fresh private key, as PEM: a secret.
Result<std::string> make_private_key();
// What an authority is asked to sign (PKCS #10, as DER): the key's certificate for these names, of
// which there is at least one.
Result<std::string> make_signing_request(const std::string& key,
                                         const std::vector<std::string>& host_names);
// What answers an ACME server's TLS-ALPN-01 question about `host` (RFC 8737 section 3).
Result<CertifiedKey> make_alpn_answer(const std::string& host, const Sha256& authorization,
                                      Instant now);

// Of the first certificate in `pem`. kInvalid: there is none.
Result<CertificateFacts> read_certificate(std::string_view pem);
// Whether a server can show it: the key is the first certificate's, each other certificate in it
// signed the one before it, the first is for servers, names hosts and holds at `now`, clients take
// the keys and signatures but a root's (server_key.h), and TLS can be spoken with it. kInvalid:
// says for people which of these is not so.
inline constexpr int kChainCertificatesMax = 10;
inline constexpr size_t kChainBytesMax = 64 * 1024;  // of a chain of RSA-4096 ones: 25 KiB
inline constexpr size_t kPrivateKeyBytesMax = 16 * 1024;
Result<void> check_chain(const CertifiedKey& chain, Instant now);
// Whether the key is the certificate's own.
bool is_pair(const CertifiedKey& pair);
// Whether the first certificate in `pem` was signed by the authority.
bool is_signed_by(std::string_view pem, std::string_view authority_pem);
// Whether `pattern`, a name of a certificate, stands for `host` (RFC 6125: one label for "*"). Both
// lower case.
bool host_matches(std::string_view pattern, std::string_view host);

}  // namespace hob
