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

TEST(Words, TheNearestCommandIsSuggested) {
  const std::vector<std::string> known = {"up", "down", "deploy", "describe", "ps", "logs", "rm"};
  EXPECT_EQ(closest("depoly", known), "deploy");
  EXPECT_EQ(closest("log", known), "logs");
  EXPECT_EQ(closest("descibe", known), "describe");
  EXPECT_EQ(closest("donw", known), "down");
  for (const char* far : {"", "ls", "start", "deployments", "pps!!"})
    EXPECT_EQ(closest(far, known), "") << far;
  EXPECT_EQ(closest(std::string(1'000'000, 'x'), known), "");
}

}  // namespace
}  // namespace hob::cli
