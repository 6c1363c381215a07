#include "builder/layer.h"

#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <fstream>

#include "builder/testing_directory.h"
#include "builder/testing_source.h"

namespace hob::builder {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kFirstId = 1'000'000;

// A line for each entry: type, permissions, owner, path, what it holds or points at.
std::vector<std::string> entries_of(const fs::path& file) {
  std::vector<std::string> lines;
  struct archive* archive = archive_read_new();
  archive_read_support_filter_zstd(archive);
  archive_read_support_format_tar(archive);
  EXPECT_EQ(archive_read_open_filename(archive, file.c_str(), 65'536), ARCHIVE_OK);
  struct archive_entry* entry = nullptr;
  while (archive_read_next_header(archive, &entry) == ARCHIVE_OK) {
    const mode_t mode = archive_entry_mode(entry);
    const char type = S_ISDIR(mode) ? 'd' : S_ISLNK(mode) ? 'l' : S_ISFIFO(mode) ? 'p' : '-';
    std::string content(static_cast<size_t>(archive_entry_size(entry)), '\0');
    archive_read_data(archive, content.data(), content.size());
    std::string path = archive_entry_pathname(entry);
    while (path.ends_with('/')) path.pop_back();
    std::string line = fmt::format("{} {:o} {}:{} {}", type, mode & 07777, archive_entry_uid(entry),
                                   archive_entry_gid(entry), path);
    if (const char* link = archive_entry_hardlink(entry)) line += std::string(" = ") + link;
    if (const char* link = archive_entry_symlink(entry)) line += std::string(" -> ") + link;
    if (!content.empty()) line += " '" + content + "'";
    EXPECT_LE(archive_entry_mtime(entry), kLayerTime) << path;
    lines.push_back(line);
  }
  archive_read_free(archive);
  return lines;
}

struct Written {
  Layer layer;
  std::vector<std::string> entries;
};

Written upper_layer(const TestDirectory& place, UpperOptions options) {
  const fs::path file = place.path() / "layer.tar";
  Result<LayerWriter> writer = LayerWriter::open(file);
  EXPECT_TRUE(writer) << writer.error().message;
  const Result<void> added = add_upper(*writer, options);
  EXPECT_TRUE(added) << added.error().message;
  const Result<Layer> layer = writer->finish();
  EXPECT_TRUE(layer);
  return {*layer, entries_of(file)};
}

class UpperTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "whiteouts and owners take root";
    fs::create_directory(upper_);
  }
  void own(const fs::path& path, uint32_t id) const {
    ASSERT_EQ(::lchown(path.c_str(), kFirstId + id, kFirstId + id), 0);
  }
  void file(const std::string& name, const std::string& content, uint32_t owner = 0) const {
    place_.write("upper/" + name, content);
    own(upper_ / name, owner);
  }
  void folder(const std::string& name) const {
    fs::create_directories(upper_ / name);
    own(upper_ / name, 0);
  }
  TestDirectory place_;
  fs::path upper_ = place_.path() / "upper";
};

TEST_F(UpperTest, ItIsWhatATaskSaw) {
  folder("app");
  file("app/b", "two", 33);
  file("app/a", "one");
  ::chmod((upper_ / "app/a").c_str(), 04755);
  fs::create_symlink("../etc/passwd", upper_ / "app/link");
  own(upper_ / "app/link", 0);
  ::mkfifo((upper_ / "app/pipe").c_str(), 0600);
  own(upper_ / "app/pipe", 0);
  EXPECT_EQ(upper_layer(place_, {.directory = upper_, .first_id = kFirstId}).entries,
            (std::vector<std::string>{
                "d 755 0:0 app", "- 4755 0:0 app/a 'one'", "- 644 33:33 app/b 'two'",
                "l 777 0:0 app/link -> ../etc/passwd", "p 600 0:0 app/pipe"}));
}

TEST_F(UpperTest, WhatWasDeletedIsAWhiteout) {
  folder("app");
  ASSERT_EQ(::mknod((upper_ / "app/gone").c_str(), S_IFCHR | 0600, makedev(0, 0)), 0);
  folder("app/again");
  ASSERT_EQ(::setxattr((upper_ / "app/again").c_str(), "trusted.overlay.opaque", "y", 1, 0), 0);
  file("app/again/new", "n");
  EXPECT_EQ(upper_layer(place_, {.directory = upper_, .first_id = kFirstId}).entries,
            (std::vector<std::string>{"d 755 0:0 app", "d 755 0:0 app/again",
                                      "- 644 0:0 app/again/.wh..wh..opq",
                                      "- 644 0:0 app/again/new 'n'", "- 644 0:0 app/.wh.gone"}));
}

TEST_F(UpperTest, HardLinksAreOneFile) {
  file("b", "content");
  fs::create_hard_link(upper_ / "b", upper_ / "a");
  EXPECT_EQ(upper_layer(place_, {.directory = upper_, .first_id = kFirstId}).entries,
            (std::vector<std::string>{"- 644 0:0 a 'content'", "- 644 0:0 b = a"}));
}

TEST_F(UpperTest, WhatIsLeftOutEmptiedAndWanted) {
  for (const char* name : {"var", "var/log", "app", "app/build", "app/dist", "app/distance"}) {
    folder(name);
  }
  for (const char* name : {"var/log/x", "app/build/o", "app/dist/i", "app/distance/f", "app/m"}) {
    file(name, "-");
  }
  EXPECT_EQ(
      upper_layer(place_, {.directory = upper_,
                           .first_id = kFirstId,
                           .leave_out = {"app/build", "app/distance", "app/m"},
                           .empty_out = {"var/log"}})
          .entries,
      (std::vector<std::string>{"d 755 0:0 app", "d 755 0:0 app/dist", "- 644 0:0 app/dist/i '-'",
                                "d 755 0:0 var", "d 755 0:0 var/log"}));
  EXPECT_EQ(upper_layer(place_, {.directory = upper_, .first_id = kFirstId, .only = {"app/dist"}})
                .entries,
            (std::vector<std::string>{"d 755 0:0 app", "d 755 0:0 app/dist",
                                      "- 644 0:0 app/dist/i '-'"}));
}

TEST_F(UpperTest, WhenItWasWrittenDoesNotShow) {
  file("a", "one");
  file("b", "two");
  const Written first = upper_layer(place_, {.directory = upper_, .first_id = kFirstId});
  const timespec later[2] = {{.tv_sec = 2'000'000'000, .tv_nsec = 5}, {2'000'000'000, 5}};
  ::utimensat(AT_FDCWD, (upper_ / "b").c_str(), later, 0);
  fs::rename(upper_ / "a", upper_ / "c");  // another order on the disk
  fs::rename(upper_ / "c", upper_ / "a");
  const Written again = upper_layer(place_, {.directory = upper_, .first_id = kFirstId});
  EXPECT_EQ(first.layer.diff_id, again.layer.diff_id);
  EXPECT_EQ(first.layer.digest, again.layer.digest);
}

TEST_F(UpperTest, FoldersNestedTooDeepAreRefused) {
  std::string path = "d";
  for (int i = 0; i < 300; ++i) path += "/d";
  fs::create_directories(upper_ / path);
  Result<LayerWriter> writer = LayerWriter::open(place_.path() / "layer.tar");
  ASSERT_TRUE(writer);
  const Result<void> added = add_upper(*writer, {.directory = upper_});
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code, Code::kLimit);
}

