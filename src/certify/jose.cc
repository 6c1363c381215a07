#include "certify/jose.h"

#include <fmt/core.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <array>
#include <boost/json.hpp>

#include <vector>

#include "base/digest.h"
#include "base/pem.h"

namespace hob::certify {
namespace {

constexpr int kCoordinateBytes = 32;

template <auto Free>
struct Freer {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};

std::string jws(const std::string& protected_header, const std::string& payload,
                std::string_view signature) {
  return fmt::format(R"({{"protected":"{}","payload":"{}","signature":"{}"}})", protected_header,
                     payload, base64url(signature));
}

std::string coordinate(EVP_PKEY* key, const char* name) {
  BIGNUM* number = nullptr;
  std::array<unsigned char, kCoordinateBytes> bytes{};
  if (EVP_PKEY_get_bn_param(key, name, &number) != 1) return {};
  const bool fits = BN_bn2binpad(number, bytes.data(), kCoordinateBytes) == kCoordinateBytes;
  BN_free(number);
  if (!fits) return {};
  return base64url({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

// ECDSA's two numbers one after the other (RFC 7518 section 3.4), where OpenSSL has them in DER.
std::optional<std::string> raw_signature(const std::vector<unsigned char>& der) {
  const unsigned char* at = der.data();
  const std::unique_ptr<ECDSA_SIG, Freer<ECDSA_SIG_free>> parsed(
      d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size())));
  if (parsed == nullptr) return std::nullopt;
  std::array<unsigned char, 2 * kCoordinateBytes> raw{};
  if (BN_bn2binpad(ECDSA_SIG_get0_r(parsed.get()), raw.data(), kCoordinateBytes) < 0 ||
      BN_bn2binpad(ECDSA_SIG_get0_s(parsed.get()), raw.data() + kCoordinateBytes,
                   kCoordinateBytes) < 0) {
    return std::nullopt;
  }
  return std::string(reinterpret_cast<const char*>(raw.data()), raw.size());
}

}  // namespace

std::string base64url(std::string_view bytes) {
  std::string text = base64(bytes);
  while (text.ends_with('=')) text.pop_back();
  for (char& c : text) c = c == '+' ? '-' : c == '/' ? '_' : c;
  return text;
}

std::optional<std::string> unbase64url(std::string_view text) {
  std::string plain(text);
  while (plain.ends_with('=')) plain.pop_back();
  for (char& c : plain) {
    if (c == '+' || c == '/') return std::nullopt;
    c = c == '-' ? '+' : c == '_' ? '/' : c;
  }
  plain.append((4 - plain.size() % 4) % 4, '=');
  return unbase64(plain);
}

Result<AccountKey> AccountKey::read(std::string_view pem) {
  const std::unique_ptr<BIO, Freer<BIO_free_all>> memory(
      BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  AccountKey key;
  key.key_ = std::shared_ptr<EVP_PKEY>(
      PEM_read_bio_PrivateKey(memory.get(), nullptr, no_password, nullptr), EVP_PKEY_free);
  if (key.key_ != nullptr && EVP_PKEY_is_a(key.key_.get(), "EC") == 1 &&
      EVP_PKEY_get_bits(key.key_.get()) == 8 * kCoordinateBytes) {
    const std::string x = coordinate(key.key_.get(), OSSL_PKEY_PARAM_EC_PUB_X);
    const std::string y = coordinate(key.key_.get(), OSSL_PKEY_PARAM_EC_PUB_Y);
    if (!x.empty() && !y.empty()) {
      key.jwk_ = fmt::format(R"({{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}})", x, y);
      return key;
    }
  }
  ERR_clear_error();
  return fail(Code::kInvalid, "there is no P-256 key in it");
}

std::string AccountKey::thumbprint() const {
  const Sha256 digest = sha256(jwk_);
  return base64url({reinterpret_cast<const char*>(digest.data()), digest.size()});
}

Result<std::string> AccountKey::sign(std::string_view header, std::string_view payload) const {
  const std::string protected_header = base64url(header);
  const std::string encoded_payload = base64url(payload);
  const std::string text = protected_header + "." + encoded_payload;
  const std::unique_ptr<EVP_MD_CTX, Freer<EVP_MD_CTX_free>> context(EVP_MD_CTX_new());
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  size_t size = 0;
  std::vector<unsigned char> der;
  bool done = EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key_.get()) == 1 &&
              EVP_DigestSign(context.get(), nullptr, &size, bytes, text.size()) == 1;
  if (done) {
    der.resize(size);
    done = EVP_DigestSign(context.get(), der.data(), &size, bytes, text.size()) == 1;
    der.resize(size);
  }
  const auto signature = done ? raw_signature(der) : std::nullopt;
  ERR_clear_error();
  if (!signature) return fail(Code::kInvalid, "the account's key cannot sign");
  return jws(protected_header, encoded_payload, *signature);
}

std::string sign_external_binding(const std::string& jwk, const std::string& key_id,
                                  std::string_view mac_key, const std::string& url) {
  const std::string header =
      base64url(boost::json::serialize(
          boost::json::object{{"alg", "HS256"}, {"kid", key_id}, {"url", url}}));
  const std::string payload = base64url(jwk);
  const Sha256 mac = hmac_sha256(mac_key, header + "." + payload);
  return jws(header, payload, {reinterpret_cast<const char*>(mac.data()), mac.size()});
}

}  // namespace hob::certify
