#include "microvm/virtio/block_ring.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <functional>

namespace hob::microvm {
namespace {

// A ring such as a drive has, with one file, in the hands of who broke out.
class RestrictedRing : public ::testing::Test {
 protected:
  void SetUp() override {
    if (io_uring_queue_init(8, &ring_, IORING_SETUP_R_DISABLED) < 0)
      GTEST_SKIP() << "this host has no io_uring for us";
    made_ = true;
    ASSERT_EQ(ftruncate(file_.get(), 512), 0);
    const int number = file_.get();
    ASSERT_EQ(io_uring_register_files(&ring_, &number, 1), 0);
    const auto restricted = restrict_and_enable(ring_);
    ASSERT_TRUE(restricted) << restricted.error().message;
  }
  void TearDown() override {
    if (made_) io_uring_queue_exit(&ring_);
  }
  // What the kernel answers.
  int ask(const std::function<void(io_uring_sqe*)>& prepare) {
    prepare(io_uring_get_sqe(&ring_));
    io_uring_submit(&ring_);
    io_uring_cqe* done = nullptr;
    if (const int error = io_uring_wait_cqe(&ring_, &done); error < 0) return error;
    const int result = done->res;
    io_uring_cqe_seen(&ring_, done);
    return result;
  }

  io_uring ring_{};
  bool made_ = false;
  Fd file_{memfd_create("disk", MFD_CLOEXEC)};
  char bytes_[512] = {};
  iovec piece_{.iov_base = bytes_, .iov_len = sizeof bytes_};
};

TEST_F(RestrictedRing, ReadsWritesAndFlushesItsOwnFile) {
  EXPECT_EQ(ask([&](io_uring_sqe* entry) {
              io_uring_prep_writev(entry, 0, &piece_, 1, 0);
              entry->flags |= IOSQE_FIXED_FILE;
            }),
            512);
  EXPECT_EQ(ask([&](io_uring_sqe* entry) {
              io_uring_prep_readv(entry, 0, &piece_, 1, 0);
              entry->flags |= IOSQE_FIXED_FILE;
            }),
            512);
  EXPECT_EQ(ask([&](io_uring_sqe* entry) {
              io_uring_prep_fsync(entry, 0, IORING_FSYNC_DATASYNC);
              entry->flags |= IOSQE_FIXED_FILE;
            }),
            0);
}

TEST_F(RestrictedRing, DoesNothingElse) {
  struct Case {
    const char* name;
    std::function<void(io_uring_sqe*)> prepare;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"opens no file",
            [](io_uring_sqe* entry) {
              io_uring_prep_openat(entry, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
            }},
           {"makes no socket",
            [](io_uring_sqe* entry) { io_uring_prep_socket(entry, AF_INET, SOCK_STREAM, 0, 0); }},
           {"connects nowhere",
            [](io_uring_sqe* entry) { io_uring_prep_connect(entry, 0, nullptr, 0); }},
           {"not even nothing", [](io_uring_sqe* entry) { io_uring_prep_nop(entry); }},
           {"reads no file that is not registered",
            [&](io_uring_sqe* entry) { io_uring_prep_readv(entry, file_.get(), &piece_, 1, 0); }},
           {"links no requests", [&](io_uring_sqe* entry) {
              io_uring_prep_readv(entry, 0, &piece_, 1, 0);
              entry->flags |= IOSQE_FIXED_FILE | IOSQE_IO_LINK;
            }}}) {
    EXPECT_EQ(ask(c.prepare), -EACCES) << c.name;
  }
}

TEST_F(RestrictedRing, IsGivenAnotherFileAndNothingElse) {
  const Fd other(memfd_create("other", MFD_CLOEXEC));
  const int number = other.get();
  EXPECT_EQ(io_uring_register_files_update(&ring_, 0, &number, 1), 1);
  EXPECT_EQ(io_uring_register_buffers(&ring_, &piece_, 1), -EACCES);
  EXPECT_EQ(io_uring_unregister_files(&ring_), -EACCES);
  EXPECT_EQ(io_uring_register_eventfd(&ring_, number), -EACCES);
  EXPECT_FALSE(restrict_and_enable(ring_)) << "it stays as it is";
}

}  // namespace
}  // namespace hob::microvm
