// The ends of a measurement and its least middle (edge_load_main.cc), by io_uring: what they cost
// is taken from the proxy between them when cores are few.
#pragma once

#include <arpa/inet.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace edge_load {

inline constexpr size_t kBodyBytesMax = 1024 * 1024;

[[noreturn]] inline void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

inline sockaddr_in loopback(const char* port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(std::atoi(port)));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

inline int listening(const char* port) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int one = 1;
  ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  const sockaddr_in address = loopback(port);
  if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener, 4096) != 0) {
    die("edge_load: listening");
  }
  return listener;
}

inline void send_at_once(int fd) {
  const int one = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

// A ring of one thread.
class Ring {
 public:
  Ring() {
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                   IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE;
    params.cq_entries = 8192;
    if (io_uring_queue_init_params(1024, &ring_, &params) < 0) die("edge_load: io_uring");
    io_uring_register_ring_fd(&ring_);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring() {
    io_uring_queue_exit(&ring_);
    std::free(provided_);
  }

  // `what` is an aligned pointer, `tag` less than 8.
  io_uring_sqe* next(const void* what, uint64_t tag) {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    if (entry == nullptr) {
      io_uring_submit(&ring_);
      entry = io_uring_get_sqe(&ring_);
    }
    data_ = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(what)) | tag;
    return entry;
  }
  // After the entry has been prepared.
  void tell(io_uring_sqe* entry) const { io_uring_sqe_set_data64(entry, data_); }
  // Only if it fails.
  void tell_failure(io_uring_sqe* entry) const {
    tell(entry);
    entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
  }

  // Buffers that receives choose from (IOSQE_BUFFER_SELECT), a power of two of them. Once.
  void provide(char* memory, unsigned count, size_t bytes) {
    memory_ = memory;
    count_ = count;
    bytes_ = bytes;
    void* entries = nullptr;
    if (::posix_memalign(&entries, 4096, count * sizeof(io_uring_buf)) != 0)
      die("edge_load: memory");
    provided_ = static_cast<io_uring_buf_ring*>(entries);
    io_uring_buf_ring_init(provided_);
    io_uring_buf_reg registration{};
    registration.ring_addr = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(provided_));
    registration.ring_entries = count;
    if (io_uring_register_buf_ring(&ring_, &registration, 0) < 0) die("edge_load: buffers");
    for (unsigned i = 0; i < count; ++i) give_back(i);
  }
  void give_back(unsigned buffer) {
    io_uring_buf_ring_add(provided_, memory_ + buffer * bytes_, static_cast<unsigned>(bytes_),
                          static_cast<unsigned short>(buffer), io_uring_buf_ring_mask(count_), 0);
    io_uring_buf_ring_advance(provided_, 1);
  }

  // Submits, waits for something and calls done(what, tag, result, flags) for each that has come.
  template <class Done>
  void turn(Done done) {
    if (io_uring_submit_and_wait(&ring_, 1) >= 0) complete(done);
  }
  // Likewise, but waits `wait_ns` at most.
  template <class Done>
  void turn_until(int64_t wait_ns, Done done) {
    __kernel_timespec timeout{.tv_sec = 0, .tv_nsec = wait_ns};
    io_uring_cqe* first = nullptr;
    io_uring_submit_and_wait_timeout(&ring_, &first, 1, &timeout, nullptr);
    complete(done);
  }

 private:
  template <class Done>
  void complete(Done done) {
    io_uring_cqe* cqe = nullptr;
    unsigned head = 0;
    unsigned seen = 0;
    io_uring_for_each_cqe(&ring_, head, cqe) {
      ++seen;
      const uint64_t data = cqe->user_data;
      done(reinterpret_cast<void*>(static_cast<uintptr_t>(data & ~uint64_t{7})), data & 7, cqe->res,
           cqe->flags);
    }
    io_uring_cq_advance(&ring_, seen);
  }

  io_uring ring_{};
  uint64_t data_ = 0;
  io_uring_buf_ring* provided_ = nullptr;
  char* memory_ = nullptr;
  unsigned count_ = 0;
  size_t bytes_ = 0;
};

// Of an answer that has begun: bytes of its head, 0 while that is not whole, and of its body.
struct Sizes {
  size_t head = 0;
  size_t body = 0;
  bool wrong = false;  // no 200, or of no length
};
Sizes sizes_of(std::string_view got);

int run_target(const char* port);
int run_copy(const char* port, const char* target);

struct Asked {
  const char* port = nullptr;
  std::string request{};  // whole
  size_t connections = 0;
  double seconds = 0;
  bool tls = false;   // 1.3
  bool anew = false;  // a connection for each request
};
// Asks again on each connection as soon as an answer is whole. Prints one line: requests and
// microseconds.
int run_load(const Asked& asked);

}  // namespace edge_load
