// The access log on disk: bounded, in order, no line lost or cut.
#include "edge/access_log.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

namespace hob::edge {
namespace {

namespace fs = std::filesystem;

constexpr size_t kFileBytes = 1'000;
constexpr size_t kFileRead = 64 * 1024;

class AccessLogTest : public ::testing::Test {
 protected:
  AccessLogTest() {
    std::string pattern = (fs::temp_directory_path() / "hob-access-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
  }
  ~AccessLogTest() override { fs::remove_all(directory_); }

  // As the supervisor does.
  AccessLogFiles open_files() const {
    const auto open_file = [](const fs::path& path, int how) {
      return Fd(::open(path.c_str(), how | O_CREAT | O_CLOEXEC, 0640));
    };
    return {.current = open_file(current(), O_RDWR | O_APPEND),
            .previous = open_file(previous(), O_WRONLY)};
  }
  // Adds `count` lines, as one life of an edge does; they are on disk when this returns.
  void add(int count) {
    AccessLog log(open_files(), 1, kFileBytes);
    for (int i = 0; i < count; ++i)
      log.add(0, {.prefix = fmt::format("line {}", next_++), .service = "s", .status = 200});
  }
  std::string text(const fs::path& path) const {
    return read_file(path, kFileRead).value_or("cannot be read");
  }
  fs::path current() const { return directory_ / "access.log"; }
  fs::path previous() const { return directory_ / "access.log.1"; }
  // What lines `from` to the last one added read like.
  std::string lines(int from) const {
    std::string all;
    for (int i = from; i < next_; ++i) all += fmt::format("line {} s 200 0 0 0.000000 1\n", i);
    return all;
  }

  fs::path directory_;
  int next_ = 100;  // all lines have one length
};

TEST_F(AccessLogTest, GoesOnWhereItEnded) {
  add(2);
  add(3);
  EXPECT_EQ(text(current()), lines(100));
  EXPECT_EQ(text(previous()), "");
}

TEST_F(AccessLogTest, AFullFileBecomesThePreviousOne) {
  // However many lines come at a time, and over how many lives.
  for (const int at_once : {1, 3, 7, 29, 200}) {
    SCOPED_TRACE(at_once);
    for (int round = 0; round < 20 && next_ + at_once < 1'000; ++round) {
      add(at_once);
      const std::string before = text(previous());
      const std::string now = text(current());
      EXPECT_LE(before.size(), kFileBytes);
      EXPECT_LE(now.size(), kFileBytes);
      EXPECT_FALSE(now.empty());
      // All there is, and nothing between is missing: the last lines there were.
      const std::string all = lines(100);
      EXPECT_TRUE(all.ends_with(before + now)) << before << "---\n" << now;
      if (all.size() <= kFileBytes) EXPECT_EQ(now, all);
      // The first line that is not there any more would not have had room.
      if (!before.empty()) EXPECT_GT(before.size() + lines(next_ - 1).size(), kFileBytes);
    }
  }
  EXPECT_FALSE(text(previous()).empty());
}

TEST_F(AccessLogTest, ALineLongerThanAFileIsWrittenAlone) {
  {
    AccessLog log(open_files(), 1, kFileBytes);
    log.add(0, {.prefix = "before"});
    log.add(0, {.prefix = std::string(2 * kFileBytes, 'x')});
    log.add(0, {.prefix = "after"});
  }
  EXPECT_EQ(text(current()), "after - 0 0 0 0.000000 1\n");
  EXPECT_EQ(text(previous()), std::string(2 * kFileBytes, 'x') + " - 0 0 0 0.000000 1\n");
}

TEST_F(AccessLogTest, AFullDiskStopsNobody) {
  AccessLogFiles files = open_files();
  files.current = Fd(::open("/dev/full", O_RDWR | O_APPEND | O_CLOEXEC));
  ASSERT_TRUE(files.current);
  AccessLog log(std::move(files), 2, kFileBytes);
  log.add(0, {.prefix = "a"});
  log.add(0, {.prefix = "b"});
  log.add(1, {.prefix = "c"});
  while (log.dropped() < 3) std::this_thread::yield();  // the writer's next turn
  EXPECT_EQ(log.dropped(), 3u);
}

}  // namespace
}  // namespace hob::edge
