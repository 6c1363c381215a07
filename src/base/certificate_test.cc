#include "base/certificate.h"

#include <gtest/gtest.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <cstring>
#include <memory>

namespace hob {
namespace {

using namespace std::chrono_literals;
constexpr Instant kNow{1'800'000'000s};

TEST(Certificate, SaysWhatItWasIssuedFor) {
  const auto authority = make_authority("Hob test", "hob.localhost", kNow, 24h);
  ASSERT_TRUE(authority.has_value()) << authority.error().message;
  const auto issued =
      issue_certificate(*authority, {"*.us-east-1.hob.localhost", "a.hob.localhost"}, kNow, 2h);
  ASSERT_TRUE(issued.has_value()) << issued.error().message;
  const auto facts = read_certificate(issued->certificate);
  ASSERT_TRUE(facts.has_value());
  EXPECT_EQ(facts->host_names,
            (std::vector<std::string>{"*.us-east-1.hob.localhost", "a.hob.localhost"}));
  EXPECT_EQ(facts->not_after, kNow + 2h);
  EXPECT_LT(facts->not_before, kNow);
  EXPECT_TRUE(is_signed_by(issued->certificate, authority->certificate));
}

TEST(Certificate, IsNotAnotherAuthoritysOfTheSameName) {
  const auto one = make_authority("Hob test", "hob.localhost", kNow, 24h);
  const auto other = make_authority("Hob test", "hob.localhost", kNow, 24h);
  ASSERT_TRUE(one && other);
  const auto issued = issue_certificate(*one, {"a.hob.localhost"}, kNow, 2h);
  ASSERT_TRUE(issued.has_value());
  EXPECT_FALSE(is_signed_by(issued->certificate, other->certificate));
}

TEST(Certificate, KnowsItsOwnKey) {
  const CertifiedKey one = make_authority("A", "hob.localhost", kNow, 24h).value();
  const CertifiedKey other = make_authority("A", "hob.localhost", kNow, 24h).value();
  EXPECT_TRUE(is_pair(one));
  EXPECT_FALSE(is_pair({.certificate = one.certificate, .key = other.key}));
  EXPECT_FALSE(is_pair({.certificate = one.certificate}));
  EXPECT_FALSE(is_pair({}));
}

// Ends this process: 0, the pair was refused; 1, it was read with the password that is at stdin,
// where OpenSSL asks if there is no terminal.
[[noreturn]] void read_with_encrypted_key(CertifiedKey pair) {
  BIO* in = BIO_new_mem_buf(pair.key.data(), static_cast<int>(pair.key.size()));
  EVP_PKEY* key = PEM_read_bio_PrivateKey(in, nullptr, nullptr, nullptr);
  BIO* out = BIO_new(BIO_s_mem());
  const unsigned char password[] = {'s', 'e', 'c', 'r', 'e', 't'};
  const bool encrypted =
      PEM_write_bio_PrivateKey_traditional(out, key, EVP_aes_128_cbc(), password, sizeof password,
                                           nullptr, nullptr) == 1;
  char* data = nullptr;
  const long size = BIO_get_mem_data(out, &data);
  pair.key.assign(data, static_cast<size_t>(size));
  int ends[2] = {-1, -1};
  const bool ready = encrypted && ::setsid() > 0 && ::pipe(ends) == 0 &&
                     ::write(ends[1], "secret\n", 7) == 7 &&
                     ::dup2(ends[0], STDIN_FILENO) == STDIN_FILENO;
  ::_exit(!ready ? 2 : is_pair(pair) ? 1 : 0);
}

TEST(Certificate, AsksNobodyForAPassword) {
  const CertifiedKey pair = make_authority("A", "hob.localhost", kNow, 24h).value();
  EXPECT_EXIT(read_with_encrypted_key(pair), testing::ExitedWithCode(0), "");
}

TEST(Certificate, RefusesWhatIsNone) {
  EXPECT_FALSE(read_certificate("").has_value());
  EXPECT_FALSE(read_certificate("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"));
  EXPECT_FALSE(is_signed_by("", ""));
  EXPECT_FALSE(issue_certificate({}, {"a.b"}, kNow, 1h).has_value());
}

struct Freer {
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(BIO* memory) const { BIO_free_all(memory); }
  void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
};
using Key = std::unique_ptr<EVP_PKEY, Freer>;

Key rsa(const char* kind, size_t bits) {
  const std::unique_ptr<EVP_PKEY_CTX, Freer> context(
      EVP_PKEY_CTX_new_from_name(nullptr, kind, nullptr));
  EVP_PKEY* key = nullptr;
  EVP_PKEY_keygen_init(context.get());
  EVP_PKEY_CTX_set_rsa_keygen_bits(context.get(), static_cast<int>(bits));
  EVP_PKEY_generate(context.get(), &key);
  return Key(key);
}

Key explicit_curve() {
  const std::unique_ptr<EVP_PKEY_CTX, Freer> context(
      EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr));
  EVP_PKEY* key = nullptr;
  EVP_PKEY_keygen_init(context.get());
  EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context.get(), NID_X9_62_prime256v1);
  EVP_PKEY_CTX_set_ec_param_enc(context.get(), 0);
  EVP_PKEY_generate(context.get(), &key);
  return Key(key);
}

// A server's, signed by `by`, or by itself.
CertifiedKey certificate_of(EVP_PKEY* key, const EVP_MD* digest, EVP_PKEY* by = nullptr,
                            const char* name = "leaf", const char* issuer = "leaf") {
  const std::unique_ptr<X509, Freer> certificate(X509_new());
  X509* x509 = certificate.get();
  X509_set_version(x509, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(x509), 1);
  ASN1_TIME_set(X509_getm_notBefore(x509), 1'700'000'000);
  ASN1_TIME_set(X509_getm_notAfter(x509), 1'900'000'000);
  X509_set_pubkey(x509, key);
  const auto named = [](X509_NAME* into, const char* text) {
    X509_NAME_add_entry_by_txt(into, "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(text), -1, -1, 0);
  };
  named(X509_get_subject_name(x509), name);
  named(X509_get_issuer_name(x509), issuer);
  X509_EXTENSION* names = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "DNS:a.test");
  X509_add_ext(x509, names, -1);
  X509_EXTENSION_free(names);
  X509_sign(x509, by != nullptr ? by : key, digest);
  const auto text = [](auto write) {
    const std::unique_ptr<BIO, Freer> memory(BIO_new(BIO_s_mem()));
    write(memory.get());
    char* data = nullptr;
    const long size = BIO_get_mem_data(memory.get(), &data);
    return std::string(data, static_cast<size_t>(size));
  };
  return {.certificate = text([&](BIO* out) { PEM_write_bio_X509(out, x509); }),
          .key = text([&](BIO* out) {
            PEM_write_bio_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
          })};
}

TEST(Certificate, IsOneThatServersCanShow) {
  struct Case {
    const char* name;
    Key key;
    const EVP_MD* digest;
    const char* refused;
  };
  std::vector<Case> cases;
  const auto add = [&](const char* name, Key key, const EVP_MD* digest, const char* refused) {
    cases.push_back({name, std::move(key), digest, refused});
  };
  add("P-256", Key(EVP_EC_gen("P-256")), EVP_sha256(), nullptr);
  add("P-384", Key(EVP_EC_gen("P-384")), EVP_sha384(), nullptr);
  add("RSA", rsa("RSA", 2048), EVP_sha256(), nullptr);
  add("Ed25519", Key(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")), nullptr, nullptr);
  add("Ed448", Key(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED448")), nullptr, "kind is ED448");
  add("small", rsa("RSA", 512), EVP_sha256(), "RSA of 512 bits");
  add("RSA-1024", rsa("RSA", 1024), EVP_sha256(), "RSA of 1024 bits");
  add("large", rsa("RSA", 4104), EVP_sha256(), "RSA of 4104 bits");
  add("PSS", rsa("RSA-PSS", 2048), EVP_sha256(), "kind is RSA-PSS");
  add("SM2", Key(EVP_PKEY_Q_keygen(nullptr, nullptr, "SM2")), EVP_sm3(), "kind is SM2");
  for (const char* curve : {"secp256k1", "P-224", "P-521", "brainpoolP256r1"})
    add(curve, Key(EVP_EC_gen(curve)), EVP_sha256(), "curve is ");
  add("explicit", explicit_curve(), EVP_sha256(), "explicit parameters");
  add("SHA-1", Key(EVP_EC_gen("P-256")), EVP_sha1(), "signed with SHA1");
  add("MD5", rsa("RSA", 2048), EVP_md5(), "signed with MD5");
  for (const Case& c : cases) {
    const auto checked = check_chain(certificate_of(c.key.get(), c.digest), kNow);
    const std::string why = checked ? "" : checked.error().message;
    EXPECT_EQ(checked.has_value(), c.refused == nullptr) << c.name << ": " << why;
    if (c.refused != nullptr) {
      EXPECT_NE(why.find(c.refused), std::string::npos) << c.name << ": " << why;
    }
  }
}

TEST(Certificate, ThoseAboveItHaveKeysThatClientsTake) {
  struct Case {
    const char* name;
    Key key;
    bool root;  // signed by itself
    const char* refused;
  };
  std::vector<Case> cases;
  const auto add = [&](const char* name, Key key, bool root, const char* refused) {
    cases.push_back({name, std::move(key), root, refused});
  };
  add("P-256", Key(EVP_EC_gen("P-256")), false, nullptr);
  add("RSA", rsa("RSA", 2048), false, nullptr);
  add("weak", rsa("RSA", 1024), false, "certificate 2 in it: the key is RSA of 1024 bits");
  add("huge", rsa("RSA", 4104), false, "certificate 2 in it: the key is RSA of 4104 bits");
  add("no client's curve", Key(EVP_EC_gen("secp256k1")), false, "certificate 2 in it: the key's");
  add("a root's is its own matter", rsa("RSA", 1024), true, nullptr);
  const Key leaf(EVP_EC_gen("P-256")), above(EVP_EC_gen("P-256"));
  for (const Case& c : cases) {
    CertifiedKey chain =
        certificate_of(leaf.get(), EVP_sha256(), c.key.get(), "leaf", "intermediate");
    chain.certificate += certificate_of(c.key.get(), EVP_sha256(), c.root ? nullptr : above.get(),
                                        "intermediate", c.root ? "intermediate" : "root")
                             .certificate;
    const auto checked = check_chain(chain, kNow);
    const std::string why = checked ? "" : checked.error().message;
    EXPECT_EQ(why.substr(0, c.refused == nullptr ? 0 : std::strlen(c.refused)),
              c.refused == nullptr ? "" : c.refused)
        << c.name << ": " << why;
    EXPECT_EQ(checked.has_value(), c.refused == nullptr) << c.name << ": " << why;
  }
}

TEST(Certificate, MatchesHosts) {
  struct Case {
    const char* pattern;
    const char* host;
    bool want;
  };
  for (const Case& c :
       {Case{"a.b", "a.b", true}, Case{"a.b", "c.b", false}, Case{"*.b", "a.b", true},
        Case{"*.b", "a.a.b", false}, Case{"*.b", "b", false}, Case{"*.b", ".b", false},
        Case{"*.b", "*.b", true}, Case{"", "", true}}) {
    EXPECT_EQ(host_matches(c.pattern, c.host), c.want) << c.pattern << " " << c.host;
  }
}

}  // namespace
}  // namespace hob
