#include "base/digest.h"

#include <gtest/gtest.h>

namespace hob {
namespace {

TEST(Digest, HashesLikeTheStandard) {
  EXPECT_EQ(hex(sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hex(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Sha256Hasher hasher;
  hasher.update("a");
  hasher.update("");
  hasher.update("bc");
  EXPECT_EQ(hasher.finish(), sha256("abc"));
  // RFC 4231, test case 2.
  EXPECT_EQ(hex(hmac_sha256("Jefe", "what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

TEST(Digest, WritesAndReadsHex) {
  const Sha256 digest = sha256("x");
  const std::optional<std::string> bytes = unhex(hex(digest));
  ASSERT_TRUE(bytes.has_value());
  EXPECT_EQ(*bytes, std::string(digest.begin(), digest.end()));
  EXPECT_EQ(unhex("0AfF"), std::string("\x0a\xff"));
  EXPECT_EQ(unhex(""), "");
  for (const char* bad : {"0", "0g", "0x", " 0"}) EXPECT_EQ(unhex(bad), std::nullopt) << bad;
}

TEST(Digest, WritesAndReadsBase64) {
  struct Case {
    const char* bytes;
    const char* text;
  };
  for (const Case& c : {Case{"", ""}, Case{"f", "Zg=="}, Case{"fo", "Zm8="}, Case{"foo", "Zm9v"},
                        Case{"foob", "Zm9vYg=="}}) {
    EXPECT_EQ(base64(c.bytes), c.text);
    EXPECT_EQ(unbase64(c.text), c.bytes);
  }
  for (const char* bad : {"Zg", "Zg=", "Z===", "====", "Zm9v\n", "Zm9*", "=Zm9", "Zm=v", "Z g="}) {
    EXPECT_EQ(unbase64(bad), std::nullopt) << bad;
  }
}

TEST(Digest, ComparesInConstantTime) {
  EXPECT_TRUE(equal_in_constant_time("abc", "abc"));
  EXPECT_FALSE(equal_in_constant_time("abc", "abd"));
  EXPECT_FALSE(equal_in_constant_time("abc", "ab"));
  EXPECT_TRUE(equal_in_constant_time("", ""));
}

}  // namespace
}  // namespace hob
