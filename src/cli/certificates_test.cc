#include "cli/certificates.h"

#include <gtest/gtest.h>

namespace hob::cli {
namespace {

using namespace std::chrono_literals;
constexpr Instant t0{1'000'000s};

TEST(CertificateWarnings, SayWhatAPersonMustSeeTo) {
  struct Case {
    const char* name;
    CertificateLine line;
    const char* want;  // a part of the warning; empty: none
  };
  for (const Case& c : {
           Case{"far from its end", {.name = "a", .not_after = t0 + 24h * 21}, ""},
           Case{"near it", {.name = "a", .not_after = t0 + 24h * 21 - 1ms}, "a ends on"},
           Case{"over", {.name = "a", .not_after = t0}, "a ended on"},
           Case{"its authority says so",
                {.name = "a", .not_after = t0 + 24h * 90, .reason = "revoked"},
                "a: revoked"},
           Case{"Hob renews it",
                {.name = "a", .shown_for = {"a"}, .not_after = t0 + 24h, .renew_at = t0},
                ""},
           Case{"and is late",
                {.name = "a",
                .shown_for = {"a"},
                .not_after = t0 + 24h,
                .renew_at = t0 - 24h,
                .reason = "no answer"},
                "no answer"},
           Case{"another is shown", {.name = "a", .not_after = t0, .renew_at = t0 - 48h}, ""},
       }) {
    const auto warnings = certificate_warnings({c.line}, t0);
    EXPECT_EQ(warnings.size(), *c.want == '\0' ? 0u : 1u) << c.name;
    if (!warnings.empty()) EXPECT_NE(warnings[0].find(c.want), std::string::npos) << warnings[0];
  }
}

}  // namespace
}  // namespace hob::cli
