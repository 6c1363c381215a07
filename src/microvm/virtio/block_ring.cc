#include "microvm/virtio/block_ring.h"

#include "base/assert.h"

namespace hob::microvm {

Result<std::unique_ptr<BlockRing>> BlockRing::create(unsigned entries) {
  std::unique_ptr<BlockRing> ring(new BlockRing);
  HOB_TRY(ring->event_, Event::create());
  if (const int error = io_uring_queue_init(entries, &ring->ring_, 0); error < 0)
    return fail_errno(-error, "making an io_uring");
  ring->made_ = true;
  if (const int error = io_uring_register_eventfd(&ring->ring_, ring->event_fd()); error < 0)
    return fail_errno(-error, "an io_uring's eventfd");
  return ring;
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
      io_uring_prep_readv(entry, request.fd, request.pieces.data(), count, request.offset);
      break;
    case Request::Kind::kWrite:
      io_uring_prep_writev(entry, request.fd, request.pieces.data(), count, request.offset);
      break;
    case Request::Kind::kFlush:
      io_uring_prep_fsync(entry, request.fd, IORING_FSYNC_DATASYNC);
      break;
  }
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
