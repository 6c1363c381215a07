// Answers that `openssl ocsp` signed (testdata/ocsp): the whole way is in tests/test_domains.py.
#include "certify/ocsp.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/certificate.h"
#include "base/file.h"

namespace hob::certify {
namespace {

using namespace std::chrono_literals;

std::string data(const std::string& name) {
  return read_file(std::filesystem::path(HOB_SOURCE_DIR) / "src/certify/testdata" / name, 100'000)
      .value();
}
// When the answers were made; they are good for 3,600 days.
constexpr Instant kMade{std::chrono::seconds(1795594002)};

TEST(Ocsp, AChainThatNamesAResponderIsAQuestion) {
  const auto question = ocsp_question(data("ocsp/chain.pem"));
  ASSERT_TRUE(question);
  EXPECT_EQ(question->url, "http://127.0.0.1:1/");
  EXPECT_GT(question->request.size(), 50u);
  EXPECT_TRUE(must_staple(data("ocsp/chain.pem")));
}

TEST(Ocsp, OneThatNamesNoneOrLacksItsIssuerIsNone) {
  const std::string chain = data("ocsp/chain.pem");
  const std::string leaf = chain.substr(0, chain.find("-----BEGIN", 10));
  EXPECT_FALSE(ocsp_question(leaf));
  EXPECT_FALSE(ocsp_question(leaf + leaf)) << "it did not issue itself";
  EXPECT_FALSE(ocsp_question(""));
  const auto authority = make_authority("Hob test", "a.test", kMade, 24h);
  const auto issued = issue_certificate(*authority, {"a.test"}, kMade, 1h);
  EXPECT_FALSE(ocsp_question(issued->certificate + authority->certificate));
  EXPECT_FALSE(must_staple(issued->certificate));
}

TEST(Ocsp, AnAnswerIsShownOnlyIfItHolds) {
  const std::string chain = data("ocsp/chain.pem");
  const std::string good = data("ocsp_fuzz/good");
  const auto answer = check_ocsp(chain, good, kMade);
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->response, good);
  EXPECT_GT(answer->until, kMade + 24h * 3'599);
  EXPECT_LT(answer->until, kMade + 24h * 3'601);

  std::string changed = good;
  changed[good.find("\x04\x10\xCB\x35") + 2] ^= 1;  // its nonce
  const auto authority = make_authority("c", "a.test", kMade, 24h);
  const auto issued = issue_certificate(*authority, {"a.test"}, kMade, 1h);
  struct Case {
    const char* name;
    std::string chain;
    std::string response;
    Instant now;
    const char* want;
  };
  for (const Case& c : {
           Case{"revoked", chain, data("ocsp_fuzz/revoked"), kMade, "is revoked"},
           Case{"over", chain, good, answer->until, "old"},
           Case{"changed", chain, changed, kMade, "not signed by who issued"},
           Case{"another authority's", issued->certificate + authority->certificate, good, kMade,
                "not signed by who issued"},
           Case{"more behind it", chain, good + "x", kMade, "no OCSP response"},
           Case{"a page", chain, "<html>", kMade, "no OCSP response"},
           Case{"try later", chain, std::string("\x30\x03\x0a\x01\x03", 5), kMade, "trylater"},
           Case{"long", chain, std::string(kOcspBytesMax + 1, 'x'), kMade, "more than"},
       }) {
    const auto seen = check_ocsp(c.chain, c.response, c.now);
    ASSERT_FALSE(seen) << c.name;
    EXPECT_NE(seen.error().message.find(c.want), std::string::npos)
        << c.name << ": " << seen.error().message;
  }
}

}  // namespace
}  // namespace hob::certify
