#include "aws/timestamp.h"

#include <gtest/gtest.h>

#include <limits>

#include "aws/arn.h"

namespace hob::aws {
namespace {

using namespace std::chrono_literals;

constexpr Instant kAt{1'795'471'909s};  // 2026-11-23T22:11:49Z

TEST(Timestamp, ReadsEveryForm) {
  EXPECT_EQ(timestamp_from_seconds(1795471909.1254), kAt + 125ms);
  EXPECT_EQ(timestamp_from_text("1795471909.5"), kAt + 500ms);
  EXPECT_EQ(timestamp_from_text("2026-11-23T22:11:49Z"), kAt);
  EXPECT_EQ(timestamp_from_text("2026-11-23T22:11:49.123456789Z"), kAt + 123ms);
  EXPECT_EQ(timestamp_from_text("2026-11-23T22:11:49.5Z"), kAt + 500ms);
  EXPECT_EQ(timestamp_from_text("2026-11-24T00:11:49+02:00"), kAt);
  EXPECT_EQ(timestamp_from_text("2026-11-23T21:41:49-00:30"), kAt);
  EXPECT_EQ(timestamp_from_basic("20261123T221149Z"), kAt);
  EXPECT_EQ(timestamp_from_http_date("Mon, 23 Nov 2026 22:11:49 GMT"), kAt);
}

TEST(Timestamp, RefusesTheRest) {
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(),
                           std::numeric_limits<double>::infinity(), 1e300, -1e300}) {
    EXPECT_FALSE(timestamp_from_seconds(bad).has_value()) << bad;
  }
  for (const char* bad : {"", "x", "2026-11-23", "2026-13-23T22:11:49Z", "2026-02-30T22:11:49Z",
                          "2026-11-23T24:11:49Z", "2026-11-23T22:11:49", "2026-11-23T22:11:49.Z",
                          "2026-11-23T22:11:49Zx", "1e400"}) {
    EXPECT_FALSE(timestamp_from_text(bad).has_value()) << bad;
  }
  for (const char* bad :
       {"", "20261123", "20261123T221149", "20261123T221149Zx", "2026112aT221149Z"}) {
    EXPECT_FALSE(timestamp_from_basic(bad).has_value()) << bad;
  }
  for (const char* bad : {"", "Mon, ", "Mon, 23 Nov", "Mon, 23 Xxx 2026 22:11:49 GMT",
                          "Mon, 23 Nov 2026 22:11:49 CET"}) {
    EXPECT_FALSE(timestamp_from_http_date(bad).has_value()) << bad;
  }
}

TEST(Arn, IsReadAndWritten) {
  const char* text = "arn:aws:apprunner:us-east-1:000000000001:service/hello/1:2";
  const auto arn = parse_arn(text);
  ASSERT_TRUE(arn.has_value());
  EXPECT_EQ(arn->service, "apprunner");
  EXPECT_EQ(arn->account, "000000000001");
  EXPECT_EQ(arn->resource, "service/hello/1:2");
  EXPECT_EQ(to_string(*arn), text);
  EXPECT_TRUE(parse_arn("arn:aws:iam::000000000001:root").has_value());
  EXPECT_TRUE(parse_arn("arn:aws:s3:::bucket").has_value());
  for (const char* bad : {"", "arn", "arn:aws:iam::000000000001", "arn:aws:iam::1:root",
                          "arn::iam::000000000001:root", "arn:aws:iam::000000000001:", "*"}) {
    EXPECT_FALSE(parse_arn(bad).has_value()) << bad;
  }
}

}  // namespace
}  // namespace hob::aws
