#include "builder/npm_registry.h"

#include <gtest/gtest.h>

namespace hob::builder {
namespace {

std::string chosen(std::string_view wanted, std::string_view versions) {
  const Result<NpmVersion> found =
      choose_npm_version(fmt::format(R"({{"versions": {}}})", versions), wanted);
  return found ? found->version : std::string(word(found.error().code));
}

constexpr std::string_view kVersions = R"({
  "9.9.9": {"dist": {"tarball": "http://x/9", "integrity": "sha512-a"}},
  "22.2.0": {"dist": {"tarball": "http://x/22.2.0", "integrity": "sha512-b"}},
  "22.10.0": {"dist": {"tarball": "http://x/22.10.0", "integrity": "sha512-c"}},
  "22.11.0-rc.1": {"dist": {"tarball": "http://x/rc", "integrity": "sha512-d"}},
  "22.12.0": {"dist": {"tarball": "http://x/22.12.0"}},
  "22.13.0": {},
  "220.0.0": {"dist": {"tarball": "http://x/220", "integrity": "sha512-e"}}
})";

TEST(NpmRegistry, TheNewestThatBeginsSo) {
  EXPECT_EQ(chosen("22", kVersions), "22.10.0") << "by number; no pre-release, none unsigned";
  EXPECT_EQ(chosen("22.2", kVersions), "22.2.0");
  EXPECT_EQ(chosen("9.9.9", kVersions), "9.9.9");
  EXPECT_EQ(chosen("2", kVersions), "not_found");
  EXPECT_EQ(chosen("22", "{}"), "not_found");
}

TEST(NpmRegistry, WhatIsNoAnswer) {
  for (const char* text : {"", "[]", "{}", R"({"versions": []})", R"({"versions": 5})"}) {
    EXPECT_FALSE(choose_npm_version(text, "22")) << text;
  }
  EXPECT_EQ(chosen("22", R"({"22.0.0": 5, "22.0.1": {"dist": [1]}})"), "not_found");
}

}  // namespace
}  // namespace hob::builder
