#include "cli/archive_image.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "base/digest.h"

namespace hob::cli {
namespace {

struct TarFile {
  std::string name{};
  std::string content{};
  char type = '0';
  std::string link{};
};

std::string octal(uint64_t value, int width) {
  return fmt::format("{:0{}o}", value, width - 1) + '\0';
}

std::string make_tar(const std::vector<TarFile>& files) {
  std::string out;
  for (const TarFile& file : files) {
    std::string block(512, '\0');
    block.replace(0, file.name.size(), file.name);
    block.replace(100, 8, octal(0644, 8));
    block.replace(124, 12, octal(file.content.size(), 12));
    block.replace(136, 12, octal(0, 12));
    block.replace(148, 8, "        ");
    block[156] = file.type;
    block.replace(157, file.link.size(), file.link);
    block.replace(257, 8,
                  std::string("ustar\0"
                              "00",
                              8));
    unsigned sum = 0;
    for (const char c : block) sum += static_cast<unsigned char>(c);
    block.replace(148, 8, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
    out += block + file.content;
    out.append((512 - file.content.size() % 512) % 512, '\0');
  }
  return out + std::string(1024, '\0');
}

std::string digest_of(const std::string& text) { return "sha256:" + hex(sha256(text)); }
std::string blob_path(const std::string& text) { return "blobs/sha256/" + hex(sha256(text)); }

class ArchiveImageTest : public testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/hob-archive-XXXXXX";
    ASSERT_NE(mkdtemp(path), nullptr);
    directory_ = path;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path write(const std::string& name, const std::string& content) {
    const std::filesystem::path path = directory_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  Result<ArchiveImage> open_tar(const std::vector<TarFile>& files) {
    return open_archive_image(write("image.tar", make_tar(files)));
  }

  std::filesystem::path directory_;
  const std::string config_ = R"({"architecture":"amd64","os":"linux"})";
  const std::string layer_ = "layer bytes";
  const std::string manifest_ = fmt::format(
      R"({{"schemaVersion":2,"config":{{"digest":"{}","size":{}}},"layers":[{{"digest":"{}","size":{}}}]}})",
      digest_of(config_), config_.size(), digest_of(layer_), layer_.size());
  std::string index_of(const std::string& digest, const std::string& more = "") {
    return fmt::format(
        R"({{"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}"{}}}]}})",
        digest, more);
  }
  std::vector<TarFile> layout(const std::string& index) {
    return {{"oci-layout", "{}"},
            {"./index.json", index},
            {blob_path(manifest_), manifest_},
            {blob_path(config_), config_},
            {blob_path(layer_), layer_}};
  }
};

TEST_F(ArchiveImageTest, ReadsAnOciArchive) {
  const Result<ArchiveImage> image = open_tar(layout(index_of(
      digest_of(manifest_), R"(,"annotations":{"org.opencontainers.image.ref.name":"app:1"})")));
  ASSERT_TRUE(image.has_value()) << image.error().message;
  EXPECT_EQ(image->name, "app:1");
  EXPECT_EQ(image->digest, digest_of(manifest_));
  EXPECT_EQ(image->manifest, manifest_);
  ASSERT_EQ(image->blobs.size(), 2U);
  EXPECT_EQ(*image->blobs[1].read(0, 100), layer_);
  EXPECT_EQ(*image->blobs[1].read(6, 3), "byt");
  EXPECT_EQ(*image->blobs[1].read(100, 3), "");
}

TEST_F(ArchiveImageTest, TakesWhatRefersToTheImageAlong) {
  const auto referrer = [&](const std::string& subject) {
    return fmt::format(
        R"({{"config":{{"digest":"{}","size":2}},"layers":[],"subject":{{"digest":"{}"}}}})",
        digest_of("{}"), subject);
  };
  const std::string ours = referrer(digest_of(manifest_));
  const std::string others = referrer(digest_of("another"));
  std::string index = R"({"manifests":[)";
  for (const std::string& digest :
       {digest_of(manifest_), digest_of(ours), digest_of(others), digest_of("is not here")}) {
    index += fmt::format(
        R"({{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}"}},)", digest);
  }
  index.back() = ']';
  std::vector<TarFile> files = layout(index + "}");
  for (const std::string& text : {ours, others, std::string("{}")}) {
    files.push_back({blob_path(text), text});
  }
  const Result<ArchiveImage> image = open_tar(files);
  ASSERT_TRUE(image.has_value()) << image.error().message;
  EXPECT_EQ(image->digest, digest_of(manifest_));
  ASSERT_EQ(image->referrers.size(), 1U);
  EXPECT_EQ(image->referrers[0].manifest, ours);
  EXPECT_EQ(image->referrers[0].digest, digest_of(ours));
  ASSERT_EQ(image->referrers[0].blobs.size(), 1U);
  EXPECT_EQ(*image->referrers[0].blobs[0].read(0, 9), "{}");
}

