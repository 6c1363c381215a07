#include "builder/ignore.h"

#include <gtest/gtest.h>

namespace hob::builder {
namespace {

struct Case {
  const char* rules;
  const char* path;
  bool directory;
  bool ignored;
};

// Each row as `git check-ignore` answers it.
TEST(Ignore, GitsRules) {
  const Case cases[] = {
      {"node_modules/", "node_modules", true, true},
      {"node_modules/", "node_modules", false, false},
      {"node_modules/", "web/node_modules", true, true},
      {"*.log", "a/b/x.log", false, true},
      {"*.log\n!keep.log", "keep.log", false, false},
      {"!keep.log\n*.log", "keep.log", false, true},
      {"/dist", "dist", true, true},
      {"/dist", "web/dist", true, false},
      {"web/dist", "web/dist", true, true},
      {"web/dist", "x/web/dist", true, false},
      {"**/cache", "a/b/cache", true, true},
      {"**/cache", "cache", true, true},
      {"a/**/b", "a/b", false, true},
      {"a/**/b", "a/x/y/b", false, true},
      {"a/**", "a", true, false},
      {"a/**", "a/x", false, true},
      {"[a-c].txt", "b.txt", false, true},
      {"[!a-c].txt", "b.txt", false, false},
      {"?.txt", "ab.txt", false, false},
      {"\\#x", "#x", false, true},
      {"# a comment", "# a comment", false, false},
      {"x  ", "x", false, true},
      {"foo*bar*baz", "foo1bar2baz", false, true},
      {"[", "[", false, true},
  };
  for (const Case& each : cases) {
    IgnoreRules rules;
    ASSERT_TRUE(rules.add("", each.rules));
    EXPECT_EQ(rules.ignored(each.path, each.directory), each.ignored)
        << each.rules << " and " << each.path;
  }
}

TEST(Ignore, RulesOfAFolderAreOfWhatIsInIt) {
  IgnoreRules rules;
  ASSERT_TRUE(rules.add("", "*.tmp"));
  ASSERT_TRUE(rules.add("web", "/out\n!x.tmp"));
  EXPECT_TRUE(rules.ignored("web/out", true));
  EXPECT_FALSE(rules.ignored("out", true));
  EXPECT_FALSE(rules.ignored("webb/out", true));
  EXPECT_FALSE(rules.ignored("web/x.tmp", false));
  EXPECT_TRUE(rules.ignored("x.tmp", false));
}

TEST(Ignore, AHostilePatternCostsLittle) {
  std::string stars;
  for (int i = 0; i < 200; ++i) stars += "*a";
  EXPECT_FALSE(glob_matches(stars + "b", std::string(2'000, 'a')));
  std::string deep;
  std::string path;
  for (int i = 0; i < 100; ++i) {
    deep += "**/";
    path += "a/";
  }
  EXPECT_FALSE(glob_matches(deep + "b", path + "a"));
}

}  // namespace
}  // namespace hob::builder
