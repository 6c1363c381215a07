#include "base/certificate.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <ctime>
#include <memory>

#include "base/assert.h"
#include "base/pem.h"
#include "base/server_key.h"

namespace hob {
namespace {

// Clocks differ: a certificate holds from a little before it was made.
constexpr Duration kClockSlack = std::chrono::hours(1);
constexpr int kSerialBits = 127;  // RFC 5280: positive, 20 bytes at most

template <auto Free>
struct Freer {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Certificate = std::unique_ptr<X509, Freer<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using Memory = std::unique_ptr<BIO, Freer<BIO_free_all>>;
using Extension = std::unique_ptr<X509_EXTENSION, Freer<X509_EXTENSION_free>>;
using Serial = std::unique_ptr<BIGNUM, Freer<BN_free>>;
using Names = std::unique_ptr<GENERAL_NAMES, Freer<GENERAL_NAMES_free>>;
using Request = std::unique_ptr<X509_REQ, Freer<X509_REQ_free>>;

void free_extensions(STACK_OF(X509_EXTENSION) * extensions) {
  sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
}
using Extensions = std::unique_ptr<STACK_OF(X509_EXTENSION), Freer<free_extensions>>;

// pe-acmeIdentifier (RFC 8737 section 6.1), which OpenSSL has no name for.
constexpr const char* kAcmeIdentifier = "1.3.6.1.5.5.7.1.31";
constexpr Duration kAlpnAnswerLife = std::chrono::hours(24 * 7);

std::unexpected<Error> failed(const char* doing) {
  char text[256] = "unknown";
  if (const unsigned long error = ERR_get_error(); error != 0)
    ERR_error_string_n(error, text, sizeof text);
  ERR_clear_error();
  return fail(Code::kInvalid, "{}: {}", doing, text);
}

Memory memory_of(std::string_view text) {
  return Memory(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

template <class Write>
std::string pem_of(Write write) {
  const Memory memory(BIO_new(BIO_s_mem()));
  if (memory == nullptr || write(memory.get()) != 1) return {};
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &data);
  return {data, static_cast<size_t>(size)};
}

Certificate certificate_in(std::string_view pem) {
  Certificate certificate(PEM_read_bio_X509(memory_of(pem).get(), nullptr, no_password, nullptr));
  ERR_clear_error();
  return certificate;
}

bool add_extension(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str()));
  return extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1;
}

// All that both kinds of certificate have, but for the signature.
Certificate begin_certificate(EVP_PKEY* key, const std::string& common_name, Instant now,
                              Duration validity) {
  Certificate certificate(X509_new());
  const Serial serial(BN_new());
  if (certificate == nullptr || serial == nullptr) return nullptr;
  const auto seconds = [](Instant at) {
    return static_cast<time_t>(
        std::chrono::duration_cast<std::chrono::seconds>(at.time_since_epoch()).count());
  };
  X509_NAME* name = X509_get_subject_name(certificate.get());
  const bool made =
      BN_rand(serial.get(), kSerialBits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
      BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(certificate.get())) != nullptr &&
      X509_set_version(certificate.get(), 2) == 1 &&
      ASN1_TIME_set(X509_getm_notBefore(certificate.get()), seconds(now - kClockSlack)) !=
          nullptr &&
      ASN1_TIME_set(X509_getm_notAfter(certificate.get()), seconds(now + validity)) != nullptr &&
      X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(common_name.c_str()), -1,
                                 -1, 0) == 1 &&
      X509_set_pubkey(certificate.get(), key) == 1;
  return made ? std::move(certificate) : nullptr;
}

CertifiedKey written(X509* certificate, EVP_PKEY* key) {
  return {.certificate = pem_of([&](BIO* out) { return PEM_write_bio_X509(out, certificate); }),
          .key = pem_of([&](BIO* out) {
            return PEM_write_bio_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
          })};
}

Instant instant_of(const ASN1_TIME* time) {
  tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return {};
  return Instant(std::chrono::seconds(::timegm(&parts)));
}

}  // namespace

