#include "cli/local_certificate.h"

#include <gtest/gtest.h>

namespace hob::cli {
namespace {

using namespace std::chrono_literals;
constexpr Instant kNow{1'800'000'000s};
constexpr Duration kDay = 24h;

CertificateFacts until(Duration left, std::vector<std::string> names = {}) {
  return {.not_before = kNow - kDay, .not_after = kNow + left, .host_names = std::move(names)};
}

TEST(LocalCertificate, Decides) {
  const auto authority = until(kAuthorityRenewBefore);
  const auto leaf = until(kCertificateRenewBefore, {"*.r.hob.localhost"});
  const auto future = CertificateFacts{
      .not_before = kNow + 1s, .not_after = kNow + kCertificateLife, .host_names = leaf.host_names};
  struct Case {
    const char* name;
    CertificateView view;
    CertificateAction want;
  };
  for (const Case& c : {
           Case{"a first start", {}, CertificateAction::kMakeAuthorityAndIssue},
           Case{"an authority alone", {.authority = authority}, CertificateAction::kIssue},
           Case{"all is well, on the last day of it",
                {authority, leaf, true},
                CertificateAction::kNothing},
           Case{"of another authority", {authority, leaf, false}, CertificateAction::kIssue},
           Case{"near its end",
                {authority, until(kCertificateRenewBefore - 1s, leaf.host_names), true},
                CertificateAction::kIssue},
           Case{"over", {authority, until(-1s, leaf.host_names), true}, CertificateAction::kIssue},
           Case{"made by a clock that was ahead",
                {authority, future, true},
                CertificateAction::kIssue},
           Case{"of another region",
                {authority, until(kCertificateLife, {"*.x.hob.localhost"}), true},
                CertificateAction::kIssue},
           Case{"the authority near its end",
                {until(kAuthorityRenewBefore - 1s), leaf, true},
                CertificateAction::kMakeAuthorityAndIssue},
       }) {
    CertificateView view = c.view;
    view.host_name = "*.r.hob.localhost";
    EXPECT_EQ(decide_certificate(view, kNow), c.want) << c.name;
  }
}

}  // namespace
}  // namespace hob::cli
