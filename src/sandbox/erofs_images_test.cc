#include "sandbox/erofs_images.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <optional>

#include "base/file.h"

namespace hob::sandbox {
namespace {

namespace fs = std::filesystem;

class ErofsImagesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    char name[] = "/tmp/hob-erofs-test-XXXXXX";
    folder_ = ::mkdtemp(name);
    ASSERT_TRUE(images().open());
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(folder_)); }
  ErofsImages& images() {
    if (!images_) images_.emplace(folder_ / "images");
    return *images_;
  }
  fs::path layer(const std::string& name) {
    const fs::path path = folder_ / name;
    fs::create_directories(path);
    std::ofstream(path / "which") << name;
    return path;
  }
  static ino_t inode(const fs::path& path) {
    struct stat info {};
    return ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
  }
  size_t files() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_ / "images"), {}));
  }

  fs::path folder_;
  std::optional<ErofsImages> images_;
};

TEST_F(ErofsImagesTest, AnImageIsMadeOnce) {
  const std::vector<fs::path> layers = {layer("top"), layer("bottom")};
  const auto first = images().image_of(layers);
  ASSERT_TRUE(first) << first.error().message;
  std::ifstream file(*first, std::ios::binary);
  file.seekg(1024);
  unsigned char magic[4]{};
  file.read(reinterpret_cast<char*>(magic), 4);
  EXPECT_EQ(magic[0] | magic[1] << 8 | magic[2] << 16 | unsigned{magic[3]} << 24, 0xe0f5e1e2u);
  const ino_t made = inode(*first);
  EXPECT_EQ(inode(*images().image_of(layers)), made);
  images_.reset();
  ASSERT_TRUE(images().open());
  EXPECT_EQ(inode(*images().image_of(layers)), made) << "kept over a restart";
  EXPECT_NE(images().image_of({layers[1], layers[0]}).value(), *first) << "another order";
  EXPECT_NE(images().image_of({layers[1]}).value(), *first);
  EXPECT_EQ(files(), 6u);
}

TEST_F(ErofsImagesTest, WhatLostALayerOrIsHalfMadeIsRemoved) {
  const fs::path gone = layer("gone");
  ASSERT_TRUE(images().image_of({gone}));
  std::ofstream(folder_ / "images/x.new") << "half";
  fs::remove_all(gone);
  ASSERT_TRUE(images().open());
  EXPECT_EQ(files(), 0u);
}

TEST_F(ErofsImagesTest, ManyLayersWithLongNames) {
  std::vector<fs::path> layers;
  for (int i = 0; i < 127; ++i)
    layers.push_back(
        layer("a-layer-with-a-rather-long-name-that-fills-a-page-" + std::to_string(i)));
  EXPECT_TRUE(images().image_of(layers));
  layers.push_back(layer("one-more"));
  EXPECT_EQ(images().image_of(layers).error().message, "an image of 128 layers; it has 1 to 127");
  EXPECT_EQ(images().image_of({}).error().code, Code::kInvalid);
}

}  // namespace
}  // namespace hob::sandbox
