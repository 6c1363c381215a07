#include "microvm/virtio/block.h"

#include <gtest/gtest.h>
#include <linux/virtio_blk.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "microvm/testing.h"

namespace hob::microvm {
namespace {

using testing::Driver;
using testing::memory_of;
MonotonicTime now{std::chrono::seconds(1000)};
constexpr uint64_t kSectors = 16;
constexpr GuestAddress kHeader = 0x5000;
constexpr GuestAddress kData = 0x6000;
constexpr GuestAddress kStatus = 0x7000;

class BlockTest : public ::testing::Test {
 protected:
  void make(BlockOptions options) {
    file_ = memfd_create("disk", MFD_CLOEXEC);
    ASSERT_EQ(ftruncate(file_, kSectors * kSectorBytes + 100), 0);  // the odd end is cut off
    auto block = Block::create(Fd(file_), std::move(options));
    ASSERT_TRUE(block);
    block_ = *std::move(block);
    ASSERT_TRUE(queue_.start(memory_, false));
    block_->activate({.memory = memory_,
                      .queues = std::span(&queue_, 1),
                      .interrupt = interrupts_,
                      .features = 0});
  }
  // The status that the device left, 0xff: none.
  uint8_t request(uint32_t type, uint64_t sector, uint32_t bytes, bool to_guest) {
    EXPECT_TRUE(memory_.write(kHeader, type) && memory_.write(kHeader + 4, uint32_t{0}) &&
                memory_.write(kHeader + 8, sector) && memory_.write(kStatus, uint8_t{0xff}));
    driver_.descriptor(0, kHeader, 16, Driver::kNext, bytes > 0 ? 1 : 2);
    const uint16_t direction = to_guest ? static_cast<uint16_t>(Driver::kWrite) : uint16_t{0};
    driver_.descriptor(1, kData, bytes, static_cast<uint16_t>(Driver::kNext | direction), 2);
    driver_.descriptor(2, kStatus, 1, Driver::kWrite);
    driver_.offer(0);
    block_->notified(0);
    return *memory_.read<uint8_t>(kStatus);
  }

