#include "aws/utf8.h"

#include <gtest/gtest.h>

namespace hob::aws {
namespace {

TEST(Utf8, CountsCharactersNotBytes) {
  EXPECT_EQ(count_characters(""), 0u);
  EXPECT_EQ(count_characters("abc"), 3u);
  EXPECT_EQ(count_characters("é😀"), 2u);
  EXPECT_EQ(count_characters("\xff\xff"), 2u);
}

TEST(Utf8, TellsValidFromNot) {
  for (const char* good : {"", "a", "é", "€", "😀", "\xf4\x8f\xbf\xbf", "\x7f"})
    EXPECT_TRUE(is_utf8(good)) << good;
  for (const char* bad :
       {"\x80", "\xff", "\xc3", "\xc3(", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80",
        "\xf4\x90\x80\x80", "\xe2\x82", "\xf0\x9f\x98", "a\xfe"}) {
    EXPECT_FALSE(is_utf8(bad)) << bad;
    EXPECT_TRUE(is_utf8(to_utf8(bad))) << bad;
  }
  EXPECT_EQ(to_utf8("a\xff"
                    "é"),
            "a\xEF\xBF\xBDé");
}

}  // namespace
}  // namespace hob::aws
