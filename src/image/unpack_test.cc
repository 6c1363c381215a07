#include "image/unpack.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <fstream>

#include "image/content_digest.h"
#include "image/testing_images.h"

namespace hob::image {
namespace {

namespace fs = std::filesystem;
using testing::gzip;
using testing::tar;
using testing::TarEntry;

class Unpack : public ::testing::Test {
 protected:
  Unpack() {
    std::string pattern = (fs::temp_directory_path() / "hob-unpack-XXXXXX").string();
    outside_ = mkdtemp(pattern.data());
    root_ = outside_ / "layer";
    fs::create_directory(root_);
    std::ofstream(outside_ / "secret") << "untouched";
  }
  ~Unpack() override { fs::remove_all(outside_); }

  Result<UnpackedLayer> unpack(const std::string& bytes, const UnpackLimits& limits = {}) {
    testing::StringSource source(bytes);
    return unpack_layer(source, root_, limits);
  }
  struct stat status(const std::string& name) {
    struct stat status{};
    EXPECT_EQ(lstat((root_ / name).c_str(), &status), 0) << name;
    return status;
  }
  std::string content(const std::string& name) {
    std::ifstream file(root_ / name);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  bool is_whiteout(const std::string& name) {
    const struct stat found = status(name);
    return S_ISCHR(found.st_mode) && found.st_rdev == makedev(0, 0);
  }
  std::string attribute(const std::string& name, const char* which) {
    char value[256];
    const ssize_t size = lgetxattr((root_ / name).c_str(), which, value, sizeof value);
    return size < 0 ? "none" : std::string(value, static_cast<size_t>(size));
  }

  fs::path outside_;
  fs::path root_;
};

TEST_F(Unpack, KeepsWhatTheArchiveSays) {
  const std::string bytes = tar({
      {.name = "./", .type = '5', .mode = 0755},
      {.name = "bin/", .type = '5', .mode = 01777, .modified = 1'600'000'000},
      {.name = "bin/su",
       .data = "code",
       .mode = 04755,
       .owner = 12,
       .group = 34,
       .modified = 1'500'000'000},
      {.name = "bin/link", .type = '2', .link = "../../../etc/passwd"},
      {.name = "bin/hard", .type = '1', .link = "bin/su"},
      {.name = "bin/pipe", .type = '6', .mode = 0600},
      {.name = "/absolute", .data = "a"},
      {.name = "x",
       .data = "1",
       .pax = {{"path", "caf\xc3\xa9/\xe2\x82\xac"},
               {"SCHILY.xattr.user.note", "hi"},
               {"SCHILY.xattr.trusted.overlay.redirect", "/etc"}}},
      {.name = "twice", .data = "first"},
      {.name = "twice", .data = "second"},
  });
  for (const std::string& packed : {bytes, gzip(bytes), testing::zstd(bytes)}) {
    const auto unpacked = unpack(packed);
    ASSERT_TRUE(unpacked) << unpacked.error().message;
    EXPECT_EQ(unpacked->diff_id, digest_of(bytes));
    EXPECT_EQ(unpacked->digest, digest_of(packed));
    EXPECT_EQ(unpacked->entries, 10u);
  }
  EXPECT_EQ(status("bin").st_mode, S_IFDIR | 01777u);
  EXPECT_EQ(status("bin").st_mtim.tv_sec, 1'600'000'000);
  EXPECT_EQ(status("bin/su").st_mode, S_IFREG | 04755u);
  EXPECT_EQ(status("bin/su").st_uid, 12u);
  EXPECT_EQ(status("bin/su").st_gid, 34u);
  EXPECT_EQ(status("bin/su").st_mtim.tv_sec, 1'500'000'000);
  EXPECT_EQ(status("bin/su").st_ino, status("bin/hard").st_ino);
  EXPECT_EQ(fs::read_symlink(root_ / "bin/link"), "../../../etc/passwd");
  EXPECT_TRUE(S_ISFIFO(status("bin/pipe").st_mode));
  EXPECT_EQ(content("absolute"), "a");
  EXPECT_EQ(content("caf\xc3\xa9/\xe2\x82\xac"), "1");
  EXPECT_EQ(attribute("caf\xc3\xa9/\xe2\x82\xac", "user.note"), "hi");
  EXPECT_EQ(attribute("caf\xc3\xa9/\xe2\x82\xac", "trusted.overlay.redirect"), "none");
  EXPECT_EQ(content("twice"), "second");
}

TEST_F(Unpack, WhiteoutsAreOverlays) {
  const auto unpacked = unpack(tar({
      {.name = "a/.wh.gone"},
      {.name = "b/.wh..wh..opq"},
      {.name = "b/new", .data = "n"},
      {.name = ".wh.c"},
      {.name = "c/", .type = '5'},  // in place of what it hides: must go on hiding it
      {.name = ".wh.d"},
      {.name = "d/below/file"},  // likewise, by a parent that is only implied
      {.name = "e/", .type = '5'},
      {.name = ".wh.e"},          // after its own directory
      {.name = ".wh..wh.plnk/"},  // AUFS's own
  }));
  ASSERT_TRUE(unpacked) << unpacked.error().message;
  EXPECT_TRUE(is_whiteout("a/gone"));
  EXPECT_EQ(attribute("b", "trusted.overlay.opaque"), "y");
  EXPECT_EQ(content("b/new"), "n");
  for (const char* name : {"c", "d", "e"})
    EXPECT_EQ(attribute(name, "trusted.overlay.opaque"), "y") << name;
  EXPECT_EQ(status("d/below/file").st_size, 0);
  EXPECT_FALSE(fs::exists(root_ / ".wh..wh.plnk"));
}

TEST_F(Unpack, SparseFilesStaySparse) {
  const std::string block(512, 'x');
  const auto unpacked = unpack(tar({{.name = "hole",
                                     .data = block,
                                     .pax = {{"GNU.sparse.major", "0"},
                                             {"GNU.sparse.minor", "1"},
                                             {"GNU.sparse.name", "hole"},
                                             {"GNU.sparse.size", "10485760"},
                                             {"GNU.sparse.numblocks", "1"},
                                             {"GNU.sparse.map", "5242880,512"}}}}));
  ASSERT_TRUE(unpacked) << unpacked.error().message;
  EXPECT_EQ(status("hole").st_size, 10'485'760);
  EXPECT_LT(status("hole").st_blocks, 100);
  EXPECT_EQ(content("hole").substr(5'242'880, 512), block);
}

TEST_F(Unpack, RefusesWhatBreaksARule) {
  struct Case {
    const char* name;
    std::string bytes;
    Code code;
    const char* says;
  };
  const std::string good = tar({{.name = "f", .data = std::string(100'000, 'x')}});
  for (const Case& c : {
           Case{"a name that climbs out", tar({{.name = "a/../../secret", .data = "evil"}}),
                Code::kCorrupt, "'..'"},
           Case{"a file through a link",
                tar({{.name = "l", .type = '2', .link = ".."}, {.name = "l/secret"}}),
                Code::kCorrupt, "symbolic link 'l'"},
           Case{"a directory through a link",
                tar({{.name = "l", .type = '2', .link = "/"}, {.name = "l/d/", .type = '5'}}),
                Code::kCorrupt, "symbolic link 'l'"},
           Case{"a hard link that climbs out",
                tar({{.name = "h", .type = '1', .link = "../secret"}}), Code::kCorrupt, "'..'"},
           Case{"a hard link through a link",
                tar({{.name = "l", .type = '2', .link = ".."},
                     {.name = "h", .type = '1', .link = "l/secret"}}),
                Code::kCorrupt, "symbolic link 'l'"},
           Case{"a hard link to nothing", tar({{.name = "h", .type = '1', .link = "none"}}),
                Code::kCorrupt, "not in this layer"},
           Case{"a hard link to a directory",
                tar({{.name = "d/", .type = '5'}, {.name = "h", .type = '1', .link = "d"}}),
                Code::kCorrupt, "no file"},
           Case{"a character device", tar({{.name = "dev/sda", .type = '3'}}), Code::kCorrupt,
                "'dev/sda': it is a device"},
           Case{"a block device", tar({{.name = "sda", .type = '4'}}), Code::kCorrupt, "device"},
           Case{"a file as a directory", tar({{.name = "f"}, {.name = "f/g"}}), Code::kCorrupt,
                "no directory"},
           Case{"a whiteout of '..'", tar({{.name = "a/.wh..."}}), Code::kCorrupt,
                "whiteout of nothing"},
           Case{"a whiteout through a link",
                tar({{.name = "l", .type = '2', .link = ".."}, {.name = "l/.wh.secret"}}),
                Code::kCorrupt, "symbolic link"},
           Case{"an opaque mark through a link",
                tar({{.name = "l", .type = '2', .link = ".."}, {.name = "l/.wh..wh..opq"}}),
                Code::kCorrupt, "symbolic link"},
           Case{"a name of 256 bytes",
                tar({{.name = "n", .pax = {{"path", std::string(256, 'n')}}}}), Code::kCorrupt,
                "too long"},
           Case{"a path of 5,000 bytes",
                tar({{.name = "n", .pax = {{"path", std::string(5'000, '/') + "n"}}}}),
                Code::kLimit, "bytes"},
           Case{"no archive", std::string(4'096, 'x'), Code::kCorrupt, "layer"},
           Case{"nothing", "", Code::kCorrupt, "layer"},
           Case{"cut off", good.substr(0, 50'000), Code::kCorrupt, "layer"},
           Case{"cut off within gzip", gzip(good).substr(0, 100), Code::kCorrupt, "layer"},
       }) {
    fs::remove_all(root_);
    fs::create_directory(root_);
    const auto unpacked = unpack(c.bytes);
    ASSERT_FALSE(unpacked) << c.name;
    EXPECT_EQ(unpacked.error().code, c.code) << c.name << ": " << unpacked.error().message;
    EXPECT_NE(unpacked.error().message.find(c.says), std::string::npos)
        << c.name << ": " << unpacked.error().message;
  }
  std::ifstream secret(outside_ / "secret");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(secret), {}), "untouched");
  EXPECT_EQ(std::distance(fs::directory_iterator(outside_), {}), 2);
}

TEST_F(Unpack, BombsAreStopped) {
  struct Case {
    const char* name;
    std::string bytes;
    UnpackLimits limits;
    const char* says;
  };
  std::vector<TarEntry> many;
  for (int i = 0; i < 1'001; ++i) many.push_back({.name = "d/", .type = '5'});
  const std::string zeros = gzip(tar({{.name = "zeros", .data = std::string(8 << 20, '\0')}}));
  for (const Case& c : {
           Case{"entries", tar(many), {.entries_max = 1'000}, "over 1000 entries"},
           Case{"bytes", zeros, {.bytes_max = 1 << 20}, "1048576"},
           Case{"ratio",
                zeros,
                {.ratio_max = 100, .ratio_free_bytes = 1 << 20},
                "more than 100 times"},
           Case{"a sparse file of an exabyte",
                tar({{.name = "h",
                      .pax = {{"GNU.sparse.major", "0"},
                              {"GNU.sparse.minor", "1"},
                              {"GNU.sparse.name", "h"},
                              {"GNU.sparse.size", "1152921504606846976"},
                              {"GNU.sparse.numblocks", "0"},
                              {"GNU.sparse.map", ""}}}}),
                {},
                "at most"},
       }) {
    const auto unpacked = unpack(c.bytes, c.limits);
    ASSERT_FALSE(unpacked) << c.name;
    EXPECT_EQ(unpacked.error().code, Code::kLimit) << c.name << ": " << unpacked.error().message;
    EXPECT_NE(unpacked.error().message.find(c.says), std::string::npos)
        << c.name << ": " << unpacked.error().message;
  }
}

TEST_F(Unpack, AMillionEntriesAreStoppedAtTheLimit) {
  // One after another from a source that makes them up, so that the test does not hold what it
  // accuses.
  class Endless final : public ByteSource {
   public:
    Result<std::string_view> read() override { return std::string_view(entry_); }

   private:
    std::string entry_ = tar({{.name = "d/", .type = '5'}}).substr(0, 512);
  };
  Endless source;
  const auto inspected = inspect_layer(source, {});
  ASSERT_FALSE(inspected);
  EXPECT_EQ(inspected.error().code, Code::kLimit);
  EXPECT_NE(inspected.error().message.find("500000 entries"), std::string::npos)
      << inspected.error().message;
}

}  // namespace
}  // namespace hob::image
