#include <unistd.h>

#include <memory>
#include <vector>

#include "edge_load.h"

namespace edge_load {
namespace {

enum Tag : uint64_t { kAccept = 0, kReceive = 1 };

constexpr unsigned kBuffers = 1024;
constexpr size_t kBufferBytes = 16 * 1024;

// One of two sockets of which each is sent what the other says.
struct alignas(8) End {
  int fd = -1;
  End* other = nullptr;
  bool over = false;  // its receive is
};

class Copier {
 public:
  Copier(int listener, const sockaddr_in& target) : listener_(listener), target_(target) {
    ring_.provide(memory_.data(), kBuffers, kBufferBytes);
  }

  [[noreturn]] void run() {
    accept();
    for (;;) {
      ring_.turn([this](void* what, uint64_t tag, int result, unsigned flags) {
        if (tag == kAccept) {
          if (result >= 0) begin(result);
          if ((flags & IORING_CQE_F_MORE) == 0) accept();
        } else {
          received(*static_cast<End*>(what), result, flags);
        }
      });
    }
  }

 private:
  void accept() {
    io_uring_sqe* entry = ring_.next(nullptr, kAccept);
    io_uring_prep_multishot_accept(entry, listener_, nullptr, nullptr, SOCK_CLOEXEC);
    ring_.tell(entry);
  }

  void begin(int fd) {
    auto client = std::make_unique<End>(fd);
    auto server = std::make_unique<End>(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(server->fd, reinterpret_cast<const sockaddr*>(&target_), sizeof target_) != 0)
      die("edge_load: connecting");
    client->other = server.get();
    server->other = client.get();
    for (std::unique_ptr<End>* end : {&client, &server}) {
      send_at_once((*end)->fd);
      receive(*end->release());
    }
  }

  void receive(End& end) {
    io_uring_sqe* entry = ring_.next(&end, kReceive);
    io_uring_prep_recv_multishot(entry, end.fd, nullptr, 0, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    ring_.tell(entry);
  }

  void received(End& end, int result, unsigned flags) {
    if (result > 0) {
      const unsigned buffer = flags >> IORING_CQE_BUFFER_SHIFT;
      // Whoever asks waits for the answer to be whole, so what is sent fits. A peer that has gone
      // is heard of by its own receive.
      ::send(end.other->fd, memory_.data() + buffer * kBufferBytes, static_cast<size_t>(result),
             MSG_NOSIGNAL | MSG_DONTWAIT);
      ring_.give_back(buffer);
    }
    if ((flags & IORING_CQE_F_MORE) != 0) return;
    if (result > 0) {
      receive(end);
      return;
    }
    end.over = true;
    ::shutdown(end.other->fd, SHUT_RDWR);
    if (!end.other->over) return;
    for (End* each : {end.other, &end}) {
      ::close(each->fd);
      delete each;
    }
  }

  int listener_;
  sockaddr_in target_;
  std::vector<char> memory_ = std::vector<char>(kBuffers * kBufferBytes);
  Ring ring_;
};

}  // namespace

int run_copy(const char* port, const char* target) {
  Copier(listening(port), loopback(target)).run();
}

}  // namespace edge_load