TEST(Layer, ASourceIsPackedWithoutWhatABuildMakes) {
  const TestDirectory place;
  const TestSource source({{"package.json", "{}"},
                           {"src/main.js", "m"},
                           {"src/deep/x.js", "x"},
                           {"node_modules/express/index.js", "e"}});
  const auto packed = [&](const std::vector<std::string>& inputs) {
    const fs::path file = place.path() / "source.tar";
    Result<LayerWriter> writer = LayerWriter::open(file);
    EXPECT_TRUE(writer);
    EXPECT_TRUE(add_source(*writer, source, "app", inputs, {"node_modules/"}));
    EXPECT_TRUE(writer->finish());
    return entries_of(file);
  };
  EXPECT_EQ(packed({}), (std::vector<std::string>{
                            "d 755 0:0 app", "- 644 0:0 app/package.json '{}'", "d 755 0:0 app/src",
                            "d 755 0:0 app/src/deep", "- 644 0:0 app/src/deep/x.js 'x'",
                            "- 644 0:0 app/src/main.js 'm'"}));
  EXPECT_EQ(packed({"package.json", "src/*/*.js"}),
            (std::vector<std::string>{"d 755 0:0 app", "- 644 0:0 app/package.json '{}'",
                                      "d 755 0:0 app/src", "d 755 0:0 app/src/deep",
                                      "- 644 0:0 app/src/deep/x.js 'x'"}));
}

TEST(Layer, ASourcesFingerprintSaysWhetherItsLayerIsTheSame) {
  const auto fingerprint = [](std::map<std::string, std::string> files,
                              const std::vector<std::string>& inputs = {}) {
    const Result<std::string> made =
        source_fingerprint(TestSource(std::move(files)), "app", inputs, {"node_modules/"});
    return made ? *made : made.error().message;
  };
  const std::string plain = fingerprint({{"a", "1"}, {"b", "2"}});
  EXPECT_EQ(plain.size(), 64U);
  EXPECT_EQ(plain, fingerprint({{"a", "1"}, {"b", "2"}, {"node_modules/x", "3"}}));
  EXPECT_EQ(fingerprint({{"a", "1"}}, {"a"}), fingerprint({{"a", "1"}, {"b", "2"}}, {"a"}));
  for (const auto& other :
       std::vector<std::map<std::string, std::string>>{{{"a", "1"}},
                                                       {{"a", "1"}, {"b", "3"}},
                                                       {{"a", "1"}, {"c", "2"}},
                                                       {{"a", "12"}, {"b", ""}}}) {
    EXPECT_NE(plain, fingerprint(other));
  }
}

TEST(Layer, MoreThanALayerMayHoldIsRefused) {
  const TestDirectory place;
  Result<LayerWriter> writer = LayerWriter::open(place.path() / "layer.tar");
  ASSERT_TRUE(writer);
  const Result<void> added =
      writer->add({.path = "huge", .mode = S_IFREG | 0644, .size = kLayerBytesMax + 1});
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code, Code::kLimit);
}

}  // namespace
}  // namespace hob::builder
