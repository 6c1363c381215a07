#include "edge/certificates.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/digest.h"
#include "base/file.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/pem.h"
#include "base/server_key.h"
#include "edge/tls.h"

namespace hob::edge {
namespace {

// TLS 1.2 with forward secrecy and authenticated encryption alone (RFC 9325 §4.2). 1.3 has no
// others.
constexpr const char* kCiphers = "ECDHE+AESGCM:ECDHE+CHACHA20";
constexpr unsigned char kProtocols[] = "\x02h2\x08http/1.1";

template <auto Free>
struct Freer {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};

// Seals a ticket, or finds the key that opens one (SSL_CTX_set_tlsext_ticket_key_evp_cb).
int use_ticket_key(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                   EVP_MAC_CTX* mac, int sealing) {
  const auto* certificates =
      static_cast<const Certificates*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  const TicketKeys& keys = certificates->tickets();
  const TicketKeys::Key* key = &keys.current;
  int renew = 1;
  if (sealing == 1) {
    std::memcpy(name, key->name.data(), key->name.size());
    SystemRandom().fill(iv, static_cast<size_t>(EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())));
  } else if (std::memcmp(name, key->name.data(), key->name.size()) != 0) {
    if (!keys.previous || std::memcmp(name, keys.previous->name.data(), key->name.size()) != 0)
      return 0;
    key = &*keys.previous;
    renew = 2;
  }
  char digest[] = "SHA256";
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, const_cast<uint8_t*>(key->mac.data()),
                                        key->mac.size()),
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_end()};
  const bool ready =
      EVP_MAC_CTX_set_params(mac, parameters) == 1 &&
      EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), nullptr, key->cipher.data(), iv, sealing) == 1;
  return ready ? renew : -1;
}

int choose_protocol(SSL*, const unsigned char** chosen, unsigned char* chosen_size,
                    const unsigned char* offered, unsigned offered_size, void*) {
  unsigned char* out = nullptr;
  // RFC 7301 §3.2: without a protocol in common there is no connection.
  if (SSL_select_next_proto(&out, chosen_size, kProtocols, sizeof kProtocols - 1, offered,
                            offered_size) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *chosen = out;
  return SSL_TLSEXT_ERR_OK;
}

// An ACME server that asks by TLS-ALPN-01 (RFC 8737) offers its protocol alone, and is shown what
// answers it. Whoever offers it for another name finds no protocol in common.
int answer_acme(SSL* ssl, int*, void*) {
  constexpr std::string_view kAcmeAlone(
      "\0\x0b\x0a"
      "acme-tls/1",
      13);
  const unsigned char* offered = nullptr;
  size_t size = 0;
  if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &offered,
                                &size) != 1 ||
      std::string_view(reinterpret_cast<const char*>(offered), size) != kAcmeAlone ||
      SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &offered, &size) != 1) {
    return SSL_CLIENT_HELLO_SUCCESS;
  }
  // A list of one: its length, the kind (0: a host's), the name's length, the name.
  constexpr size_t kBeforeName = 5;
  if (size <= kBeforeName) return SSL_CLIENT_HELLO_SUCCESS;
  TlsFilter& filter = *static_cast<TlsFilter*>(SSL_get_app_data(ssl));
  if (SSL_CTX* context = filter.acme_answer(
          {reinterpret_cast<const char*>(offered) + kBeforeName, size - kBeforeName})) {
    SSL_set_SSL_CTX(ssl, context);
    // Of the connection, not of the context; nobody comes back.
    SSL_set_num_tickets(ssl, 0);
    SSL_set_options(ssl, SSL_OP_NO_TICKET);
  }
  return SSL_CLIENT_HELLO_SUCCESS;
}

int choose_certificate(SSL* ssl, int*, void* argument) {
  const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (name == nullptr) return SSL_TLSEXT_ERR_OK;
  const auto& certificates = *static_cast<const Certificates*>(argument);
  TlsFilter& filter = *static_cast<TlsFilter*>(SSL_get_app_data(ssl));
  if (filter.answers_acme()) return SSL_TLSEXT_ERR_OK;
  const Certificates::Entry& entry = certificates.find(filter.asked_for(name));
  filter.shows(entry);
  SSL_set_SSL_CTX(ssl, entry.context);
  return SSL_TLSEXT_ERR_OK;
}

