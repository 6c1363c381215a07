#include "microvm/virtio/mem.h"

#include <gtest/gtest.h>

#include "microvm/testing.h"

namespace hob::microvm {
namespace {

using testing::Driver;

constexpr GuestAddress kRequest = 0x10000;
constexpr GuestAddress kAnswer = 0x10100;
constexpr uint64_t kBlock = 2 << 20;
constexpr GuestAddress kStart = uint64_t{4} << 30;
constexpr uint64_t kTotal = 8 * kBlock;
enum : uint16_t { kPlug, kUnplug, kUnplugAll, kState };
enum : uint16_t { kAck, kNack, kBusy, kError, kNothing = 77 };

class MemTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(queue_.start(memory_, false));
    mem_.activate({.memory = memory_,
                   .queues = std::span(&queue_, 1),
                   .interrupt = interrupts_,
                   .features = 0});
  }
  // What it answers.
  uint16_t ask(uint16_t type, uint64_t block, uint16_t count, uint32_t request_bytes = 24,
               uint32_t answer_bytes = 10) {
    EXPECT_TRUE(memory_.write(kRequest, uint64_t{type}) &&
                memory_.write(kRequest + 8, kStart + block * kBlock) &&
                memory_.write(kRequest + 16, uint64_t{count}) &&
                memory_.write(kAnswer, uint16_t{kNothing}) &&
                memory_.write(kAnswer + 8, uint16_t{kNothing}));
    driver_.descriptor(0, kRequest, request_bytes, Driver::kNext, 1);
    driver_.descriptor(1, kAnswer, answer_bytes, Driver::kWrite);
    driver_.offer(0);
    mem_.notified(0);
    return *memory_.read<uint16_t>(kAnswer);
  }
  uint16_t state(uint64_t block, uint16_t count) {
    EXPECT_EQ(ask(kState, block, count), kAck);
    return *memory_.read<uint16_t>(kAnswer + 8);
  }
  GuestMemory memory_ = testing::memory_of(0x40000);
  Queue queue_{kQueueSizeMax};
  Driver driver_{memory_, queue_};
  testing::Interrupts interrupts_;
  bool host_has_it_ = true;
  std::vector<std::string> changes_;
  Mem mem_{{.start = kStart, .total = kTotal, .block = kBlock},
           [this](Mem::Change change, GuestAddress start, uint64_t bytes) {
             if (!host_has_it_) return false;
             changes_.push_back((change == Mem::Change::kPlug ? "+" : "-") +
                                std::to_string((start - kStart) / kBlock) + "," +
                                std::to_string(bytes / kBlock));
             return true;
           }};
};

TEST_F(MemTest, PlugsWhatIsAskedForAndNoMore) {
  EXPECT_EQ(ask(kPlug, 0, 1), kNack);
  mem_.request(4 * kBlock);
  EXPECT_EQ(interrupts_.changed, 1);
  EXPECT_EQ(ask(kPlug, 1, 3), kAck);
  EXPECT_EQ(ask(kPlug, 5, 2), kNack);
  EXPECT_EQ(ask(kPlug, 5, 1), kAck);
  EXPECT_EQ(ask(kPlug, 6, 1), kNack);
  EXPECT_EQ(mem_.plugged(), 4 * kBlock);
  EXPECT_EQ(changes_, (std::vector<std::string>{"+1,3", "+5,1"}));
  std::array<uint64_t, 7> shown{};
  mem_.read_configuration(0, std::as_writable_bytes(std::span(shown)));
  EXPECT_EQ(shown,
            (std::array<uint64_t, 7>{kBlock, 0, kStart, kTotal, kTotal, 4 * kBlock, 4 * kBlock}));
}

TEST_F(MemTest, TellsOfBlocksAndTakesThemAway) {
  mem_.request(kTotal);
  EXPECT_EQ(ask(kPlug, 2, 2), kAck);
  EXPECT_EQ(state(2, 2), 0);
  EXPECT_EQ(state(0, 2), 1);
  EXPECT_EQ(state(1, 2), 2);
  EXPECT_EQ(ask(kUnplug, 2, 1), kAck);
  EXPECT_EQ(state(2, 2), 2);
  EXPECT_EQ(ask(kPlug, 6, 2), kAck);
  EXPECT_EQ(ask(kUnplugAll, 0, 0), kAck);
  EXPECT_EQ(mem_.plugged(), 0u);
  EXPECT_EQ(changes_, (std::vector<std::string>{"+2,2", "-2,1", "+6,2", "-3,1", "-6,2"}));
}

TEST_F(MemTest, WhatIsNotAsTheGuestBelievesStays) {
  mem_.request(kTotal);
  EXPECT_EQ(ask(kPlug, 0, 2), kAck);
  changes_.clear();
  struct Case {
    const char* name;
    uint16_t type;
    uint64_t block;
    uint16_t count;
    uint16_t want;
  };
  for (const Case& c :
       {Case{"one is there", kPlug, 1, 2, kError}, Case{"one is not", kUnplug, 1, 2, kError},
        Case{"none", kPlug, 3, 0, kError}, Case{"over the end", kPlug, 7, 2, kError},
        Case{"far behind", kPlug, uint64_t{1} << 40, 1, kError},
        Case{"before", kPlug, static_cast<uint64_t>(-1), 1, kError},
        Case{"no such request", 4, 0, 1, kError}})
    EXPECT_EQ(ask(c.type, c.block, c.count), c.want) << c.name;
  EXPECT_EQ(ask(kPlug, 3, 1, 23), kNothing);
  EXPECT_EQ(ask(kPlug, 3, 1, 24, 9), kNothing);
  host_has_it_ = false;
  EXPECT_EQ(ask(kPlug, 3, 1), kBusy);
  EXPECT_EQ(ask(kUnplugAll, 0, 0), kBusy);
  EXPECT_TRUE(changes_.empty());
  EXPECT_EQ(mem_.plugged(), 2 * kBlock);
}

TEST_F(MemTest, ABrokenQueueAsksForAReset) {
  driver_.offer(Driver::kSize);
  mem_.notified(0);
  EXPECT_EQ(interrupts_.broken, 1);
}

}  // namespace
}  // namespace hob::microvm
