#include "builder/git_source.h"

#include <gtest/gtest.h>

namespace hob::builder {
namespace {

TEST(GitUrl, PasswordsAreTakenOutOfIt) {
  struct Case {
    const char* url;
    const char* shown;
    const char* user = "";
    const char* password = "";
  };
  for (const Case& each : {Case{"https://example.com/a/b.git", "https://example.com/a/b.git"},
                           Case{"http://127.0.0.1:80/x", "http://127.0.0.1:80/x"},
                           Case{"https://token@example.com/a", "https://example.com/a", "token"},
                           Case{"https://u:p@h/a@b", "https://h/a@b", "u", "p"},
                           Case{"https://u:p@q@h/a", "https://h/a", "u", "p@q"}}) {
    const Result<GitAddress> address = parse_git_url(each.url);
    ASSERT_TRUE(address.has_value()) << each.url;
    EXPECT_EQ(address->url, each.shown);
    EXPECT_EQ(address->user, each.user);
    EXPECT_EQ(address->password, each.password);
  }
}

TEST(GitUrl, OtherProtocolsAndWhatIsNoAddressAreRefused) {
  for (const char* url : {"", "file:///etc", "ext::sh -c id", "ssh://git@example.com/a",
                          "git@example.com:a/b", "--upload-pack=id", "https://", "https:///a",
                          "https://host", "https://host/a b", "https://host/\n", "ftp://h/a"})
    EXPECT_FALSE(parse_git_url(url).has_value()) << url;
  EXPECT_FALSE(parse_git_url("https://h/" + std::string(3000, 'a')).has_value());
}

TEST(GitReference, OnlyNamesAreTaken) {
  for (const char* good : {"", "main", "release/1.2", "v1.0", "0123456789abcdef", "a_b-c"})
    EXPECT_TRUE(check_git_reference(good).has_value()) << good;
  for (const char* bad : {"--output=x", "-b", "+main", "a..b", "a b", "main~1", "main^", "a:b",
                          "a?", "a*", "a[", "a\\", "main@{1}", "a\x7f", "\xc3\xa9"})
    EXPECT_FALSE(check_git_reference(bad).has_value()) << bad;
}

TEST(SourceDirectory, StaysInTheRepository) {
  for (const char* good : {"", "/", "app", "/app/web", "./app", "a..b"})
    EXPECT_TRUE(check_source_directory(good).has_value()) << good;
  for (const char* bad : {"..", "app/../..", "/../etc"})
    EXPECT_FALSE(check_source_directory(bad).has_value()) << bad;
}

}  // namespace
}  // namespace hob::builder