// RFC 6066 section 8: for who asks for it, if there is one that is not too old.
int show_staple(SSL* ssl, void*) {
  const Certificates::Entry& entry = static_cast<TlsFilter*>(SSL_get_app_data(ssl))->shown();
  if (entry.staple.empty() || SystemClock().now() >= entry.staple_until)
    return SSL_TLSEXT_ERR_NOACK;
  void* copy = OPENSSL_memdup(entry.staple.data(), entry.staple.size());
  if (copy == nullptr) return SSL_TLSEXT_ERR_NOACK;
  SSL_set_tlsext_status_ocsp_resp(ssl, copy, static_cast<int>(entry.staple.size()));
  return SSL_TLSEXT_ERR_OK;
}

std::unexpected<Error> refused(const char* why) {
  ERR_clear_error();
  return fail(Code::kInvalid, "{}", why);
}

}  // namespace

bool Certificates::Entry::covers(std::string_view host) const {
  return std::any_of(host_names.begin(), host_names.end(),
                     [&](const std::string& name) { return host_matches(name, host); });
}

std::shared_ptr<const Certificates> Certificates::make(
    const std::vector<CertifiedKey>& files, const std::vector<link::EdgeCertificate>& told,
    const TicketKeys& tickets) {
  const std::shared_ptr<Certificates> made(new Certificates(tickets));
  const auto add = [&](const CertifiedKey& key, const link::EdgeCertificate* of) {
    if (made->entries_.size() == kCertificatesMax) return;
    if (auto added = made->add(key, of); !added)
      log::error("certificate cannot be used",
                 {{"id", of != nullptr ? of->id : "file"}, {"error", added.error().message}});
  };
  for (const CertifiedKey& key : files) add(key, nullptr);
  for (const link::EdgeCertificate& each : told)
    add({.certificate = each.certificate, .key = each.key}, &each);
  if (made->entries_.empty()) return nullptr;
  return made;
}

Certificates::~Certificates() {
  for (const Entry& entry : entries_) SSL_CTX_free(entry.context);
}

SSL_CTX* new_server_context() {
  SSL_CTX* ctx = SSL_CTX_new(TLS_server_method());
  HOB_ASSERT(ctx != nullptr);
  SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
  SSL_CTX_set_cipher_list(ctx, kCiphers);
  // Tickets alone: a cache would be a lock that loops share.
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                               SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_max_early_data(ctx, 0);  // 0-RTT can be replayed
  return ctx;
}

Result<void> use_certified_key(SSL_CTX* ctx, const CertifiedKey& key) {
  const std::unique_ptr<BIO, Freer<BIO_free_all>> chain(
      BIO_new_mem_buf(key.certificate.data(), static_cast<int>(key.certificate.size())));
  for (bool leaf = true;; leaf = false) {
    const std::unique_ptr<X509, Freer<X509_free>> certificate(
        PEM_read_bio_X509(chain.get(), nullptr, no_password, nullptr));
    if (certificate == nullptr) break;
    const int used = leaf ? SSL_CTX_use_certificate(ctx, certificate.get())
                          : static_cast<int>(SSL_CTX_add1_chain_cert(ctx, certificate.get()));
    if (used != 1) return refused("its certificate is not one for TLS");
  }
  const std::unique_ptr<BIO, Freer<BIO_free_all>> secret(
      BIO_new_mem_buf(key.key.data(), static_cast<int>(key.key.size())));
  const std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>> private_key(
      PEM_read_bio_PrivateKey(secret.get(), nullptr, no_password, nullptr));
  if (private_key == nullptr) return refused("there is no private key in it");
  HOB_CHECK(check_server_key(private_key.get()));
  if (SSL_CTX_use_PrivateKey(ctx, private_key.get()) != 1)
    return refused("its private key is another certificate's");
  ERR_clear_error();  // the end of the chain was one
  return {};
}

