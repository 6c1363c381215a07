#include "builder/build_store.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "builder/testing_directory.h"

namespace hob::builder {
namespace {

namespace fs = std::filesystem;

class BuildStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "layers are unpacked by root";
  }
  BuildStore open() const {
    Result<BuildStore> store = BuildStore::open(directory_);
    EXPECT_TRUE(store) << store.error().message;
    return std::move(*store);
  }
  // A layer of one file, in `file`.
  static Layer make(const fs::path& file, const std::string& content) {
    Result<LayerWriter> writer = LayerWriter::open(file);
    EXPECT_TRUE(writer);
    EXPECT_TRUE(writer->add({.path = "file", .mode = S_IFREG | 0644, .size = content.size()}));
    EXPECT_TRUE(writer->write(content));
    return *writer->finish();
  }
  size_t count(const char* what) const {
    return static_cast<size_t>(
        std::distance(fs::directory_iterator(directory_ / what), fs::directory_iterator()));
  }
  TestDirectory place_;
  fs::path directory_ = place_.path() / "store";
};

TEST_F(BuildStoreTest, AKeyLeadsToItsLayer) {
  const BuildStore store = open();
  EXPECT_FALSE(store.find("key"));
  const Layer layer = make(store.temporary("one.tar"), "one");
  ASSERT_TRUE(store.put("key", layer, store.temporary("one.tar")));
  const std::optional<Layer> found = store.find("key");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->diff_id, layer.diff_id);
  EXPECT_TRUE(fs::exists(store.tree(*found) / "file"));
  EXPECT_EQ(fs::file_size(store.blob(*found)), layer.size);
  EXPECT_FALSE(store.find("another key"));
}

TEST_F(BuildStoreTest, TheSameLayerOfTwoKeysIsThereOnce) {
  const BuildStore store = open();
  for (const char* key : {"first", "second"}) {
    const Layer layer = make(store.temporary("same.tar"), "same");
    ASSERT_TRUE(store.put(key, layer, store.temporary("same.tar")));
  }
  EXPECT_EQ(count("trees"), 1U);
  EXPECT_EQ(count("blobs"), 1U);
  EXPECT_EQ(count("tmp"), 0U);
}

TEST_F(BuildStoreTest, WhatIsNotWholeIsNotFound) {
  const BuildStore store = open();
  const Layer layer = make(store.temporary("one.tar"), "one");
  ASSERT_TRUE(store.put("key", layer, store.temporary("one.tar")));
  fs::remove(store.blob(layer));
  EXPECT_FALSE(store.find("key"));
  const Layer again = make(store.temporary("one.tar"), "one");
  ASSERT_TRUE(store.put("key", again, store.temporary("one.tar")));
  EXPECT_TRUE(store.find("key"));
  fs::remove_all(store.tree(layer));
  EXPECT_FALSE(store.find("key"));
}

TEST_F(BuildStoreTest, ALayerThatIsNotWhatItsDigestSaysIsRefused) {
  const BuildStore store = open();
  Layer layer = make(store.temporary("one.tar"), "one");
  layer.diff_id = "sha256:" + std::string(64, '0');
  const Result<void> put = store.put("key", layer, store.temporary("one.tar"));
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().code, Code::kCorrupt);
  EXPECT_FALSE(store.find("key"));
}

TEST_F(BuildStoreTest, WhatAPowerCutSpoiledIsMendedOrGone) {
  Layer layer;
  {
    const BuildStore store = open();
    layer = make(store.temporary("one.tar"), "one");
    ASSERT_TRUE(store.put("key", layer, store.temporary("one.tar")));
    fs::resize_file(store.tree(layer) / "file", 0);
  }
  {
    const BuildStore same = open();
    ASSERT_TRUE(same.find("key"));
    EXPECT_EQ(fs::file_size(same.tree(layer) / "file"), 0U) << "not looked at again in this run";
  }
  {
    const Result<BuildStore> next = BuildStore::open(directory_, {.boot = "the next run"});
    ASSERT_TRUE(next && next->find("key"));
    EXPECT_EQ(fs::file_size(next->tree(layer) / "file"), 3U);
    fs::resize_file(next->blob(layer), 10);
  }
  const Result<BuildStore> last = BuildStore::open(directory_, {.boot = "the one after"});
  ASSERT_TRUE(last);
  EXPECT_FALSE(last->find("key")) << "its compressed file is what is pushed";
  EXPECT_EQ(count("tmp"), 0U);
}