TEST_F(ArchiveImageTest, ReadsAnOciLayout) {
  for (const TarFile& file : layout(index_of(digest_of(manifest_))))
    write("layout/" + file.name, file.content);
  const Result<ArchiveImage> image = open_archive_image(directory_ / "layout");
  ASSERT_TRUE(image.has_value()) << image.error().message;
  EXPECT_EQ(*image->blobs[0].read(0, 100), config_);
}

TEST_F(ArchiveImageTest, ReadsADockerArchiveWithALinkedLayer) {
  const Result<ArchiveImage> image = open_tar(
      {{"abc.json", config_},
       {"one/layer.tar", layer_},
       {"two/layer.tar", "", '2', "../one/layer.tar"},
       {"manifest.json",
        R"([{"Config":"abc.json","RepoTags":["shop:2"],"Layers":["one/layer.tar","two/layer.tar"]}])"}});
  ASSERT_TRUE(image.has_value()) << image.error().message;
  EXPECT_EQ(image->name, "shop:2");
  ASSERT_EQ(image->blobs.size(), 3U);
  EXPECT_EQ(image->blobs[2].digest, digest_of(layer_));
  EXPECT_EQ(image->digest, digest_of(image->manifest));
}

TEST_F(ArchiveImageTest, RefusesWhatIsNoImage) {
  EXPECT_EQ(open_archive_image(directory_ / "nothing").error().code, Code::kNotFound);
  EXPECT_NE(open_archive_image(write("a", "\x1f\x8b rest of it")).error().message.find("gunzip"),
            std::string::npos);
  EXPECT_EQ(open_archive_image(write("b", std::string(2000, 'x'))).error().code, Code::kInvalid);
  EXPECT_EQ(open_archive_image(write("c", "short")).error().code, Code::kInvalid);
  EXPECT_EQ(open_tar({{"file", "content"}}).error().code, Code::kInvalid);
  EXPECT_EQ(open_tar({{"manifest.json", "[]"}}).error().code, Code::kInvalid);
  EXPECT_EQ(open_tar({{"index.json", "not JSON"}}).error().code, Code::kCorrupt);
  EXPECT_EQ(open_tar({{"index.json", R"({"manifests":[]})"}}).error().code, Code::kInvalid);
  EXPECT_EQ(open_tar(layout(index_of("sha256:../../etc/passwd"))).error().code, Code::kInvalid);
}

TEST_F(ArchiveImageTest, RefusesAManifestWithAnotherDigest) {
  std::vector<TarFile> files = layout(index_of(digest_of(manifest_)));
  files[2].content[0] = ' ';
  EXPECT_EQ(open_tar(files).error().code, Code::kCorrupt);
}

TEST_F(ArchiveImageTest, RefusesAnArchiveThatIsCutOff) {
  const std::string whole = make_tar(layout(index_of(digest_of(manifest_))));
  const Result<ArchiveImage> image =
      open_archive_image(write("cut", whole.substr(0, whole.size() - 1024 - 300)));
  EXPECT_EQ(image.error().code, Code::kInvalid);
}

TEST_F(ArchiveImageTest, RefusesAnotherMachinesImage) {
  const Result<ArchiveImage> image = open_tar(layout(
      index_of(digest_of(manifest_), R"(,"platform":{"os":"linux","architecture":"s390x"})")));
  EXPECT_NE(image.error().message.find("linux/amd64"), std::string::npos);
}

TEST(TarNumber, ReadsOctalAndBinary) {
  EXPECT_EQ(*tar_number("0000644\0"), 0644U);
  EXPECT_EQ(*tar_number("   17 "), 017U);
  EXPECT_EQ(*tar_number(std::string("\x80\0\0\0\0\0\0\0\0\0\x01\x02", 12)), 0x102U);
  EXPECT_FALSE(tar_number("00x").has_value());
  EXPECT_FALSE(
      tar_number(std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12)).has_value());
}

}  // namespace
}  // namespace hob::cli
