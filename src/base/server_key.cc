#include "base/server_key.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <array>
#include <memory>
#include <string_view>

namespace hob {
namespace {

constexpr size_t kSignatureBytesMax = kRsaBitsMax / 8;
constexpr const char* kAllowed =
    "a server's is RSA of 2048 to 4096 bits, ECDSA P-256 or P-384, or Ed25519";

struct Freer {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

Result<void> check_curve(const EVP_PKEY* key) {
  int written_out = 0;
  if (EVP_PKEY_get_int_param(key, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &written_out) ==
          1 &&
      written_out != 0)
    return fail(Code::kInvalid, "the key's curve has no name (explicit parameters); {}", kAllowed);
  char name[64] = "unknown";
  EVP_PKEY_get_group_name(key, name, sizeof name, nullptr);
  const std::string_view curve = name;
  if (curve == "prime256v1" || curve == "P-256" || curve == "secp384r1" || curve == "P-384")
    return {};
  return fail(Code::kInvalid, "the key's curve is {}; {}", curve, kAllowed);
}

bool signs(X509* certificate, EVP_PKEY* key) {
  const EVP_MD* digest = EVP_PKEY_is_a(key, "ED25519") == 1 ? nullptr : EVP_sha256();
  constexpr unsigned char kText[] = "hob";
  std::array<unsigned char, kSignatureBytesMax> signature{};
  size_t size = signature.size();
  const std::unique_ptr<EVP_MD_CTX, Freer> signing(EVP_MD_CTX_new()), verifying(EVP_MD_CTX_new());
  return signing != nullptr && verifying != nullptr &&
         EVP_DigestSignInit(signing.get(), nullptr, digest, nullptr, key) == 1 &&
         EVP_DigestSign(signing.get(), signature.data(), &size, kText, sizeof kText) == 1 &&
         EVP_DigestVerifyInit(verifying.get(), nullptr, digest, nullptr,
                              X509_get0_pubkey(certificate)) == 1 &&
         EVP_DigestVerify(verifying.get(), signature.data(), size, kText, sizeof kText) == 1;
}

}  // namespace

Result<void> check_server_key(const EVP_PKEY* key) {
  if (EVP_PKEY_is_a(key, "ED25519") == 1) return {};
  if (EVP_PKEY_is_a(key, "EC") == 1) return check_curve(key);
  if (EVP_PKEY_is_a(key, "RSA") != 1) {
    const char* name = EVP_PKEY_get0_type_name(key);
    return fail(Code::kInvalid, "the key's kind is {}; {}", name != nullptr ? name : "unknown",
                kAllowed);
  }
  const int bits = EVP_PKEY_get_bits(key);
  if (bits >= kRsaBitsMin && bits <= kRsaBitsMax) return {};
  return fail(Code::kInvalid, "the key is RSA of {} bits; {}", bits, kAllowed);
}

Result<void> check_signature_kind(X509* certificate) {
  int digest = NID_undef;
  int key = NID_undef;
  const bool known =
      X509_get_signature_info(certificate, &digest, &key, nullptr, nullptr) == 1 &&
      (key == NID_ED25519 || digest == NID_sha256 || digest == NID_sha384 || digest == NID_sha512);
  ERR_clear_error();
  if (known) return {};
  return fail(Code::kInvalid, "it was signed with {}; clients take SHA-256, SHA-384 and SHA-512",
              digest != NID_undef ? OBJ_nid2sn(digest) : "an unknown algorithm");
}

Result<void> try_pair(X509* certificate, EVP_PKEY* key) {
  const std::unique_ptr<SSL_CTX, Freer> context(SSL_CTX_new(TLS_server_method()));
  const bool taken = context != nullptr &&
                     SSL_CTX_use_certificate(context.get(), certificate) == 1 &&
                     SSL_CTX_use_PrivateKey(context.get(), key) == 1 && signs(certificate, key);
  ERR_clear_error();
  if (taken) return {};
  return fail(Code::kInvalid, "TLS cannot be spoken with the certificate and its key");
}

}  // namespace hob