TEST_F(BuildStoreTest, WhatWasNotAskedForLongestGoes) {
  const auto older = [&] {
    for (const auto& key : fs::directory_iterator(directory_ / "keys")) {
      fs::last_write_time(key, key.last_write_time() - std::chrono::seconds(100));
    }
  };
  {
    const BuildStore store = open();
    for (const char* name : {"a", "b", "c"}) {
      const fs::path file = store.temporary("one.tar");
      const Layer layer = make(file, std::string(100'000, *name));
      ASSERT_TRUE(store.put(name, layer, file));
      older();
    }
    ASSERT_TRUE(store.find("a"));
    place_.write("store/trees/nobodys/file", "");
    ASSERT_TRUE(BuildStore::open(directory_, {.bytes_max = 1})) << "while another has it open";
    EXPECT_EQ(count("keys"), 3U) << "nothing goes";
  }
  const Result<BuildStore> store = BuildStore::open(directory_, {.bytes_max = 250'000});
  ASSERT_TRUE(store);
  EXPECT_TRUE(store->find("a"));
  EXPECT_FALSE(store->find("b"));
  EXPECT_TRUE(store->find("c"));
  EXPECT_EQ(count("trees"), 2U);
  EXPECT_EQ(count("blobs"), 2U);
  EXPECT_EQ(count("tmp"), 0U);
}

TEST_F(BuildStoreTest, WhatNoKeyLeadsToGoesNowAndThen) {
  {
    const BuildStore store = open();
    for (const char* content : {"old", "new"}) {
      const Layer layer = make(store.temporary("one.tar"), content);
      ASSERT_TRUE(store.put("key", layer, store.temporary("one.tar")));
    }
  }
  ASSERT_TRUE(BuildStore::open(directory_));
  EXPECT_EQ(count("trees"), 2U) << "that was a moment ago";
  ASSERT_TRUE(BuildStore::open(directory_, {.prune_every = Duration(0)}));
  EXPECT_EQ(count("trees"), 1U);
  EXPECT_TRUE(open().find("key"));
}

// Killed at any instant: each key is there whole, or not at all, and the next open() clears the
// rest.
TEST_F(BuildStoreTest, KilledBetweenStepsNothingIsHalf) {
  for (int round = 0; round < 8; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      Result<BuildStore> store = BuildStore::open(directory_);
      for (int i = 0;; ++i) {
        const std::string name = std::to_string(round) + "-" + std::to_string(i);
        const fs::path file = store->temporary("one.tar");
        const Layer layer = make(file, std::string(1 << 20, 'x') + name);
        if (!store->put(name, layer, file)) ::_exit(1);
        if (i == 2 + round % 3) ::raise(SIGKILL);  // between two of them…
        if (i == 1) {                              // …or somewhere in one
          const pid_t killed = ::getpid();
          if (::fork() == 0) {
            ::usleep(static_cast<useconds_t>(500 * round));
            ::kill(killed, SIGKILL);
            ::_exit(0);
          }
        }
      }
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    const BuildStore store = open();
    EXPECT_EQ(count("tmp"), 0U);
    for (int i = 0; i < 8; ++i) {
      const std::optional<Layer> found =
          store.find(std::to_string(round) + "-" + std::to_string(i));
      EXPECT_TRUE(found || i > 1) << "what was put is there";
      if (!found) continue;
      EXPECT_GT(fs::file_size(store.tree(*found) / "file"), 1U << 20);
      EXPECT_EQ(fs::file_size(store.blob(*found)), found->size);
    }
  }
}

}  // namespace
}  // namespace hob::builder
