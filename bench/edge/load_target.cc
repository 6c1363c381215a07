#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <string_view>

#include "edge_load.h"

namespace edge_load {
namespace {

enum Tag : uint64_t { kAccept = 0, kReceive = 1, kSend = 2 };

struct alignas(8) Served {
  int fd = -1;
  size_t filled = 0;            // of `room`
  const std::string* answer{};  // being sent, from `sent` on
  size_t sent = 0;
  char room[64 * 1024];
};

class Target {
 public:
  explicit Target(int listener) : listener_(listener) {}

  [[noreturn]] void run() {
    accept();
    for (;;) {
      ring_.turn([this](void* what, uint64_t tag, int result, unsigned flags) {
        if (tag == kAccept) {
          if (result >= 0) begin(result);
          if ((flags & IORING_CQE_F_MORE) == 0) accept();
          return;
        }
        Served& served = *static_cast<Served*>(what);
        if (result <= 0) {
          ::close(served.fd);
          delete &served;
        } else if (tag == kReceive) {
          served.filled += static_cast<size_t>(result);
          serve(served);
        } else {
          served.sent += static_cast<size_t>(result);
          if (served.sent < served.answer->size()) {
            send(served);
          } else {
            receive(served);
          }
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
    send_at_once(fd);
    auto* served = new Served;
    served->fd = fd;
    receive(*served);
  }
  void receive(Served& served) {
    io_uring_sqe* entry = ring_.next(&served, kReceive);
    io_uring_prep_recv(entry, served.fd, served.room + served.filled,
                       sizeof served.room - served.filled, 0);
    entry->ioprio |= IORING_RECVSEND_POLL_FIRST;
    ring_.tell(entry);
  }
  void send(Served& served) {
    io_uring_sqe* entry = ring_.next(&served, kSend);
    io_uring_prep_send(entry, served.fd, served.answer->data() + served.sent,
                       served.answer->size() - served.sent, MSG_NOSIGNAL | MSG_WAITALL);
    ring_.tell(entry);
  }
  // Reads one request at a time, as proxies send them. Other methods than GET are not answered.
  void serve(Served& served) {
    const std::string_view got(served.room, served.filled);
    const size_t end = got.find("\r\n\r\n");
    if (end == got.npos) {
      if (served.filled == sizeof served.room) served.filled = 0;
      receive(served);
      return;
    }
    size_t bytes = 0;
    const bool get = got.starts_with("GET /");
    if (get) std::from_chars(got.data() + 5, got.data() + end, bytes);
    served.filled = 0;
    if (!get) {
      receive(served);
      return;
    }
    served.answer = &answer(std::min(bytes, kBodyBytesMax));
    served.sent = 0;
    send(served);
  }
  const std::string& answer(size_t bytes) {
    std::string& made = answers_[bytes];
    if (made.empty())
      made = "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(bytes) + "\r\n\r\n" +
             std::string(bytes, 'x');
    return made;
  }

  int listener_;
  Ring ring_;
  std::map<size_t, std::string> answers_;
};

}  // namespace

int run_target(const char* port) { Target(listening(port)).run(); }

}  // namespace edge_load
