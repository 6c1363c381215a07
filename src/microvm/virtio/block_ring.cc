#include "microvm/virtio/block_ring.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/assert.h"

namespace hob::microvm {

namespace {

constexpr int kFileIndex = 0;  // the only one

io_uring_restriction restriction(uint16_t kind, uint8_t value) {
  io_uring_restriction made{};
  made.opcode = kind;
  made.sqe_op = value;  // in one place with the other kinds'
  return made;
}

}  // namespace

Result<void> restrict_and_enable(io_uring& ring) {
  std::array restrictions = {
      restriction(IORING_RESTRICTION_SQE_OP, IORING_OP_READV),
      restriction(IORING_RESTRICTION_SQE_OP, IORING_OP_WRITEV),
      restriction(IORING_RESTRICTION_SQE_OP, IORING_OP_FSYNC),
      restriction(IORING_RESTRICTION_SQE_FLAGS_REQUIRED, IOSQE_FIXED_FILE),
      restriction(IORING_RESTRICTION_REGISTER_OP, IORING_REGISTER_FILES_UPDATE),
  };
  // By the call itself: the functions for it are not exported by liburing 2.3's shared library.
  if (syscall(SYS_io_uring_register, ring.ring_fd, IORING_REGISTER_RESTRICTIONS,
              restrictions.data(), restrictions.size()) < 0)
    return fail_errno(errno, "restricting an io_uring");
  if (syscall(SYS_io_uring_register, ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) < 0)
    return fail_errno(errno, "enabling an io_uring");
  return {};
}

Result<std::unique_ptr<BlockRing>> BlockRing::create(unsigned entries, const Fd& file) {
  std::unique_ptr<BlockRing> ring(new BlockRing);
  HOB_TRY(ring->event_, Event::create());
  if (const int error = io_uring_queue_init(entries, &ring->ring_, IORING_SETUP_R_DISABLED);
      error < 0)
    return fail_errno(-error, "making an io_uring");
  ring->made_ = true;
  if (const int error = io_uring_register_eventfd(&ring->ring_, ring->event_fd()); error < 0)
    return fail_errno(-error, "an io_uring's eventfd");
  const int number = file.get();
  if (const int error = io_uring_register_files(&ring->ring_, &number, 1); error < 0)
    return fail_errno(-error, "an io_uring's file");
  HOB_CHECK(restrict_and_enable(ring->ring_));
  return ring;
}

Result<void> BlockRing::replace_file(const Fd& file) {
  HOB_ASSERT(in_flight_ == 0);
  const int number = file.get();
  if (const int done = io_uring_register_files_update(&ring_, kFileIndex, &number, 1); done != 1)
    return fail_errno(-done, "an io_uring's other file");
  return {};
}

BlockRing::~BlockRing() {
  HOB_ASSERT(in_flight_ == 0);
  if (made_) io_uring_queue_exit(&ring_);
}

void BlockRing::add(const Request& request) {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  HOB_ASSERT(entry != nullptr);  // the caller bounds what is in flight
  const auto count = static_cast<unsigned>(request.pieces.size());
  switch (request.kind) {
    case Request::Kind::kRead:
      io_uring_prep_readv(entry, kFileIndex, request.pieces.data(), count, request.offset);
      break;
    case Request::Kind::kWrite:
      io_uring_prep_writev(entry, kFileIndex, request.pieces.data(), count, request.offset);
      break;
    case Request::Kind::kFlush:
      io_uring_prep_fsync(entry, kFileIndex, IORING_FSYNC_DATASYNC);
      break;
  }
  entry->flags |= IOSQE_FIXED_FILE;
  entry->user_data = request.token;
  ++in_flight_;
}

void BlockRing::submit() {
  int taken = 0;
  do {
    taken = io_uring_submit(&ring_);
  } while (taken == -EINTR || taken == -EAGAIN || taken == -EBUSY);
  HOB_ASSERT(taken >= 0);
}

std::optional<BlockRing::Done> BlockRing::reap() {
  io_uring_cqe* entry = nullptr;
  if (io_uring_peek_cqe(&ring_, &entry) < 0 || entry == nullptr) return std::nullopt;
  const Done done{.token = entry->user_data, .result = entry->res};
  io_uring_cqe_seen(&ring_, entry);
  --in_flight_;
  return done;
}

void BlockRing::wait() {
  if (in_flight_ == 0) return;
  io_uring_cqe* entry = nullptr;
  while (io_uring_wait_cqe(&ring_, &entry) == -EINTR) {
  }
}

}  // namespace hob::microvm
