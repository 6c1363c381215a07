#include "cli/words.h"

#include <gtest/gtest.h>

namespace hob::cli {
namespace {

using namespace std::chrono_literals;

TEST(Words, AgesArePlain) {
  EXPECT_EQ(*parse_age("30s"), 30s);
  EXPECT_EQ(*parse_age("10m"), 10min);
  EXPECT_EQ(*parse_age("2h"), 2h);
  EXPECT_EQ(*parse_age("1d"), 24h);
  EXPECT_EQ(*parse_age("100000d"), 2'400'000h);
  for (const char* wrong : {"", "10", "m", "0s", "-1m", "1w", "10 m", "10mm", "1.5h", "100001s",
                            "99999999999999999999s"})
    EXPECT_FALSE(parse_age(wrong)) << wrong;
}

}  // namespace
}  // namespace hob::cli
