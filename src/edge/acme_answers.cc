#include "edge/acme_answers.h"

#include <openssl/ssl.h>

#include "base/certificate.h"
#include "base/digest.h"
#include "base/log.h"
#include "edge/certificates.h"

namespace hob::edge {
namespace {

int choose_acme(SSL*, const unsigned char** chosen, unsigned char* chosen_size,
                const unsigned char* offered, unsigned offered_size, void*) {
  static constexpr unsigned char kAcme[] = "\x0a" "acme-tls/1";
  unsigned char* out = nullptr;
  if (SSL_select_next_proto(&out, chosen_size, kAcme, sizeof kAcme - 1, offered, offered_size) !=
      OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *chosen = out;
  return SSL_TLSEXT_ERR_OK;
}

Result<SSL_CTX*> make_context(const link::AcmeChallenge& challenge) {
  HOB_TRY(const CertifiedKey shown,
          make_alpn_answer(challenge.host_name, sha256(challenge.key_authorization),
                           SystemClock().now()));
  SSL_CTX* context = new_server_context();
  if (auto used = use_certified_key(context, shown); !used) {
    SSL_CTX_free(context);
    return fail(used.error());
  }
  SSL_CTX_set_alpn_select_cb(context, choose_acme, nullptr);
  return context;
}

}  // namespace

std::shared_ptr<const AcmeAnswers> AcmeAnswers::make(
    const std::vector<link::AcmeChallenge>& challenges, bool tls) {
  if (challenges.empty()) return nullptr;
  const std::shared_ptr<AcmeAnswers> made(new AcmeAnswers);
  for (const link::AcmeChallenge& challenge : challenges) {
    if (made->by_host_.size() == kAcmeAnswersMax) break;
    Answer answer{.token = challenge.token, .key_authorization = challenge.key_authorization};
    if (tls) {
      if (auto context = make_context(challenge))
        answer.context = *context;
      else
        log::error("ACME question cannot be answered by TLS",
                   {{"host", challenge.host_name}, {"error", context.error().message}});
    }
    if (const auto [known, fresh] = made->by_host_.try_emplace(challenge.host_name, answer); !fresh)
      SSL_CTX_free(answer.context);
  }
  return made;
}

AcmeAnswers::~AcmeAnswers() {
  for (const auto& [host, answer] : by_host_) SSL_CTX_free(answer.context);
}

std::string_view AcmeAnswers::by_http(std::string_view host, std::string_view path) const {
  if (!path.starts_with(kAcmePath)) return {};
  const auto found = by_host_.find(host);
  if (found == by_host_.end() || found->second.token != path.substr(kAcmePath.size())) return {};
  return found->second.key_authorization;
}

SSL_CTX* AcmeAnswers::by_tls(std::string_view host) const {
  const auto found = by_host_.find(host);
  return found == by_host_.end() ? nullptr : found->second.context;
}

}  // namespace hob::edge
