#include "microvm/virtio/balloon.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>

#include "microvm/testing.h"

namespace hob::microvm {
namespace {

using testing::Driver;
using testing::memory_of;

constexpr GuestAddress kRequest = 0x40000;
constexpr GuestAddress kGivenUp = 0x80000;
constexpr uint64_t kEverything = kFeatureVersion1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5;

MonotonicTime test_now;  // what the balloon is told

class BalloonTest : public ::testing::Test {
 protected:
  void SetUp() override { make({.interval_s = 5, .hinting = true, .reporting = true}); }
  void make(BalloonOptions options) {
    test_now = std::chrono::steady_clock::now();
    auto balloon = Balloon::create(options, [] { return test_now; });
    ASSERT_TRUE(balloon);
    balloon_ = *std::move(balloon);
    for (Queue& queue : queues_) ASSERT_TRUE(queue.start(memory_, false));
    activate();
  }
  void activate() {
    balloon_->activate({.memory = memory_,
                        .queues = queues_,
                        .interrupt = interrupts_,
                        .features = balloon_->features()});
  }
  void inflate(const std::vector<uint32_t>& pages) {
    for (size_t i = 0; i < pages.size(); ++i)
      ASSERT_TRUE(memory_.write(kRequest + 4 * i, pages[i]));
    inflate_.descriptor(0, kRequest, static_cast<uint32_t>(4 * pages.size()), 0);
    inflate_.offer(0);
    balloon_->notified(0);
  }
  void hint(uint32_t run) {
    ASSERT_TRUE(memory_.write(kRequest, run));
    hints_.descriptor(0, kRequest, 4, 0);
    hints_.offer(0);
    balloon_->notified(3);
  }
  void offer_free(Driver& driver, size_t queue) {
    testing::put(memory_, kGivenUp, "something");
    driver.descriptor(1, kGivenUp, 0x2000, Driver::kWrite);
    driver.offer(1);
    balloon_->notified(queue);
  }
  bool given_up() { return testing::get(memory_, kGivenUp, 9) == std::string(9, '\0'); }
  uint32_t configuration(uint64_t at) {
    uint32_t value = 0;
    balloon_->read_configuration(at, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }

  GuestMemory memory_ = memory_of(0x100000);
  std::vector<Queue> queues_{5, Queue(kQueueSizeMax)};
  Driver inflate_{memory_, queues_[0], 0x1000};
  Driver deflate_{memory_, queues_[1], 0x5000};
  Driver statistics_{memory_, queues_[2], 0x9000};
  Driver hints_{memory_, queues_[3], 0xd000};
  Driver reports_{memory_, queues_[4], 0x11000};
  testing::Interrupts interrupts_;
  std::unique_ptr<Balloon> balloon_;
};

TEST_F(BalloonTest, OffersWhatWasAskedForAndAQueueForEach) {
  EXPECT_EQ(balloon_->features() & ~kFeatureEventIndex, kEverything & ~uint64_t{1 << 2});
  EXPECT_EQ(balloon_->queue_sizes().size(), 5u);
  make({.target_mib = 3, .deflate_on_oom = true});
  EXPECT_EQ(balloon_->features() & ~kFeatureEventIndex, kFeatureVersion1 | 1 << 2);
  EXPECT_EQ(balloon_->queue_sizes().size(), 2u);
  EXPECT_EQ(configuration(0), 3 * 256u);
  balloon_->set_target(5);
  EXPECT_EQ(configuration(0), 5 * 256u);
  EXPECT_EQ(interrupts_.changed, 1);
}

TEST_F(BalloonTest, PagesThatTheGuestGivesUpAreTheHostsAgain) {
  testing::put(memory_, 0x80000, "first");
  testing::put(memory_, 0x81000, "second");
  testing::put(memory_, 0x90000, "kept");
  inflate({0x81, 0x80, 0xfffff, 0x80});  // in any order, twice, and outside of memory
  EXPECT_EQ(inflate_.used(), 1);
  EXPECT_EQ(testing::get(memory_, 0x80000, 5), std::string(5, '\0'));
  EXPECT_EQ(testing::get(memory_, 0x81000, 6), std::string(6, '\0'));
  EXPECT_EQ(testing::get(memory_, 0x90000, 4), "kept");
  std::array<unsigned char, 1> resident{};
  ASSERT_EQ(mincore(memory_.regions()[0].host + 0xa0000, 4096, resident.data()), 0);
  EXPECT_EQ(resident[0] & 1, 0);
  EXPECT_EQ(interrupts_.broken, 0);
  // How many it has given in all, it says in its configuration.
  const uint32_t actual = 2;
  balloon_->write_configuration(4, std::as_bytes(std::span(&actual, 1)));
  EXPECT_EQ(balloon_->actual_pages(), 2u);
}

TEST_F(BalloonTest, AListThatIsNoneBreaksTheRules) {
  inflate_.descriptor(0, kRequest, 6, 0);
  inflate_.offer(0);
  balloon_->notified(0);
  EXPECT_EQ(interrupts_.broken, 1);
}

TEST_F(BalloonTest, StatisticsAreAskedForByGivingTheBufferBack) {
  EXPECT_FALSE(balloon_->statistics()[4]);
  struct [[gnu::packed]] {
    uint16_t tag1 = 4;
    uint64_t value1 = 111;
    uint16_t tag2 = 99;  // not known: passed over
    uint64_t value2 = 1;
    uint16_t tag3 = 15;
    uint64_t value3 = 222;
  } told;
  ASSERT_TRUE(memory_.write_bytes(kRequest, std::as_bytes(std::span(&told, 1))));
  statistics_.descriptor(0, kRequest, sizeof told, 0);
  statistics_.offer(0);
  balloon_->notified(2);
  EXPECT_EQ(balloon_->statistics()[4], 111u);
  EXPECT_EQ(balloon_->statistics()[15], 222u);
  EXPECT_EQ(statistics_.used(), 0) << "kept until they are wanted again";
  balloon_->host_ready(0);
  EXPECT_EQ(statistics_.used(), 0) << "not before its time";
  balloon_->set_interval(0);
  test_now -= std::chrono::seconds(100);
  balloon_->set_interval(1);  // in the past: at once
  pollfd timer{.fd = balloon_->sources()[0].fd, .events = POLLIN, .revents = 0};
  ASSERT_EQ(poll(&timer, 1, -1), 1);
  balloon_->host_ready(0);
  EXPECT_EQ(statistics_.used(), 1);
}

TEST_F(BalloonTest, ReportedPagesAreTakenAndHintedOnesWhileTheyAreAskedFor) {
  offer_free(reports_, 4);
  EXPECT_TRUE(given_up());
  hint(7);
  offer_free(hints_, 3);
  EXPECT_FALSE(given_up()) << "nobody asked for them";
  balloon_->start_hints(true);
  const uint32_t run = configuration(8);
  EXPECT_EQ(run, balloon_->host_run());
  EXPECT_GT(run, kHintsDone);
  offer_free(hints_, 3);
  EXPECT_FALSE(given_up()) << "it has not answered yet";
  hint(run);
  offer_free(hints_, 3);
  EXPECT_TRUE(given_up());
  hint(kHintsStopped);
  EXPECT_EQ(configuration(8), kHintsDone) << "acknowledged: the pages are the guest's again";
  EXPECT_EQ(balloon_->guest_run(), kHintsStopped);
  balloon_->start_hints(false);
  EXPECT_NE(balloon_->host_run(), run);
}

TEST_F(BalloonTest, ASnapshotKeepsItsSizeAndGivesTheStatisticsBufferBack) {
  balloon_->set_target(1);
  statistics_.descriptor(0, kRequest, 10, 0);
  statistics_.offer(0);
  balloon_->notified(2);
  const auto state = balloon_->save();
  ASSERT_TRUE(state);
  EXPECT_EQ(queues_[2].save().next_available, 0) << "offered still";
  auto restored = Balloon::create({.interval_s = 5});
  ASSERT_TRUE(restored);
  ASSERT_TRUE((*restored)->restore(*state));
  EXPECT_EQ((*restored)->target_pages(), 256u);
  EXPECT_FALSE((*restored)->restore("x"));
}

}  // namespace
}  // namespace hob::microvm
