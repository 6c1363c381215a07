#include "base/nearest_word.h"

#include <gtest/gtest.h>

namespace hob {
namespace {

TEST(NearestWord, IsFewLettersAway) {
  const std::vector<std::string> known = {"up", "down", "deploy", "describe", "ps", "logs", "rm"};
  EXPECT_EQ(nearest_word("depoly", known), "deploy");
  EXPECT_EQ(nearest_word("log", known), "logs");
  EXPECT_EQ(nearest_word("descibe", known), "describe");
  EXPECT_EQ(nearest_word("donw", known), "down");
  for (const char* far : {"", "ls", "start", "deployments", "pps!!"})
    EXPECT_EQ(nearest_word(far, known), "") << far;
  EXPECT_EQ(nearest_word(std::string(1'000'000, 'x'), known), "");
}

}  // namespace
}  // namespace hob
