#include "microvm/virtio/queue.h"

#include <gtest/gtest.h>

#include "microvm/testing.h"

namespace hob::microvm {
namespace {

using testing::Driver;
using testing::memory_of;
constexpr uint64_t kMemory = 0x10000;

struct Fixture {
  GuestMemory memory = memory_of(kMemory);
  Queue queue{kQueueSizeMax};
  Driver driver{memory, queue};
  Chain chain;
};

TEST(Queue, StartsOnlyWhereItsRingsLieInMemory) {
  GuestMemory memory = memory_of(kMemory);
  struct Case {
    const char* name;
    Queue::Layout layout;
    bool starts;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"sound", {8, 0x1000, 0x2000, 0x3000}, true},
           {"no size", {0, 0x1000, 0x2000, 0x3000}, false},
           {"no power of two", {6, 0x1000, 0x2000, 0x3000}, false},
           {"too large", {512, 0x1000, 0x2000, 0x3000}, false},
           {"descriptors not aligned", {8, 0x1008, 0x2000, 0x3000}, false},
           {"available not aligned", {8, 0x1000, 0x2001, 0x3000}, false},
           {"used not aligned", {8, 0x1000, 0x2000, 0x3002}, false},
           {"descriptors over the end", {8, kMemory - 0x70, 0x2000, 0x3000}, false},
           {"available over the end", {8, 0x1000, kMemory - 20, 0x3000}, false},
           {"used over the end", {8, 0x1000, 0x2000, kMemory - 64}, false},
           {"address wraps", {8, 0xfffffffffffffff0, 0x2000, 0x3000}, false}}) {
    Queue queue(kQueueSizeMax);
    queue.layout() = c.layout;
    EXPECT_EQ(queue.start(memory, false), c.starts) << c.name;
  }
}

TEST(Queue, AChainIsReadWhole) {
  Fixture f;
  ASSERT_TRUE(f.queue.start(f.memory, false));
  EXPECT_EQ(f.queue.pop(f.memory, f.chain), Queue::Popped::kEmpty);
  f.driver.descriptor(3, 0x5000, 16, Driver::kNext, 5);
  f.driver.descriptor(5, 0x6000, 512, Driver::kNext | Driver::kWrite, 1);
  f.driver.descriptor(1, 0x7000, 1, Driver::kWrite);
  f.driver.offer(3);
  ASSERT_EQ(f.queue.pop(f.memory, f.chain), Queue::Popped::kChain);
  EXPECT_EQ(f.chain.head, 3);
  EXPECT_EQ(f.chain.readable_bytes, 16u);
  EXPECT_EQ(f.chain.writable_bytes, 513u);
  EXPECT_EQ(f.chain.writable.size(), 2u);
  EXPECT_TRUE(f.queue.push_used(f.memory, f.chain.head, 513));
  EXPECT_EQ(f.driver.used(), 1);
  EXPECT_EQ(f.driver.used_bytes(0), 513u);
  EXPECT_TRUE(f.queue.wants_interrupt(f.memory));
  EXPECT_FALSE(f.queue.wants_interrupt(f.memory));
}

TEST(Queue, WhatBreaksTheRulesBreaksTheQueueForGood) {
  struct Case {
    const char* name;
    std::function<void(Driver&)> set_up;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"head beyond the table", [](Driver& d) { d.offer(Driver::kSize); }},
           {"a circle",
            [](Driver& d) {
              d.descriptor(0, 0x5000, 1, Driver::kNext, 1);
              d.descriptor(1, 0x5000, 1, Driver::kNext, 0);
              d.offer(0);
            }},
           {"next beyond the table",
            [](Driver& d) {
              d.descriptor(0, 0x5000, 1, Driver::kNext, 99);
              d.offer(0);
            }},
           {"memory that is none",
            [](Driver& d) {
              d.descriptor(0, kMemory - 1, 2, 0);
              d.offer(0);
            }},
           {"an address that wraps",
            [](Driver& d) {
              d.descriptor(0, 0xffffffffffffffff, 2, 0);
              d.offer(0);
            }},
           {"to be read behind to be written",
            [](Driver& d) {
              d.descriptor(0, 0x5000, 1, Driver::kNext | Driver::kWrite, 1);
              d.descriptor(1, 0x5000, 1, 0);
              d.offer(0);
            }},
           {"indirect, which was not offered",
            [](Driver& d) {
              d.descriptor(0, 0x5000, 16, 4);
              d.offer(0);
            }},
           {"more than the queue holds", [](Driver& d) { d.set_available(Driver::kSize + 1); }},
           {"an index that went back", [](Driver& d) { d.set_available(0xffff); }}}) {
    Fixture f;
    ASSERT_TRUE(f.queue.start(f.memory, false));
    c.set_up(f.driver);
    EXPECT_EQ(f.queue.pop(f.memory, f.chain), Queue::Popped::kBroken) << c.name;
    f.driver.set_available(0);
    EXPECT_EQ(f.queue.pop(f.memory, f.chain), Queue::Popped::kBroken) << c.name;
    EXPECT_FALSE(f.queue.push_used(f.memory, 0, 0)) << c.name;
  }
}

TEST(Queue, InterruptsAtTheDriversIndexAlone) {
  Fixture f;
  ASSERT_TRUE(f.queue.start(f.memory, true));
  f.driver.descriptor(0, 0x5000, 1, 0);
  f.driver.set_used_event(1);  // after the second
  for (const bool wanted : {false, true, false}) {
    f.driver.offer(0);
    ASSERT_EQ(f.queue.pop(f.memory, f.chain), Queue::Popped::kChain);
    ASSERT_TRUE(f.queue.push_used(f.memory, 0, 0));
    EXPECT_EQ(f.queue.wants_interrupt(f.memory), wanted);
  }
}

}  // namespace
}  // namespace hob::microvm
