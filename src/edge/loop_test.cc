// Whether loops can be had.
#include "edge/loop.h"

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

namespace hob::edge {
namespace {

// As an edge runs: rings count against its user's limit. Of the calling thread alone.
void lock_no_more_than_allowed() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct sets[2]{};
  ASSERT_EQ(::syscall(SYS_capget, &header, sets), 0);
  sets[CAP_TO_INDEX(CAP_IPC_LOCK)].effective &= ~CAP_TO_MASK(CAP_IPC_LOCK);
  ASSERT_EQ(::syscall(SYS_capset, &header, sets), 0);
}

class Rings : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Loop::make(Io::kUring)) GTEST_SKIP() << "no io_uring here";
    ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &before_), 0);
  }
  void TearDown() override { ::setrlimit(RLIMIT_MEMLOCK, &before_); }
  void limit(rlim_t bytes) const {
    const rlimit lower{.rlim_cur = std::min(bytes, before_.rlim_max), .rlim_max = before_.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &lower), 0);
  }
  rlimit before_{};
};

// The kernel gives their memory back a while after their end: an edge that followed another, again
// and again, found none left.
TEST_F(Rings, ThatEndedMakeRoomForOthers) {
  limit(2 * 1024 * 1024);
  std::thread([] {
    lock_no_more_than_allowed();
    for (int i = 0; i < 100; ++i) {
      const auto loop = Loop::make(Io::kUring);
      ASSERT_TRUE(loop) << i << ": " << loop.error().message;
    }
  }).join();
}

TEST_F(Rings, SayWhichLimitKeepsThemOut) {
  limit(64 * 1024);
  std::thread([] {
    lock_no_more_than_allowed();
    const auto loop = Loop::make(Io::kUring);
    ASSERT_FALSE(loop);
    EXPECT_NE(loop.error().message.find("may lock 64 KiB in all (RLIMIT_MEMLOCK)"),
              std::string::npos)
        << loop.error().message;
    EXPECT_STREQ(Loop::make(Io::kBest).value()->name(), "epoll");
  }).join();
}

}  // namespace
}  // namespace hob::edge
