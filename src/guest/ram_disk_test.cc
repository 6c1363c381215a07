#include "guest/ram_disk.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <fstream>

#include "base/file.h"

namespace hob::guest {
namespace {

namespace fs = std::filesystem;

class RamDiskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/hob-ram-disk-test-XXXXXX";
    folder_ = ::mkdtemp(name);
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(folder_)); }
  void module(const std::string& name, const std::string& depends) {
    fs::create_directories(folder_ / "kernel/drivers");
    std::ofstream(folder_ / "kernel/drivers" / (name + ".ko"))
        << "ELF" << '\0' << "license=GPL" << '\0' << "depends=" << depends << '\0' << "name=x";
  }
  fs::path folder_;
};

TEST_F(RamDiskTest, ModulesComeAfterWhatTheyDependOn) {
  for (const char* name : {"virtio_mmio", "virtio_blk", "vmw_vsock_virtio_transport", "overlay"})
    module(name, "virtio_ring,virtio");
  module("virtio", "virtio_ring");
  module("virtio_ring", "");
  module("virtio_net", "net_failover");
  module("net-failover", "");
  EXPECT_FALSE(modules_in_order(folder_)) << "erofs is missing";
  module("erofs", "libcrc32c");
  module("libcrc32c", "");
  const auto order = modules_in_order(folder_);
  ASSERT_TRUE(order) << order.error().message;
  std::vector<std::string> names;
  for (const fs::path& path : *order) names.push_back(path.stem());
  EXPECT_EQ(names,
            (std::vector<std::string>{"virtio_ring", "virtio", "virtio_mmio", "virtio_blk",
                                      "net-failover", "virtio_net", "vmw_vsock_virtio_transport",
                                      "libcrc32c", "erofs", "overlay"}));
  module("libcrc32c", "erofs");
  EXPECT_FALSE(modules_in_order(folder_)) << "a circle";
}

TEST_F(RamDiskTest, CpioReadsWhatWasWritten) {
  std::ofstream(folder_ / "archive")
      << ram_disk({{.path = "modules", .mode = S_IFDIR | 0755},
                   {.path = "modules/a", .mode = S_IFREG | 0600, .content = "odd"},
                   {.path = "init", .mode = S_IFREG | 0755, .content = std::string(1000, 'x')}});
  const std::string command = "cd " + folder_.string() +
                              " && mkdir out && cd out && cpio -id --quiet < ../archive && "
                              "test -x init && test \"$(cat modules/a)\" = odd && "
                              "test $(stat -c %s init) = 1000";
  EXPECT_EQ(std::system(command.c_str()), 0);
}

}  // namespace
}  // namespace hob::guest
