#include "base/sealed.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>

#include "base/digest.h"
#include "base/file.h"

namespace hob {
namespace {

TEST(Sealed, OpensWhereItWasSealed) {
  SystemRandom random;
  const Secret<std::string> key(std::string(kSealingKeyBytes, 'k'));
  for (const std::string& secret : {std::string("token"), std::string(), std::string(9000, '\0')}) {
    const std::string sealed = seal(key, random, "/a/b", secret);
    EXPECT_TRUE(secret.empty() || sealed.find(secret) == std::string::npos);
    EXPECT_EQ(open_sealed(key, "/a/b", sealed)->reveal(), secret);
    EXPECT_NE(seal(key, random, "/a/b", secret), sealed);  // another nonce
    EXPECT_EQ(open_sealed(key, "/a/c", sealed).error().code, Code::kCorrupt);
    const Secret<std::string> other(std::string(kSealingKeyBytes, 'o'));
    EXPECT_FALSE(open_sealed(other, "/a/b", sealed));
    // Every bit counts.
    std::string raw = *unbase64(sealed.substr(2));
    for (size_t i = 0; i < std::min<size_t>(raw.size(), 60); ++i) {
      raw[i] = static_cast<char>(raw[i] ^ 1);
      EXPECT_FALSE(open_sealed(key, "/a/b", "1." + base64(raw))) << i;
      raw[i] = static_cast<char>(raw[i] ^ 1);
    }
  }
  for (const char* text : {"", "1.", "2.AAAA", "1.AAAA", "1.!", "token"})
    EXPECT_FALSE(open_sealed(key, "/a/b", text)) << text;
}

TEST(Sealed, TheKeyIsMadeOnceAndItsOwners) {
  std::string pattern = "/tmp/hob-sealed-XXXXXX";
  const std::filesystem::path directory = mkdtemp(pattern.data());
  SystemRandom random;
  const auto first = load_or_make_sealing_key(directory / "key", random);
  ASSERT_TRUE(first);
  EXPECT_EQ(load_or_make_sealing_key(directory / "key", random)->reveal(), first->reveal());
  struct stat status {};
  ASSERT_EQ(stat((directory / "key").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777u, 0600u);
  ASSERT_TRUE(write_file_durably(directory / "key", "short", 0600));
  EXPECT_EQ(load_or_make_sealing_key(directory / "key", random).error().code, Code::kCorrupt);
  ASSERT_TRUE(remove_tree(directory));
}

}  // namespace
}  // namespace hob
