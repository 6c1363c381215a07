// What TLS connections begin with: certificates by host name, and the keys that session tickets are
// sealed with.
//
// An immutable snapshot, made on the main thread and posted to the loops, like Routes; a connection
// keeps the one it began with. So certificates are replaced, and ticket keys rotated, without a
// connection noticing.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/certificate.h"
#include "base/result.h"
#include "base/time.h"
#include "edge/ticket_keys.h"
#include "link/messages.h"

struct ssl_ctx_st;

namespace hob::edge {

inline constexpr size_t kCertificatesMax = 10'000;              // more are left out
inline constexpr size_t kCertificateFileBytesMax = 256 * 1024;  // key and chain

class Certificates {
 public:
  // `files` are shown for all their names, `told` (control's) for those that it says. Of two for
  // one name the one that was issued later is shown; to who asks for no name, or for an unknown
  // one, the first of all. What cannot be used is left out and logged. nullptr: none is left.
  static std::shared_ptr<const Certificates> make(const std::vector<CertifiedKey>& files,
                                                  const std::vector<link::EdgeCertificate>& told,
                                                  const TicketKeys& tickets);
  ~Certificates();
  Certificates(const Certificates&) = delete;
  Certificates& operator=(const Certificates&) = delete;

  struct Entry {
    ssl_ctx_st* context = nullptr;
    std::vector<std::string> host_names{};  // the certificate's own
    Instant not_before{};
    std::string staple{};  // OCSP's answer about it (DER), shown until then; empty: none
    Instant staple_until{};
    bool covers(std::string_view host) const;
  };
  const Entry& first() const { return entries_.front(); }
  // `host`: lower case. The one named so, else a wildcard's, else the first.
  const Entry& find(std::string_view host) const;
  const TicketKeys& tickets() const { return tickets_; }
  size_t size() const { return entries_.size(); }

 private:
  explicit Certificates(const TicketKeys& tickets) : tickets_(tickets) {}
  Result<void> add(const CertifiedKey& key, const link::EdgeCertificate* told);

  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  TicketKeys tickets_;
  std::vector<Entry> entries_;
  std::unordered_map<std::string, size_t, Hash, std::equal_to<>> by_name_;  // "*.x" as ".x"
};

// A context as all of ours are: versions, ciphers, buffers. The caller owns it.
ssl_ctx_st* new_server_context();
// The chain and its key, into the context. kInvalid: they are not a pair, or not for TLS.
Result<void> use_certified_key(ssl_ctx_st* context, const CertifiedKey& key);

// What control tells now, but where a certificate of it cannot be used the one that had its id
// `before`, if that can: better an older one than another host's. It is logged.
std::vector<link::EdgeCertificate> keep_usable(std::vector<link::EdgeCertificate> told,
                                               const std::vector<link::EdgeCertificate>& before);

// Every *.pem in `directory`, each a private key and its certificate with those above it, in the
// order of their names. Blocks. What cannot be read is left out and logged.
std::vector<CertifiedKey> read_certificates(const std::string& directory);

}  // namespace hob::edge
