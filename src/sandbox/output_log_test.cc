#include "sandbox/output_log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/file.h"

namespace hob::sandbox {
namespace {

constexpr timespec kNow{.tv_sec = 1'795'472'509, .tv_nsec = 123'456};  // 2026-11-23T22:21:49
constexpr const char* kPrefix = "2026-11-23T22:21:49.000123456+00:00 ";

class OutputLogFile : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/hob-output-log-XXXXXX";
    directory_ = ::mkdtemp(name);
    path_ = (directory_ / "log").string();
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(directory_).has_value()); }
  std::string content(const std::string& path) const {
    return read_file(path, 64 * 1024 * 1024).value_or("no file");
  }

  std::filesystem::path directory_;
  std::string path_;
};

TEST_F(OutputLogFile, MarksWholeLinesAndParts) {
  struct Case {
    const char* name;
    std::vector<std::string> chunks;
    std::vector<std::string> want;
  };
  for (const Case& c : {
           Case{"nothing", {""}, {}},
           Case{"one line", {"a\n"}, {"stdout F a"}},
           Case{"lines", {"a\n\nb\n"}, {"stdout F a", "stdout F ", "stdout F b"}},
           Case{"a part and its end", {"a", "b\n"}, {"stdout P a", "stdout F b"}},
           Case{"its end alone", {"a", "\n"}, {"stdout P a", "stdout F "}},
           Case{"bytes that are no text",
                {std::string("\0\xff\r\n", 4)},
                {"stdout F " + std::string("\0\xff\r", 3)}},
       }) {
    OutputLog log(path_.c_str(), 1'000'000);
    ASSERT_TRUE(log.open());
    for (const std::string& chunk : c.chunks) log.write(OutputStream::kStdout, chunk, kNow);
    std::string want;
    for (const std::string& line : c.want) want += kPrefix + line + "\n";
    EXPECT_EQ(content(path_), want) << c.name;
    ::unlink(path_.c_str());
  }
}

TEST_F(OutputLogFile, NamesTheStreamAndGoesOnWithWhatIsThere) {
  std::ofstream(path_) << "before\n";
  OutputLog log(path_.c_str(), 1'000'000);
  ASSERT_TRUE(log.open());
  log.write(OutputStream::kStderr, "x\n", kNow);
  EXPECT_EQ(content(path_), std::string("before\n") + kPrefix + "stderr F x\n");
}

// The file never passes its limit, holds whole entries only, and the one before it is whole where
// it was linked.
TEST_F(OutputLogFile, BeginsANewFileAtTheLimit) {
  const size_t entry = kOutputPrefixBytes + 2;
  OutputLog log(path_.c_str(), 3 * entry);
  ASSERT_TRUE(log.open());
  const std::string kept = (directory_ / "kept").string();
  log.write(OutputStream::kStdout, "1\n2\n3\n", kNow);
  EXPECT_EQ(content(path_).size(), 3 * entry) << "at the limit, not over it";
  std::filesystem::create_hard_link(path_, kept);
  log.write(OutputStream::kStdout, "4\n", kNow);
  EXPECT_EQ(content(path_), std::string(kPrefix) + "stdout F 4\n");
  EXPECT_EQ(content(kept).size(), 3 * entry);
  log.write(OutputStream::kStdout, "5\n6\n7\n8\n9\n", kNow);
  EXPECT_EQ(content(path_), std::string(kPrefix) + "stdout F 7\n" + kPrefix + "stdout F 8\n" +
                                kPrefix + "stdout F 9\n");
  EXPECT_FALSE(std::filesystem::exists(path_ + ".tmp"));
}

TEST_F(OutputLogFile, TakesTheLargestChunksOfEitherKind) {
  OutputLog log(path_.c_str(), 8 * 1024 * 1024);
  ASSERT_TRUE(log.open());
  log.write(OutputStream::kStdout, std::string(kOutputChunkBytesMax, 'x'), kNow);
  log.write(OutputStream::kStdout, std::string(kOutputChunkBytesMax, '\n'), kNow);
  EXPECT_EQ(content(path_).size(), kOutputPrefixBytes + kOutputChunkBytesMax + 1 +
                                       kOutputChunkBytesMax * (kOutputPrefixBytes + 1));
}

TEST_F(OutputLogFile, SaysWhyItCannotBegin) {
  const std::string missing = (directory_ / "no/log").string();
  OutputLog log(missing.c_str(), 1'000'000);
  EXPECT_FALSE(log.open());
}

}  // namespace
}  // namespace hob::sandbox
