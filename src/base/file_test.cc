#include "base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "base/metrics.h"

namespace hob {
namespace {

class Files : public ::testing::Test {
 protected:
  Files() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "hob-file-test-XXXXXX").string();
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  ~Files() override { (void)remove_tree(directory_); }
  unsigned mode_of(const std::filesystem::path& path) const {
    struct stat status{};
    EXPECT_EQ(::stat(path.c_str(), &status), 0);
    return status.st_mode & 07777;
  }
  std::filesystem::path directory_;
};

TEST_F(Files, AreWrittenWholeAndReadWithinABound) {
  const std::filesystem::path path = directory_ / "a";
  ASSERT_TRUE(write_file_durably(path, "one", 0600).has_value());
  ASSERT_TRUE(write_file_durably(path, "another", 0600).has_value());
  EXPECT_EQ(read_file(path, 7).value_or(""), "another");
  EXPECT_EQ(read_file(path, 6).error().code, Code::kLimit);
  EXPECT_EQ(mode_of(path), 0600u);
  EXPECT_EQ(read_file(directory_ / "b", 1).error().code, Code::kNotFound);
  // No temporary stays behind.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_), {}), 1);
  EXPECT_FALSE(write_file_durably(directory_ / "no" / "where", "x", 0600).has_value());
}

TEST_F(Files, DirectoriesAreMadeWithTheirMode) {
  const std::filesystem::path path = directory_ / "a" / "b";
  ASSERT_TRUE(make_directories(path, 0700).has_value());
  ASSERT_TRUE(make_directories(path, 0700).has_value());
  EXPECT_EQ(mode_of(path), 0700u);
  ASSERT_TRUE(write_file_durably(path / "file", "x", 0600).has_value());
  EXPECT_FALSE(make_directories(path / "file" / "c", 0700).has_value());
}

TEST_F(Files, TreesAreRemovedAndLinksNotFollowed) {
  ASSERT_TRUE(make_directories(directory_ / "kept", 0700).has_value());
  ASSERT_TRUE(write_file_durably(directory_ / "kept" / "file", "x", 0600).has_value());
  ASSERT_TRUE(make_directories(directory_ / "gone", 0700).has_value());
  std::filesystem::create_directory_symlink(directory_ / "kept", directory_ / "gone" / "link");
  ASSERT_TRUE(remove_tree(directory_ / "gone").has_value());
  ASSERT_TRUE(remove_tree(directory_ / "gone").has_value());
  EXPECT_TRUE(std::filesystem::exists(directory_ / "kept" / "file"));
}

TEST_F(Files, DescriptorsAreClosedOnce) {
  int number = -1;
  {
    Fd first(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    number = first.get();
    Fd second = std::move(first);
    EXPECT_EQ(second.get(), number);
    EXPECT_EQ(::fcntl(number, F_GETFD) >= 0, true);
  }
  EXPECT_LT(::fcntl(number, F_GETFD), 0);
}

TEST(Metrics, AreRenderedForPrometheus) {
  Metrics metrics;
  metrics.counter("hob_test_things_total", "Things.", {{"kind", "a\"b\\c\nd"}}).add(3);
  metrics.counter("hob_test_things_total", "Things.", {{"kind", "a\"b\\c\nd"}}).add();
  metrics.gauge("hob_test_level_bytes", "Level.", [] { return 1.5; });
  const std::string text = metrics.render();
  EXPECT_NE(text.find("# HELP hob_test_things_total Things.\n# TYPE hob_test_things_total counter\n"
                      "hob_test_things_total{kind=\"a\\\"b\\\\c\\nd\"} 4\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("# TYPE hob_test_level_bytes gauge\nhob_test_level_bytes 1.5\n"),
            std::string::npos)
      << text;
  for (const char* own : {"process_cpu_seconds_total ", "process_resident_memory_bytes ",
                          "process_open_fds ", "process_start_time_seconds "}) {
    EXPECT_NE(text.find(std::string("\n") + own), std::string::npos) << own;
  }
}

}  // namespace
}  // namespace hob
