#include "builder/version_range.h"

#include <gtest/gtest.h>

namespace hob::builder {
namespace {

struct Case {
  const char* range;
  const char* version;
  bool contains;
};

TEST(VersionRange, NpmsAndPythons) {
  const Case cases[] = {
      {">=20", "22.23.3", true},
      {">=20", "18.20.8", false},
      {"20", "20.1.0", true},
      {"20", "22.0.0", false},
      {"20.x", "20.9.1", true},
      {"*", "1.0.0", true},
      {"^20.9 || >=22.12", "22.23.3", true},
      {"^20.9 || >=22.12", "22.1.0", false},
      {"^20.9 || >=22.12", "20.19.0", true},
      {"^0.2.3", "0.2.9", true},
      {"^0.2.3", "0.3.0", false},
      {"~1.2.3", "1.2.9", true},
      {"~1.2.3", "1.3.0", false},
      {"~1", "1.9.0", true},
      {"1.2 - 2", "2.9.9", true},
      {"1.2 - 2", "3.0.0", false},
      {">= 18 < 21", "20.0.0", true},
      {">= 18 < 21", "21.0.0", false},
      {"v18.20.8", "18.20.8", true},
      {"<=22", "22.23.3", true},
      {">22", "22.23.3", false},
      {">=3.10,<4", "3.11.2", true},
      {"~=3.11", "3.12.0", true},
      {"~=3.11.1", "3.12.0", false},
      {"==3.*", "3.11.2", true},
      {"!=3.11.2", "3.11.2", false},
      {"18.0.0-rc.1", "18.0.0", true},
      {"", "1.0.0", true},
  };
  for (const Case& each : cases) {
    const Result<VersionRange> range = VersionRange::parse(each.range);
    ASSERT_TRUE(range) << each.range;
    EXPECT_EQ(range->contains(*parse_version(each.version)), each.contains)
        << each.range << " and " << each.version;
  }
}

TEST(VersionRange, WhatIsNone) {
  for (const char* text : {"lts/*", "node", ">=", "^", "latest", "||a"}) {
    EXPECT_FALSE(VersionRange::parse(text)) << text;
  }
  EXPECT_FALSE(VersionRange::parse(std::string(10'000, '1')));
  EXPECT_TRUE(VersionRange::parse("99999999999999999999"));
}

}  // namespace
}  // namespace hob::builder