  GuestMemory memory_ = memory_of(0x20000);
  Queue queue_{kQueueSizeMax};
  Driver driver_{memory_, queue_};
  testing::Interrupts interrupts_;
  std::unique_ptr<Block> block_;
  int file_ = -1;
};

TEST_F(BlockTest, WhatIsWrittenIsReadBack) {
  make({.id = "root", .flushes = true});
  testing::put(memory_, kData, std::string(1024, 'x'));
  EXPECT_EQ(request(VIRTIO_BLK_T_OUT, 3, 1024, false), VIRTIO_BLK_S_OK);
  testing::put(memory_, kData, std::string(1024, '-'));
  EXPECT_EQ(request(VIRTIO_BLK_T_IN, 3, 1024, true), VIRTIO_BLK_S_OK);
  EXPECT_EQ(testing::get(memory_, kData, 1024), std::string(1024, 'x'));
  EXPECT_EQ(driver_.used_bytes(1), 1025u);
  EXPECT_EQ(request(VIRTIO_BLK_T_FLUSH, 0, 0, false), VIRTIO_BLK_S_OK);
  EXPECT_EQ(request(VIRTIO_BLK_T_GET_ID, 0, 20, true), VIRTIO_BLK_S_OK);
  EXPECT_EQ(testing::get(memory_, kData, 5), std::string("root\0", 5));
  EXPECT_EQ(interrupts_.used, 4);
  EXPECT_EQ(block_->counts().flushes, 1u);
}

TEST_F(BlockTest, ManyRequestsAreInFlightAtATime) {
  make({.id = "root", .flushes = true, .asynchronous = true});
  if (!block_->asynchronous()) GTEST_SKIP() << "this host has no io_uring for us";
  const auto finished = [&](int requests) {
    block_->settle();
    EXPECT_EQ(driver_.used(), requests);
    return *memory_.read<uint8_t>(kStatus);
  };
  testing::put(memory_, kData, std::string(1024, 'x'));
  request(VIRTIO_BLK_T_OUT, 3, 1024, false);
  EXPECT_EQ(finished(1), VIRTIO_BLK_S_OK);
  request(VIRTIO_BLK_T_FLUSH, 0, 0, false);
  EXPECT_EQ(finished(2), VIRTIO_BLK_S_OK);
  testing::put(memory_, kData, std::string(1024, '-'));
  request(VIRTIO_BLK_T_IN, 3, 1024, true);
  EXPECT_EQ(finished(3), VIRTIO_BLK_S_OK);
  EXPECT_EQ(testing::get(memory_, kData, 1024), std::string(1024, 'x'));
  EXPECT_EQ(driver_.used_bytes(2), 1025u);
  request(VIRTIO_BLK_T_IN, kSectors, 512, true);
  EXPECT_EQ(finished(4), VIRTIO_BLK_S_IOERR);
  // The file loses its end under the guest: the ring tells of it, and only that request fails.
  ASSERT_EQ(ftruncate(file_, kSectorBytes), 0);
  request(VIRTIO_BLK_T_IN, 0, 2 * kSectorBytes, true);
  EXPECT_EQ(finished(5), VIRTIO_BLK_S_IOERR);
  request(VIRTIO_BLK_T_IN, 0, kSectorBytes, true);
  EXPECT_EQ(finished(6), VIRTIO_BLK_S_OK);
}

TEST_F(BlockTest, AResetWaitsForWhatIsInFlightAndUsesNoneOfIt) {
  make({.asynchronous = true});
  if (!block_->asynchronous()) GTEST_SKIP() << "this host has no io_uring for us";
  request(VIRTIO_BLK_T_IN, 0, 512, true);
  const uint16_t used = driver_.used();  // 1 where the kernel was as quick as that
  block_->reset();
  EXPECT_EQ(driver_.used(), used);
}

TEST_F(BlockTest, ItsLimitHoldsItBack) {
  make({.limit = {.bandwidth = TokenBucketOptions{.size = 512, .burst = 0, .refill_ms = 1000}},
        .clock = [] { return now; }});
  EXPECT_EQ(request(VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
  EXPECT_EQ(request(VIRTIO_BLK_T_IN, 0, 512, true), 0xff);
  now += std::chrono::milliseconds(1);
  block_->host_ready(0);
  EXPECT_EQ(*memory_.read<uint8_t>(kStatus), 0xff);
  now += std::chrono::milliseconds(1);
  block_->host_ready(0);
  EXPECT_EQ(*memory_.read<uint8_t>(kStatus), VIRTIO_BLK_S_OK);
  EXPECT_EQ(request(VIRTIO_BLK_T_IN, 0, 512, true), 0xff);
  block_->set_limit({.bandwidth = TokenBucketOptions{}, .operations = {}});
  block_->host_ready(0);
  EXPECT_EQ(*memory_.read<uint8_t>(kStatus), VIRTIO_BLK_S_OK);
}

TEST_F(BlockTest, AnotherFileHasItsOwnSizeAndContent) {
  make({});
  const Fd other(memfd_create("other", MFD_CLOEXEC));
  ASSERT_EQ(pwrite(other.get(), std::string(2 * kSectorBytes, 'o').data(), 2 * kSectorBytes, 0),
            2 * kSectorBytes);
  ASSERT_TRUE(block_->replace_file(Fd(dup(other.get()))));
  EXPECT_EQ(interrupts_.changed, 1);
  std::array<std::byte, 8> capacity{};
  block_->read_configuration(0, capacity);
  EXPECT_EQ(capacity[0], std::byte{2});
  EXPECT_EQ(request(VIRTIO_BLK_T_IN, 1, 512, true), VIRTIO_BLK_S_OK);
  EXPECT_EQ(testing::get(memory_, kData, 512), std::string(512, 'o'));
  EXPECT_EQ(request(VIRTIO_BLK_T_IN, 2, 512, true), VIRTIO_BLK_S_IOERR);
}

TEST_F(BlockTest, DiscardMakesHoles) {
  make({});
  testing::put(memory_, kData, std::string(8 * kSectorBytes, 'x'));
  ASSERT_EQ(request(VIRTIO_BLK_T_OUT, 8, 8 * kSectorBytes, false), VIRTIO_BLK_S_OK);
  EXPECT_TRUE(memory_.write(kData, uint64_t{8}) && memory_.write(kData + 8, uint32_t{8}) &&
              memory_.write(kData + 12, uint32_t{0}));
  EXPECT_EQ(request(VIRTIO_BLK_T_DISCARD, 0, 16, false), VIRTIO_BLK_S_OK);
  EXPECT_EQ(request(VIRTIO_BLK_T_IN, 8, 512, true), VIRTIO_BLK_S_OK);
  EXPECT_EQ(testing::get(memory_, kData, 512), std::string(512, '\0'));
}

TEST_F(BlockTest, WrongRequestsGetAnErrorAndChangeNothing) {
  make({});
  struct Case {
    const char* name;
    uint32_t type;
    uint64_t sector;
    uint32_t bytes;
    bool to_guest;
    uint8_t status;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"no whole sector", VIRTIO_BLK_T_IN, 0, 100, true, VIRTIO_BLK_S_IOERR},
           {"beyond the end", VIRTIO_BLK_T_IN, kSectors, 512, true, VIRTIO_BLK_S_IOERR},
           {"over the end", VIRTIO_BLK_T_OUT, kSectors - 1, 1024, false, VIRTIO_BLK_S_IOERR},
           {"a sector that wraps", VIRTIO_BLK_T_OUT, UINT64_MAX, 512, false, VIRTIO_BLK_S_IOERR},
           {"unknown", 77, 0, 512, true, VIRTIO_BLK_S_UNSUPP},
           {"a short id", VIRTIO_BLK_T_GET_ID, 0, 10, true, VIRTIO_BLK_S_IOERR},
           {"a discard of half a range", VIRTIO_BLK_T_DISCARD, 0, 8, false, VIRTIO_BLK_S_IOERR}}) {
    EXPECT_EQ(request(c.type, c.sector, c.bytes, c.to_guest), c.status) << c.name;
  }
  EXPECT_EQ(interrupts_.broken, 0);
  EXPECT_EQ(block_->counts().failures, 7u);
  std::string disk(kSectors * kSectorBytes, 'x');
  ASSERT_EQ(pread(file_, disk.data(), disk.size(), 0), static_cast<ssize_t>(disk.size()));
  EXPECT_EQ(disk, std::string(disk.size(), '\0'));
}

TEST_F(BlockTest, AReadOnlyDiskIsNotWritten) {
  make({.read_only = true});
  EXPECT_EQ(request(VIRTIO_BLK_T_OUT, 0, 512, false), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(request(VIRTIO_BLK_T_DISCARD, 0, 16, false), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(request(VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
}

TEST_F(BlockTest, AChainWithoutAStatusIsUsedWithNothing) {
  make({});
  driver_.descriptor(0, kHeader, 16, 0);
  driver_.offer(0);
  block_->notified(0);
  EXPECT_EQ(driver_.used(), 1);
  EXPECT_EQ(driver_.used_bytes(0), 0u);
}

TEST_F(BlockTest, ABrokenQueueAsksForAReset) {
  make({});
  driver_.offer(Driver::kSize);
  block_->notified(0);
  EXPECT_EQ(interrupts_.broken, 1);
}

}  // namespace
}  // namespace hob::microvm
