#include "microvm/memory/guest_memory.h"

#include <gtest/gtest.h>

#include "microvm/testing.h"

namespace hob::microvm {
namespace {

using testing::memory_of;

TEST(GuestMemory, AccessesLieWhollyInOneRegion) {
  const std::array<GuestMemory::Region, 2> ranges = {
      {{.base = 0, .bytes = 0x10000}, {.base = 0x100000, .bytes = 0x1000}}};
  auto memory = GuestMemory::create(ranges, GuestMemory::Pages::kNormal, false);
  ASSERT_TRUE(memory);
  struct Case {
    GuestAddress address;
    uint64_t bytes;
    bool inside;
  };
  for (const Case& c : std::initializer_list<Case>{{0, 1, true},
                                                   {0, 0x10000, true},
                                                   {0, 0x10001, false},
                                                   {0xffff, 1, true},
                                                   {0xffff, 2, false},
                                                   {0x10000, 1, false},
                                                   {0x100000, 0x1000, true},
                                                   {0x100fff, 2, false},
                                                   {0, 0, false},
                                                   {UINT64_MAX, 1, false},
                                                   {0xfff0, UINT64_MAX, false},
                                                   {0x100000, UINT64_MAX - 0xfffff, false}}) {
    EXPECT_EQ(memory->contains(c.address, c.bytes), c.inside) << c.address << " " << c.bytes;
    EXPECT_EQ(memory->io_range(c.address, c.bytes).has_value(), c.inside)
        << c.address << " " << c.bytes;
  }
  EXPECT_FALSE(memory->read<uint64_t>(0xfffc));
  EXPECT_FALSE(memory->write(0xfffc, uint64_t{1}));
}

TEST(GuestMemory, ValuesComeBackAlignedOrNot) {
  GuestMemory memory = memory_of(0x1000);
  for (const GuestAddress at : {0x10u, 0x21u}) {
    EXPECT_TRUE(memory.write(at, uint64_t{0x1122334455667788}));
    EXPECT_EQ(memory.read<uint64_t>(at), 0x1122334455667788u);
    EXPECT_EQ(memory.read<uint32_t>(at), 0x55667788u);
    EXPECT_EQ(memory.read<uint16_t>(at + 1), 0x6677u);
    EXPECT_EQ(memory.read<uint8_t>(at + 7), 0x11u);
  }
}

TEST(GuestMemory, LiesWhereKvmCanMapLargePages) {
  for (int i = 0; i < 4; ++i) {
    const GuestMemory memory = memory_of(0x201000);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.regions()[0].host) % (2 << 20), 0u);
    EXPECT_EQ(memory.regions()[0].bytes, 0x201000u);
  }
}

TEST(GuestMemory, OurWritesAreMarkedDirtyOnce) {
  GuestMemory memory = memory_of(0x100000, true);
  ASSERT_EQ(memory.dirty().size(), 1u);
  EXPECT_TRUE(memory.write(0x1ffe, uint32_t{1}));  // over two pages
  memory.mark_dirty(0x46000, 0x1000);
  const std::vector<uint64_t> first = memory.dirty()[0].pages();
  memory.dirty()[0].clear();
  EXPECT_EQ(first[0], 0b110u);
  EXPECT_EQ(first[1], uint64_t{1} << 6);
  EXPECT_EQ(memory.dirty()[0].pages()[0], 0u);
}

TEST(GuestMemory, WhatIsPluggedInIsMemoryAndNothingElse) {
  constexpr uint64_t kBlock = 2 << 20;
  constexpr GuestAddress kBase = uint64_t{4} << 30;
  GuestMemory memory = testing::memory_of(0x10000);
  ASSERT_TRUE(memory.add_hot_range(kBase, 4 * kBlock, kBlock, GuestMemory::Pages::kNormal));
  EXPECT_FALSE(memory.contains(kBase, 1));
  ASSERT_TRUE(memory.plug(kBase + kBlock, 2 * kBlock));
  testing::put(memory, kBase + 2 * kBlock - 1, "ab");  // over two blocks
  EXPECT_FALSE(memory.contains(kBase + kBlock - 1, 2));
  EXPECT_FALSE(memory.contains(kBase + 3 * kBlock - 1, 2));
  EXPECT_FALSE(memory.contains(kBase + kBlock, UINT64_MAX));
  EXPECT_FALSE(memory.contains(kBase + 4 * kBlock, 1));
  EXPECT_TRUE(memory.any_plugged(kBase, 2 * kBlock));
  EXPECT_FALSE(memory.any_plugged(kBase + 3 * kBlock, kBlock));
  ASSERT_TRUE(memory.unplug(kBase + 2 * kBlock, kBlock));
  EXPECT_FALSE(memory.contains(kBase + 2 * kBlock - 1, 2));
  ASSERT_TRUE(memory.plug(kBase + 2 * kBlock, kBlock));
  EXPECT_EQ(testing::get(memory, kBase + 2 * kBlock - 1, 2), std::string("a\0", 2));
  EXPECT_EQ(memory.bytes(), 0x10000u) << "a snapshot has it not";
}

}  // namespace
}  // namespace hob::microvm