Result<CertifiedKey> make_authority(const std::string& common_name, const std::string& domain,
                                    Instant now, Duration validity) {
  const Key key(EVP_EC_gen("P-256"));
  if (key == nullptr) return failed("making a key");
  const Certificate certificate = begin_certificate(key.get(), common_name, now, validity);
  if (certificate == nullptr) return failed("making an authority");
  X509* x509 = certificate.get();
  const bool made =
      X509_set_issuer_name(x509, X509_get_subject_name(x509)) == 1 &&
      add_extension(x509, x509, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
      add_extension(x509, x509, NID_key_usage, "critical,keyCertSign,cRLSign") &&
      add_extension(x509, x509, NID_name_constraints, "critical,permitted;DNS:" + domain) &&
      add_extension(x509, x509, NID_subject_key_identifier, "hash") &&
      X509_sign(x509, key.get(), EVP_sha256()) > 0;
  if (!made) return failed("making an authority");
  return written(x509, key.get());
}

namespace {

// "DNS:a,DNS:b", as OpenSSL writes alternative names.
std::string alternative_names(const std::vector<std::string>& host_names) {
  std::string names;
  for (const std::string& host : host_names) {
    names += names.empty() ? "DNS:" : ",DNS:";
    names += host;
  }
  return names;
}

Key key_in(std::string_view pem) {
  Key key(PEM_read_bio_PrivateKey(memory_of(pem).get(), nullptr, no_password, nullptr));
  ERR_clear_error();
  return key;
}

}  // namespace

Result<CertifiedKey> issue_certificate(const CertifiedKey& authority,
                                       const std::vector<std::string>& host_names, Instant now,
                                       Duration validity) {
  HOB_ASSERT(!host_names.empty());
  const Certificate issuer = certificate_in(authority.certificate);
  const Key issuer_key(
      PEM_read_bio_PrivateKey(memory_of(authority.key).get(), nullptr, no_password, nullptr));
  if (issuer == nullptr || issuer_key == nullptr) return failed("reading the authority");
  const Key key(EVP_EC_gen("P-256"));
  if (key == nullptr) return failed("making a key");
  const Certificate certificate = begin_certificate(key.get(), host_names.front(), now, validity);
  if (certificate == nullptr) return failed("making a certificate");
  const std::string names = alternative_names(host_names);
  X509* x509 = certificate.get();
  const bool made = X509_set_issuer_name(x509, X509_get_subject_name(issuer.get())) == 1 &&
                    add_extension(x509, issuer.get(), NID_basic_constraints, "critical,CA:FALSE") &&
                    add_extension(x509, issuer.get(), NID_key_usage, "critical,digitalSignature") &&
                    add_extension(x509, issuer.get(), NID_ext_key_usage, "serverAuth") &&
                    add_extension(x509, issuer.get(), NID_subject_alt_name, names) &&
                    add_extension(x509, issuer.get(), NID_subject_key_identifier, "hash") &&
                    add_extension(x509, issuer.get(), NID_authority_key_identifier, "keyid") &&
                    X509_sign(x509, issuer_key.get(), EVP_sha256()) > 0;
  if (!made) return failed("issuing a certificate");
  return written(x509, key.get());
}

Result<std::string> make_private_key() {
  const Key key(EVP_EC_gen("P-256"));
  if (key == nullptr) return failed("making a key");
  return pem_of([&](BIO* out) {
    return PEM_write_bio_PrivateKey(out, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  });
}

Result<std::string> make_signing_request(const std::string& key,
                                         const std::vector<std::string>& host_names) {
  HOB_ASSERT(!host_names.empty());
  const Key private_key = key_in(key);
  const Request request(X509_REQ_new());
  if (private_key == nullptr || request == nullptr) return failed("reading a key");
  // RFC 8555 section 7.4 takes the names from either place; the common name may not be as long.
  X509_EXTENSION* names = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name,
                                              alternative_names(host_names).c_str());
  STACK_OF(X509_EXTENSION)* made = nullptr;
  if (names != nullptr) X509v3_add_ext(&made, names, -1);
  X509_EXTENSION_free(names);
  const Extensions extensions(made);
  unsigned char* der = nullptr;
  const bool done = extensions != nullptr && X509_REQ_set_version(request.get(), 0) == 1 &&
                    X509_REQ_set_pubkey(request.get(), private_key.get()) == 1 &&
                    X509_REQ_add_extensions(request.get(), extensions.get()) == 1 &&
                    X509_REQ_sign(request.get(), private_key.get(), EVP_sha256()) > 0;
  const int size = done ? i2d_X509_REQ(request.get(), &der) : 0;
  if (size <= 0) return failed("making a signing request");
  std::string bytes(reinterpret_cast<const char*>(der), static_cast<size_t>(size));
  OPENSSL_free(der);
  return bytes;
}

Result<CertifiedKey> make_alpn_answer(const std::string& host, const Sha256& authorization,
                                      Instant now) {
  const Key key(EVP_EC_gen("P-256"));
  if (key == nullptr) return failed("making a key");
  // A name in the subject is at most 64 characters long; the one that counts is below.
  const Certificate certificate = begin_certificate(key.get(), "acme-tls/1", now, kAlpnAnswerLife);
  if (certificate == nullptr) return failed("making a certificate");
  // The extension's value is a DER OCTET STRING of 32 bytes.
  std::string value("\x04\x20", 2);
  value.append(reinterpret_cast<const char*>(authorization.data()), authorization.size());
  const std::unique_ptr<ASN1_OBJECT, Freer<ASN1_OBJECT_free>> kind(OBJ_txt2obj(kAcmeIdentifier, 1));
  const std::unique_ptr<ASN1_OCTET_STRING, Freer<ASN1_OCTET_STRING_free>> octets(
      ASN1_OCTET_STRING_new());
  if (kind == nullptr || octets == nullptr ||
      ASN1_OCTET_STRING_set(octets.get(), reinterpret_cast<const unsigned char*>(value.data()),
                            static_cast<int>(value.size())) != 1) {
    return failed("making a certificate");
  }
  const Extension identifier(X509_EXTENSION_create_by_OBJ(nullptr, kind.get(), 1, octets.get()));
  X509* x509 = certificate.get();
  const bool made =
      identifier != nullptr && X509_set_issuer_name(x509, X509_get_subject_name(x509)) == 1 &&
      add_extension(x509, x509, NID_subject_alt_name, alternative_names({host})) &&
      X509_add_ext(x509, identifier.get(), -1) == 1 && X509_sign(x509, key.get(), EVP_sha256()) > 0;
  if (!made) return failed("making a certificate");
  return written(x509, key.get());
}

Result<void> check_chain(const CertifiedKey& chain, Instant now) {
  if (chain.certificate.size() > kChainBytesMax)
    return fail(Code::kInvalid, "it has more than {} bytes", kChainBytesMax);
  if (chain.key.size() > kPrivateKeyBytesMax)
    return fail(Code::kInvalid, "the key has more than {} bytes", kPrivateKeyBytesMax);
  const Memory text = memory_of(chain.certificate);
  std::vector<Certificate> certificates;
  for (;;) {
    Certificate next(PEM_read_bio_X509(text.get(), nullptr, no_password, nullptr));
    if (next == nullptr) break;
    if (certificates.size() == kChainCertificatesMax)
      return fail(Code::kInvalid, "there are more than {} certificates in it",
                  kChainCertificatesMax);
    certificates.push_back(std::move(next));
  }
  ERR_clear_error();
  if (certificates.empty()) return fail(Code::kInvalid, "there is no certificate in it (PEM)");
  const Key key = key_in(chain.key);
  if (key == nullptr)
    return fail(Code::kInvalid, "there is no private key in it (PEM, without a password)");
  X509* leaf = certificates.front().get();
  if (X509_get0_pubkey(leaf) == nullptr)
    return fail(Code::kInvalid, "the certificate's key is of an unknown kind");
  HOB_CHECK(check_server_key(X509_get0_pubkey(leaf)));
  HOB_CHECK(check_server_key(key.get()));
  if (X509_check_private_key(leaf, key.get()) != 1) {
    ERR_clear_error();
    return fail(Code::kInvalid,
                "the key is not the first certificate's: the chain begins with the server's own");
  }
  for (size_t i = 0; i < certificates.size(); ++i) {
    // A root's own key and signature are looked at by nobody: clients have it already.
    X509* each = certificates[i].get();
    if (i > 0 && X509_check_issued(each, each) == X509_V_OK) continue;
    HOB_CHECK(context(check_signature_kind(each), "certificate {} in it", i + 1));
    const EVP_PKEY* public_key = X509_get0_pubkey(each);
    if (public_key == nullptr)
      return fail(Code::kInvalid, "certificate {} in it: its key is of an unknown kind", i + 1);
    HOB_CHECK(context(check_server_key(public_key), "certificate {} in it", i + 1));
  }
  for (size_t i = 0; i + 1 < certificates.size(); ++i) {
    X509* above = certificates[i + 1].get();
    const bool signed_by = X509_check_issued(above, certificates[i].get()) == X509_V_OK &&
                           X509_verify(certificates[i].get(), X509_get0_pubkey(above)) == 1;
    ERR_clear_error();
    if (!signed_by)
      return fail(Code::kInvalid, "certificate {} in it did not sign certificate {}", i + 2, i + 1);
  }
  if (X509_check_purpose(leaf, X509_PURPOSE_SSL_SERVER, 0) != 1)
    return fail(Code::kInvalid, "the first certificate is not one for servers");
  HOB_TRY(const CertificateFacts facts, read_certificate(chain.certificate));
  if (facts.host_names.empty())
    return fail(Code::kInvalid, "the certificate names no host (subject alternative names)");
  if (facts.not_after <= now) return fail(Code::kInvalid, "the certificate has expired");
  if (facts.not_before > now) return fail(Code::kInvalid, "the certificate does not hold yet");
  return try_pair(leaf, key.get());
}

Result<CertificateFacts> read_certificate(std::string_view pem) {
  const Certificate certificate = certificate_in(pem);
  if (certificate == nullptr) return fail(Code::kInvalid, "there is no certificate in it");
  CertificateFacts facts{.not_before = instant_of(X509_get0_notBefore(certificate.get())),
                         .not_after = instant_of(X509_get0_notAfter(certificate.get()))};
  const Names names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate.get(), NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_DNS) continue;
    std::string host(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
                     static_cast<size_t>(ASN1_STRING_length(name->d.dNSName)));
    for (char& c : host) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    facts.host_names.push_back(std::move(host));
  }
  return facts;
}

bool is_pair(const CertifiedKey& pair) {
  const Certificate certificate = certificate_in(pair.certificate);
  const Key key(PEM_read_bio_PrivateKey(memory_of(pair.key).get(), nullptr, no_password, nullptr));
  const bool fits = certificate != nullptr && key != nullptr &&
                    X509_check_private_key(certificate.get(), key.get()) == 1;
  ERR_clear_error();
  return fits;
}

bool is_signed_by(std::string_view pem, std::string_view authority_pem) {
  const Certificate certificate = certificate_in(pem);
  const Certificate issuer = certificate_in(authority_pem);
  if (certificate == nullptr || issuer == nullptr) return false;
  const bool valid = X509_verify(certificate.get(), X509_get0_pubkey(issuer.get())) == 1;
  ERR_clear_error();
  return valid;
}

bool host_matches(std::string_view pattern, std::string_view host) {
  if (!pattern.starts_with("*.")) return pattern == host;
  const size_t dot = host.find('.');
  return dot != std::string_view::npos && dot > 0 && host.substr(dot) == pattern.substr(1);
}

}  // namespace hob
