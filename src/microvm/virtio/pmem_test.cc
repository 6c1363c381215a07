#include "microvm/virtio/pmem.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "microvm/testing.h"

namespace hob::microvm {
namespace {

using namespace std::chrono_literals;
using testing::Driver;

MonotonicTime now{1000s};
constexpr GuestAddress kRequest = 0x10000;
constexpr GuestAddress kAnswer = 0x10100;
constexpr uint64_t kFileBytes = 5000;

Fd file_of(uint64_t bytes) {
  Fd file(memfd_create("pmem", MFD_CLOEXEC));
  EXPECT_EQ(ftruncate(file.get(), static_cast<off_t>(bytes)), 0);
  return file;
}

class PmemTest : public ::testing::Test {
 protected:
  void make(RateLimiterOptions limit = {}) {
    auto pmem =
        Pmem::create(file_of(kFileBytes), {.id = "p", .limit = limit, .clock = [] { return now; }});
    ASSERT_TRUE(pmem) << pmem.error().message;
    pmem_ = *std::move(pmem);
    ASSERT_TRUE(queue_.start(memory_, false));
    pmem_->activate({.memory = memory_,
                     .queues = std::span(&queue_, 1),
                     .interrupt = interrupts_,
                     .features = 0});
  }
  // What it answers; what was there before if it does not.
  uint32_t ask(uint32_t request, uint32_t request_bytes = 4, uint32_t answer_bytes = 4) {
    EXPECT_TRUE(memory_.write(kRequest, request) && memory_.write(kAnswer, 77));
    driver_.descriptor(0, kRequest, request_bytes, Driver::kNext, 1);
    driver_.descriptor(1, kAnswer, answer_bytes, Driver::kWrite);
    driver_.offer(0);
    pmem_->notified(0);
    return *memory_.read<uint32_t>(kAnswer);
  }
  GuestMemory memory_ = testing::memory_of(0x40000);
  Queue queue_{kQueueSizeMax};
  Driver driver_{memory_, queue_};
  testing::Interrupts interrupts_;
  std::unique_ptr<Pmem> pmem_;
};

TEST_F(PmemTest, ShowsWhereItLiesAndHowLargeItIs) {
  make();
  pmem_->place(uint64_t{512} << 30);
  std::array<uint64_t, 2> shown{};
  pmem_->read_configuration(0, std::as_writable_bytes(std::span(shown)));
  EXPECT_EQ(shown[0], uint64_t{512} << 30);
  EXPECT_EQ(shown[1], kPmemAlignment);
  std::byte behind{7};
  pmem_->read_configuration(16, std::span(&behind, 1));
  EXPECT_EQ(behind, std::byte{0});
}

TEST_F(PmemTest, AWriteIsInTheFileAndBehindItNowhere) {
  Fd file = file_of(kFileBytes);
  Fd same(dup(file.get()));
  auto pmem = Pmem::create(std::move(file), {.id = "p"});
  ASSERT_TRUE(pmem);
  auto* bytes = static_cast<char*>((*pmem)->host());
  bytes[kFileBytes - 1] = 'x';
  bytes[kPmemAlignment - 1] = 'y';
  char last = ' ';
  ASSERT_EQ(pread(same.get(), &last, 1, kFileBytes - 1), 1);
  EXPECT_EQ(last, 'x');
  EXPECT_EQ(lseek(same.get(), 0, SEEK_END), static_cast<off_t>(kFileBytes));
}

TEST_F(PmemTest, AFileThatIsEmptyOrToBeReadOnlyIsSeen) {
  EXPECT_NE(Pmem::create(file_of(0), {}).error().message.find("size is 0"), std::string::npos);
  auto pmem = Pmem::create(file_of(1), {.read_only = true});
  ASSERT_TRUE(pmem);
  EXPECT_TRUE((*pmem)->read_only());
}

TEST_F(PmemTest, FlushesAndRefusesAllElse) {
  make();
  struct Case {
    const char* name;
    uint32_t request, request_bytes, answer_bytes, want;
  };
  for (const Case& c : {Case{"a flush", 0, 4, 4, 0}, Case{"another request", 1, 4, 4, 0xffffffff},
                        Case{"half a request", 0, 2, 4, 77}, Case{"no room", 0, 4, 2, 77},
                        Case{"much room", 0, 4, 64, 0}})
    EXPECT_EQ(ask(c.request, c.request_bytes, c.answer_bytes), c.want) << c.name;
  EXPECT_EQ(pmem_->counts().flushes, 2u);
  EXPECT_EQ(pmem_->counts().failures, 3u);
  EXPECT_EQ(driver_.used(), 5);
}

TEST_F(PmemTest, ItsLimitHoldsItBackAndCanBeChanged) {
  make({.operations = TokenBucketOptions{.size = 1, .refill_ms = 100}});
  EXPECT_EQ(ask(0), 0u);
  EXPECT_EQ(ask(0), 77u);
  now += 100ms;
  pmem_->host_ready(0);
  EXPECT_EQ(driver_.used(), 2);
  pmem_->set_limit({.operations = TokenBucketOptions{}});
  EXPECT_EQ(ask(0), 0u);
  EXPECT_EQ(ask(0), 0u);
}

TEST_F(PmemTest, ASnapshotKeepsItsSizeAndLimit) {
  make({.operations = TokenBucketOptions{.size = 1, .refill_ms = 100}});
  EXPECT_EQ(ask(0), 0u);
  const auto state = pmem_->save();
  ASSERT_TRUE(state);
  EXPECT_FALSE((*Pmem::create(file_of(kPmemAlignment + 1), {}))->restore(*state));
  EXPECT_FALSE((*Pmem::create(file_of(1), {}))->restore("x"));
  auto same = Pmem::create(file_of(1), {.clock = [] { return now; }});
  EXPECT_TRUE((*same)->restore(*state));
}

TEST_F(PmemTest, ABrokenQueueAsksForAReset) {
  make();
  driver_.offer(Driver::kSize);
  pmem_->notified(0);
  EXPECT_EQ(interrupts_.broken, 1);
}

}  // namespace
}  // namespace hob::microvm
