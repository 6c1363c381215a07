// What the edge answers to ACME servers that ask whether it has a host name (RFC 8555 section 8.3,
// RFC 8737): made of RouteTable.challenges on the main thread, an immutable snapshot for the loops.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "link/messages.h"

struct ssl_ctx_st;

namespace hob::edge {

inline constexpr std::string_view kAcmePath = "/.well-known/acme-challenge/";
inline constexpr size_t kAcmeAnswersMax = 1'000;  // more are left out

class AcmeAnswers {
 public:
  // nullptr: there are none. `tls`: whether TLS-ALPN-01 may be asked for; a key for each costs a
  // millisecond.
  static std::shared_ptr<const AcmeAnswers> make(const std::vector<link::AcmeChallenge>& challenges,
                                                 bool tls);
  ~AcmeAnswers();
  AcmeAnswers(const AcmeAnswers&) = delete;
  AcmeAnswers& operator=(const AcmeAnswers&) = delete;

  // The key authorization; empty: that is nobody's question. `host`: lower case, without a port.
  std::string_view by_http(std::string_view host, std::string_view path) const;
  // What the connection shows, with the protocol that says so; nullptr: none.
  ssl_ctx_st* by_tls(std::string_view host) const;

 private:
  AcmeAnswers() = default;
  struct Answer {
    std::string token{};
    std::string key_authorization{};
    ssl_ctx_st* context = nullptr;
  };
  std::map<std::string, Answer, std::less<>> by_host_;
};

}  // namespace hob::edge
