#include "microvm/virtio/entropy.h"

#include <gtest/gtest.h>

#include "microvm/testing.h"

namespace hob::microvm {
namespace {

using namespace std::chrono_literals;
using testing::Driver;

MonotonicTime now{1000s};
constexpr GuestAddress kBuffer = 0x10000;

class EntropyTest : public ::testing::Test {
 protected:
  void make(RateLimiterOptions limit) {
    auto entropy = Entropy::create({.limit = limit, .clock = [] { return now; }});
    ASSERT_TRUE(entropy);
    entropy_ = *std::move(entropy);
    ASSERT_TRUE(queue_.start(memory_, false));
    entropy_->activate({.memory = memory_,
                        .queues = std::span(&queue_, 1),
                        .interrupt = interrupts_,
                        .features = 0});
  }
  void ask(uint32_t bytes) {
    driver_.descriptor(0, kBuffer, bytes, Driver::kWrite);
    driver_.offer(0);
    entropy_->notified(0);
  }
  GuestMemory memory_ = testing::memory_of(0x40000);
  Queue queue_{kQueueSizeMax};
  Driver driver_{memory_, queue_};
  testing::Interrupts interrupts_;
  std::unique_ptr<Entropy> entropy_;
};

TEST_F(EntropyTest, FillsWhatItIsGivenAndNoMore) {
  make({});
  ask(64);
  ASSERT_EQ(driver_.used(), 1);
  EXPECT_EQ(driver_.used_bytes(0), 64u);
  const std::string first = testing::get(memory_, kBuffer, 64);
  EXPECT_NE(first, std::string(64, '\0'));
  EXPECT_EQ(testing::get(memory_, kBuffer + 64, 64), std::string(64, '\0'));
  ask(64);
  EXPECT_NE(testing::get(memory_, kBuffer, 64), first);
  EXPECT_EQ(interrupts_.used, 2);
}

TEST_F(EntropyTest, ALargeRequestGetsAPart) {
  make({});
  ask(2 * kEntropyBytesMax);
  EXPECT_EQ(driver_.used_bytes(0), kEntropyBytesMax);
}

TEST_F(EntropyTest, ARequestThatIsToBeReadGetsNothing) {
  make({});
  driver_.descriptor(0, kBuffer, 64, 0);
  driver_.offer(0);
  entropy_->notified(0);
  EXPECT_EQ(driver_.used_bytes(0), 0u);
  EXPECT_EQ(entropy_->counts().failures, 1u);
}

TEST_F(EntropyTest, ItsLimitHoldsItBack) {
  make({.bandwidth = TokenBucketOptions{.size = 64, .burst = 0, .refill_ms = 640}});
  ask(64);
  ask(64);
  EXPECT_EQ(driver_.used(), 1);
  now += 9ms;
  entropy_->host_ready(0);
  EXPECT_EQ(driver_.used(), 1);
  now += 1ms;
  entropy_->host_ready(0);
  EXPECT_EQ(driver_.used(), 2);
}

TEST_F(EntropyTest, ASnapshotKeepsWhatIsOwed) {
  const RateLimiterOptions limit{.bandwidth =
                                     TokenBucketOptions{.size = 64, .burst = 0, .refill_ms = 640}};
  make(limit);
  ask(64);
  const auto state = entropy_->save();
  ASSERT_TRUE(state);
  auto restored = Entropy::create({.limit = limit, .clock = [] { return now; }});
  ASSERT_TRUE(restored && (*restored)->restore(*state));
  EXPECT_FALSE((*restored)->restore("x"));
  entropy_ = *std::move(restored);
  entropy_->activate({.memory = memory_,
                      .queues = std::span(&queue_, 1),
                      .interrupt = interrupts_,
                      .features = 0});
  ask(64);
  EXPECT_EQ(driver_.used(), 1);
  now += 10ms;
  entropy_->host_ready(0);
  EXPECT_EQ(driver_.used(), 2);
}

TEST_F(EntropyTest, ABrokenQueueAsksForAReset) {
  make({});
  driver_.offer(Driver::kSize);
  entropy_->notified(0);
  EXPECT_EQ(interrupts_.broken, 1);
}

}  // namespace
}  // namespace hob::microvm
