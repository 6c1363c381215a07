#include "edge/loop_uring.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/log.h"

namespace hob::edge {
namespace {

constexpr unsigned kSubmissions = 1024;
constexpr unsigned kCompletions = 8192;
constexpr int kGroup = 0;
// Where a process has no CAP_IPC_LOCK rings count against its user's RLIMIT_MEMLOCK (8 MB, some
// forty rings, in Debian), and the kernel gives back an ended one's 25 ms later (131 ms were seen).
constexpr int kRingTries = 50;
constexpr useconds_t kRingPauseUs = 20'000;
static_assert((kBuffersGivenToKernel & (kBuffersGivenToKernel - 1)) == 0);

// The low bits of an operation's user data say what it is; the rest is its socket.
enum Tag : uint64_t { kIgnore = 0, kReceive = 1, kSend = 2, kConnect = 3, kAccept = 4, kWake = 5 };
constexpr uint64_t kTagMask = 7;
static_assert(alignof(Socket) > kTagMask);

uint64_t tagged(Socket& socket, Tag tag) {
  return static_cast<uint64_t>(reinterpret_cast<uintptr_t>(&socket)) | tag;
}

}  // namespace

Result<std::unique_ptr<Loop>> UringLoop::make() {
  std::unique_ptr<UringLoop> loop(new UringLoop());
  HOB_CHECK(context(loop->open(), "io_uring"));
  return loop;
}

Result<void> UringLoop::open() {
  io_uring_params params{};
  params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED;
  params.cq_entries = kCompletions;
  const io_uring_params wanted = params;
  int error = io_uring_queue_init_params(kSubmissions, &ring_, &params);
  for (int tries = 1; error == -ENOMEM && tries < kRingTries; ++tries) {
    ::usleep(kRingPauseUs);
    params = wanted;
    error = io_uring_queue_init_params(kSubmissions, &ring_, &params);
  }
  if (error == -ENOMEM) {
    rlimit locked{};
    ::getrlimit(RLIMIT_MEMLOCK, &locked);
    return fail(Code::kUnavailable,
                "making a ring: no memory; the user's processes may lock {} KiB in all "
                "(RLIMIT_MEMLOCK), and a ring is about 200",
                locked.rlim_cur / 1024);
  }
  if (error < 0) return fail_errno(-error, "making a ring");
  open_ = true;
  void* memory = ::mmap(nullptr, kBuffersGivenToKernel * sizeof(io_uring_buf),
                        PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
  if (memory == MAP_FAILED) return fail_errno(errno, "allocating a buffer ring");
  provided_ = static_cast<io_uring_buf_ring*>(memory);
  io_uring_buf_ring_init(provided_);
  io_uring_buf_reg registration{};
  registration.ring_addr = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(provided_));
  registration.ring_entries = kBuffersGivenToKernel;
  registration.bgid = kGroup;
  error = io_uring_register_buf_ring(&ring_, &registration, 0);
  if (error < 0) return fail_errno(-error, "registering a buffer ring");
  return {};
}

UringLoop::~UringLoop() {
  if (open_) io_uring_queue_exit(&ring_);
  if (provided_ != nullptr) ::munmap(provided_, kBuffersGivenToKernel * sizeof(io_uring_buf));
}

io_uring_sqe* UringLoop::sqe() {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  if (entry == nullptr) {
    io_uring_submit(&ring_);
    messages_used_ = 0;
    entry = io_uring_get_sqe(&ring_);
    HOB_ASSERT(entry != nullptr);
  }
  return entry;
}

void UringLoop::fill_ring() {
  const int mask = io_uring_buf_ring_mask(kBuffersGivenToKernel);
  int added = 0;
  while (provided_count_ < kBuffersGivenToKernel) {
    // The reserve is left to those who must write.
    Buffer* buffer = buffers_.plenty() ? buffers_.take() : nullptr;
    if (buffer == nullptr) break;
    io_uring_buf_ring_add(provided_, buffer->data, kBufferBytes, buffer->index, mask, added++);
    ++provided_count_;
  }
  if (added > 0) io_uring_buf_ring_advance(provided_, added);
}

void UringLoop::watch_wake() {
  io_uring_sqe* entry = sqe();
  io_uring_prep_read(entry, wake_fd_.get(), &wake_value_, sizeof wake_value_, 0);
  io_uring_sqe_set_data64(entry, kWake);
}

void UringLoop::run() {
  // A ring with a single issuer belongs to the thread that enables it.
  // The system call itself: liburing 2.3 declares io_uring_enable_rings() but does not export it.
  const long enabled =
      ::syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  HOB_ASSERT(enabled == 0);
  io_uring_register_ring_fd(&ring_);
  watch_wake();
  for (size_t i = 0; i < accepting_.size(); ++i) accept_next(i);
  while (!stopping_.load(std::memory_order_acquire)) {
    do {
      flush_all();
      run_released();
    } while (busy());
    fill_ring();
    retry_reads();
    const uint64_t wait_ms =
        std::clamp<uint64_t>(timers_.wait(now_ms_), 1, accept_failed_ ? 100 : 60'000);
    __kernel_timespec timeout{.tv_sec = static_cast<int64_t>(wait_ms / 1'000),
                              .tv_nsec = static_cast<long long>(wait_ms % 1'000) * 1'000'000};
    io_uring_cqe* first = nullptr;
    // What is held waits for no more than what has come already.
    const int error = holds()
                          ? io_uring_submit_and_get_events(&ring_)
                          : io_uring_submit_and_wait_timeout(&ring_, &first, 1, &timeout, nullptr);
    HOB_ASSERT(error >= 0 || error == -ETIME || error == -EINTR || error == -EAGAIN ||
               error == -EBUSY);
    messages_used_ = 0;
    tick();
    unsigned head = 0;
    unsigned seen = 0;
    io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(&ring_, head, cqe) {
      ++seen;
      complete(*cqe);
    }
    io_uring_cq_advance(&ring_, seen);
    let_go_held();
    run_timers();
    run_posted();
    if (accept_failed_ && now_ms_ >= accept_again_at_) retry_accepts();
  }
}

void UringLoop::retry_accepts() {
  accept_again_at_ = now_ms_ + 100;
  accept_failed_ = false;
  for (size_t i = 0; i < accepting_.size(); ++i) {
    if (!accepting_[i].active && !unlistening_) accept_next(i);
  }
}

void UringLoop::complete(const io_uring_cqe& cqe) {
  const auto tag = static_cast<Tag>(cqe.user_data & kTagMask);
  if (tag == kIgnore) return;
  if (tag == kWake) {
    watch_wake();
    return;
  }
  if (tag == kAccept) {
    Accepting& accepting = accepting_[cqe.user_data >> 3];
    if ((cqe.flags & IORING_CQE_F_MORE) == 0) accepting.active = false;
    if (cqe.res >= 0) accepting.listener->on_accept(cqe.res, accepting.index);
    if (unlistening_) {
      finish_unlisten();
    } else if (!accepting.active) {
      // Out of descriptors, most likely: trying again at once would spin.
      if (cqe.res < 0) {
        accept_failed_ = true;
      } else {
        accept_next(cqe.user_data >> 3);
      }
    }
    return;
  }
  Socket& socket = *reinterpret_cast<Socket*>(static_cast<uintptr_t>(cqe.user_data & ~kTagMask));
  if (tag == kReceive) {
    received(socket, cqe);
    return;
  }
  HOB_ASSERT(socket.ops_ > 0);
  --socket.ops_;
  if (tag == kConnect) {
    socket.connecting_ = false;
    if (!socket.closing_) {
      if (cqe.res == 0 && (socket.unsent() > 0 || socket.shut_wanted_)) flush(socket);
      socket.on_connected(-cqe.res);
    }
  } else {
    socket.sending_ = 0;
    socket.full_ = false;
    if (!socket.closing_) {
      if (cqe.res >= 0) {
        sent(socket, static_cast<size_t>(cqe.res));
      } else {
        send_failed(socket, -cqe.res);
      }
    }
  }
  finish_if_free(socket);
}

void UringLoop::received(Socket& socket, const io_uring_cqe& cqe) {
  Slice data;
  if ((cqe.flags & IORING_CQE_F_BUFFER) != 0) {
    Buffer* buffer = buffers_.at(static_cast<uint16_t>(cqe.flags >> IORING_CQE_BUFFER_SHIFT));
    --provided_count_;
    const size_t size = cqe.res > 0 ? static_cast<size_t>(cqe.res) : 0;
    buffer->used = static_cast<uint32_t>(size);
    socket.filled_ = size == kBufferBytes;
    data = Slice(buffer, buffer->data, size);
  }
  const bool over = (cqe.flags & IORING_CQE_F_MORE) == 0;
  if (over) {
    HOB_ASSERT(socket.ops_ > 0);
    --socket.ops_;
    socket.receiving_ = false;
    socket.cancelling_ = false;
  }
  if (!socket.closing_) {
    if (!data.empty()) {
      more_arrives_ = socket.one_by_one_ && socket.filled_;
      socket.take(std::move(data));
      more_arrives_ = false;
    } else if (cqe.res == 0) {
      ended(socket, 0);
    } else if (cqe.res == -ENOBUFS) {
      starve(socket);
    } else if (cqe.res != -ECANCELED) {
      ended(socket, -cqe.res);
    }
  }
  data.reset();
  if (over && !socket.closing_ && socket.want_read_ && !socket.receiving_ && !socket.ended_ &&
      !socket.retry_read_) {
    read(socket);
  }
  if (over) finish_if_free(socket);
}

void UringLoop::finish_if_free(Socket& socket) {
  if (!socket.closing_ || socket.ops_ > 0) return;
  if (socket.fd_ >= 0) ::close(std::exchange(socket.fd_, -1));
  release(socket);
}

void UringLoop::listen(int fd, Listener& listener, size_t index) {
  accepting_.push_back({.fd = fd, .listener = &listener, .index = index});
}

void UringLoop::accept_next(size_t index) {
  Accepting& accepting = accepting_[index];
  io_uring_sqe* entry = sqe();
  io_uring_prep_multishot_accept(entry, accepting.fd, nullptr, nullptr, SOCK_CLOEXEC);
  io_uring_sqe_set_data64(entry, (static_cast<uint64_t>(index) << 3) | kAccept);
  accepting.active = true;
}

void UringLoop::unlisten(Backlog backlog) {
  if (unlistening_) return;
  unlistening_ = true;
  backlog_ = backlog;
  for (size_t i = 0; i < accepting_.size(); ++i) {
    if (!accepting_[i].active) continue;
    io_uring_sqe* entry = sqe();
    io_uring_prep_cancel64(entry, (static_cast<uint64_t>(i) << 3) | kAccept, 0);
    io_uring_sqe_set_data64(entry, kIgnore);
  }
  finish_unlisten();
}

void UringLoop::finish_unlisten() {
  if (std::ranges::any_of(accepting_, &Accepting::active)) return;
  std::vector<Accepting> done;
  done.swap(accepting_);
  for (const Accepting& it : done) {
    // Not SOCK_NONBLOCK: the ring would not wait for such a socket.
    if (backlog_ == Backlog::kTake) take_backlog(it.fd, *it.listener, it.index, 0);
  }
  if (!done.empty()) done.front().listener->on_unlistened();
}

void UringLoop::connect(Socket& socket, const sockaddr_in& address) {
  // -1, when descriptors have run out, fails like any other connect: the kernel completes it with
  // an error.
  socket.fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int one = 1;
  ::setsockopt(socket.fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  io_uring_sqe* entry = sqe();
  Message& target = message();
  target.address = address;
  io_uring_prep_connect(entry, socket.fd_, reinterpret_cast<const sockaddr*>(&target.address),
                        sizeof(sockaddr_in));
  io_uring_sqe_set_data64(entry, tagged(socket, kConnect));
  socket.connecting_ = true;
  ++socket.ops_;
}

void UringLoop::read(Socket& socket) {
  socket.want_read_ = true;
  if (socket.receiving_ || socket.closing_ || socket.ended_) return;
  io_uring_sqe* entry = sqe();
  socket.multishot_ = !socket.one_by_one_;
  if (socket.one_by_one_) {
    io_uring_prep_recv(entry, socket.fd_, nullptr, kBufferBytes, 0);
    // Unless the last receive filled its buffer, there is most likely nothing yet: wait before
    // trying.
    if (!socket.filled_) entry->ioprio |= IORING_RECVSEND_POLL_FIRST;
  } else {
    io_uring_prep_recv_multishot(entry, socket.fd_, nullptr, 0, 0);
  }
  entry->flags |= IOSQE_BUFFER_SELECT;
  entry->buf_group = kGroup;
  io_uring_sqe_set_data64(entry, tagged(socket, kReceive));
  socket.receiving_ = true;
  ++socket.ops_;
}

void UringLoop::pause(Socket& socket) {
  socket.want_read_ = false;
  // A single receive ends by itself, with one buffer at most.
  if (!socket.receiving_ || socket.cancelling_ || !socket.multishot_) return;
  socket.cancelling_ = true;
  io_uring_sqe* entry = sqe();
  io_uring_prep_cancel64(entry, tagged(socket, kReceive), 0);
  io_uring_sqe_set_data64(entry, kIgnore);
}

UringLoop::Message& UringLoop::message() {
  if (messages_used_ == messages_.size()) messages_.push_back(std::make_unique<Message>());
  return *messages_[messages_used_++];
}

void UringLoop::start_send(Socket& socket) {
  if (!socket.full_) {
    // Nearly always the kernel takes all of it at once. By the ring that costs more, and its
    // completion ends the next wait before anything has come.
    Sending sending;
    gather(socket, sending);
    const ssize_t done = send_now(socket, sending);
    const bool refused = done < 0 && errno != EAGAIN && errno != EINTR;
    if (refused) {
      send_failed(socket, errno);
      return;
    }
    socket.full_ = done < 0 || static_cast<size_t>(done) < sending.bytes;
    if (done > 0) {
      sent(socket, static_cast<size_t>(done));
      return;
    }
  }
  // The ring waits for room.
  io_uring_sqe* entry = sqe();
  Message& rest = message();
  gather(socket, rest.sending);
  rest.header = {};
  rest.header.msg_iov = rest.sending.pieces;
  rest.header.msg_iovlen = rest.sending.count;
  io_uring_prep_sendmsg(entry, socket.fd_, &rest.header,
                        static_cast<unsigned>(rest.sending.flags | MSG_WAITALL));
  entry->ioprio |= IORING_RECVSEND_POLL_FIRST;
  io_uring_sqe_set_data64(entry, tagged(socket, kSend));
  socket.sending_ = static_cast<uint32_t>(rest.sending.bytes);
  ++socket.ops_;
}

bool UringLoop::start_close(Socket& socket) {
  if (socket.ops_ == 0) {
    if (socket.fd_ >= 0) ::close(std::exchange(socket.fd_, -1));
    return true;
  }
  if (socket.fd_ < 0) return false;
  if (socket.receiving_ && socket.ops_ == 1 && socket.shut_wanted_ && !socket.shut_) {
    // All that it sends has been given to the kernel, and leaves with its end; the receive ends,
    // too.
    ::shutdown(socket.fd_, SHUT_RDWR);
    return false;
  }
  // Queued before anything that a later owner of this descriptor's number queues, so it cannot hit
  // that.
  io_uring_sqe* entry = sqe();
  io_uring_prep_cancel_fd(entry, socket.fd_, IORING_ASYNC_CANCEL_ALL);
  io_uring_sqe_set_data64(entry, kIgnore);
  return false;
}

void UringLoop::shut_now(Socket& socket) { ::shutdown(socket.fd_, SHUT_WR); }

}  // namespace hob::edge