Result<void> Certificates::add(const CertifiedKey& key, const link::EdgeCertificate* told) {
  HOB_TRY(const CertificateFacts facts, read_certificate(key.certificate));
  std::unique_ptr<SSL_CTX, Freer<SSL_CTX_free>> context(new_server_context());
  SSL_CTX* ctx = context.get();
  SSL_CTX_set_timeout(ctx,
                      std::chrono::duration_cast<std::chrono::seconds>(kTicketKeyLife).count());
  static constexpr unsigned char kSessionContext[] = "hob";
  SSL_CTX_set_session_id_context(ctx, kSessionContext, sizeof kSessionContext - 1);
  SSL_CTX_set_app_data(ctx, this);
  SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, use_ticket_key);
  SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, nullptr);
  SSL_CTX_set_client_hello_cb(ctx, answer_acme, nullptr);
  SSL_CTX_set_tlsext_servername_callback(ctx, choose_certificate);
  SSL_CTX_set_tlsext_servername_arg(ctx, this);
  SSL_CTX_set_tlsext_status_cb(ctx, show_staple);
  HOB_CHECK(use_certified_key(ctx, key));

  Entry& entry = entries_.emplace_back(Entry{.context = context.release(),
                                             .host_names = facts.host_names,
                                             .not_before = facts.not_before});
  if (told != nullptr) {
    entry.staple = unbase64(told->staple).value_or("");
    entry.staple_until = told->staple_until;
  }
  for (const std::string& name : told != nullptr ? told->host_names : facts.host_names) {
    const auto [known, fresh] =
        by_name_.try_emplace(name.starts_with("*.") ? name.substr(1) : name, entries_.size() - 1);
    if (!fresh && entries_[known->second].not_before < entry.not_before)
      known->second = entries_.size() - 1;
  }
  return {};
}

const Certificates::Entry& Certificates::find(std::string_view host) const {
  auto found = by_name_.find(host);
  if (found == by_name_.end()) {
    const size_t dot = host.find('.');
    if (dot != std::string_view::npos && dot > 0) found = by_name_.find(host.substr(dot));
  }
  return found != by_name_.end() ? entries_[found->second] : entries_.front();
}

std::vector<link::EdgeCertificate> keep_usable(std::vector<link::EdgeCertificate> told,
                                               const std::vector<link::EdgeCertificate>& before) {
  const auto usable = [](const link::EdgeCertificate& each) -> Result<void> {
    HOB_CHECK(read_certificate(each.certificate));
    const std::unique_ptr<SSL_CTX, Freer<SSL_CTX_free>> context(new_server_context());
    return use_certified_key(context.get(), {.certificate = each.certificate, .key = each.key});
  };
  std::unordered_map<std::string_view, const link::EdgeCertificate*> by_id;
  for (const link::EdgeCertificate& each : before) by_id.emplace(each.id, &each);
  for (link::EdgeCertificate& each : told) {
    const auto found = by_id.find(each.id);
    if (found == by_id.end()) continue;
    const link::EdgeCertificate& earlier = *found->second;
    if (each.certificate == earlier.certificate && each.key == earlier.key) continue;
    const auto good = usable(each);
    if (good || !usable(earlier)) continue;
    log::error("certificate cannot be used, the one before it is shown on",
               {{"id", each.id}, {"error", good.error().message}});
    std::vector<std::string> host_names = std::move(each.host_names);
    each = earlier;
    each.host_names = std::move(host_names);
  }
  return told;
}

std::vector<CertifiedKey> read_certificates(const std::string& directory) {
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    if (entry.path().extension() == ".pem") paths.push_back(entry.path());
    if (paths.size() == kCertificatesMax) break;
  }
  std::sort(paths.begin(), paths.end());
  std::vector<CertifiedKey> keys;
  for (const std::filesystem::path& path : paths) {
    auto text = read_file(path, kCertificateFileBytesMax);
    if (!text) {
      log::error("certificate cannot be read",
                 {{"path", path.string()}, {"error", text.error().message}});
      continue;
    }
    // PEM says of each part what it is: one text is both.
    keys.push_back({.certificate = *text, .key = *text});
  }
  return keys;
}

}  // namespace hob::edge
