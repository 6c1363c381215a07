#include "base/certificate.h"

#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <unistd.h>

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
