#include <openssl/err.h>
#include <openssl/ssl.h>
#include <time.h>
#include <unistd.h>

#include <charconv>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "edge_load.h"

namespace edge_load {
namespace {

enum Tag : uint64_t { kConnected = 1, kReceived = 2, kSent = 3 };

int64_t now_us() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1'000;
}

[[noreturn]] void fail(std::string_view what) {
  std::fprintf(stderr, "edge_load: %.*s\n", static_cast<int>(what.size()), what.data());
  std::exit(1);
}

struct Asking {
  int fd = -1;
  SSL* ssl = nullptr;    // with memory on both sides
  bool fresh = true;     // being connected
  bool secured = false;  // its handshake is done
  size_t filled = 0;     // of `room`: an answer's head and what came with it
  size_t left = 0;       // of the body
  bool in_body = false;
  std::string wire{};  // being sent, by TLS
  char room[16 * 1024];
};

class Load {
 public:
  explicit Load(const Asked& asked) : asked_(asked), address_(loopback(asked.port)) {
    if (asked.tls) {
      context_ = SSL_CTX_new(TLS_client_method());
      SSL_CTX_set_min_proto_version(context_, TLS1_3_VERSION);
      SSL_CTX_set_mode(context_, SSL_MODE_RELEASE_BUFFERS);
    }
  }

  int run() {
    for (size_t i = 0; i < asked_.connections; ++i) {
      all_.push_back(std::make_unique<Asking>());
      connect(*all_.back());
    }
    const int64_t begin = now_us();
    const int64_t end = begin + static_cast<int64_t>(asked_.seconds * 1e6);
    int64_t now = begin;
    while ((now = now_us()) < end) {
      ring_.turn([this](void* what, uint64_t tag, int result, unsigned) {
        Asking& asking = *static_cast<Asking*>(what);
        if (tag == kConnected || tag == kSent) {
          if (result < 0) fail(std::strerror(-result));
        } else {
          received(asking, result);
        }
      });
    }
    std::printf("%zu %lld\n", done_, static_cast<long long>(now - begin));
    return 0;
  }

 private:
  void connect(Asking& asking) {
    asking.fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    send_at_once(asking.fd);
    io_uring_sqe* entry = ring_.next(&asking, kConnected);
    io_uring_prep_connect(entry, asking.fd, reinterpret_cast<const sockaddr*>(&address_),
                          sizeof address_);
    ring_.tell_failure(entry);
    entry->flags |= IOSQE_IO_LINK;
    if (asked_.tls) {
      shake_hands(asking);
    } else {
      ask(asking);
    }
  }

  void shake_hands(Asking& asking) {
    if (asking.ssl == nullptr) {
      asking.ssl = SSL_new(context_);
      SSL_set_bio(asking.ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
      SSL_set_connect_state(asking.ssl);
    }
    if (SSL_do_handshake(asking.ssl) == 1) {
      asking.secured = true;
      ask(asking);
      return;
    }
    send_wire(asking);
    receive(asking);
  }

  void ask(Asking& asking) {
    asking.filled = asking.left = 0;
    asking.in_body = false;
    if (asking.ssl != nullptr) {
      SSL_write(asking.ssl, asked_.request.data(), static_cast<int>(asked_.request.size()));
      send_wire(asking);
    } else {
      send(asking, asked_.request);
    }
    receive(asking);
  }

  void send_wire(Asking& asking) {
    char* data = nullptr;
    BIO* out = SSL_get_wbio(asking.ssl);
    const long size = BIO_get_mem_data(out, &data);
    if (size <= 0) return;
    // One at a time: who asks has had its answer.
    asking.wire.assign(data, static_cast<size_t>(size));
    BIO_reset(out);
    send(asking, asking.wire);
  }

  void send(Asking& asking, const std::string& bytes) {
    io_uring_sqe* entry = ring_.next(&asking, kSent);
    io_uring_prep_send(entry, asking.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_WAITALL);
    ring_.tell_failure(entry);
    // Nothing can be received before there is a connection.
    if (asking.fresh) entry->flags |= IOSQE_IO_LINK;
  }

  void receive(Asking& asking) {
    io_uring_sqe* entry = ring_.next(&asking, kReceived);
    if (asking.in_body && asking.ssl == nullptr) {
      // What it says is not looked at, so it need not be copied either.
      io_uring_prep_recv(entry, asking.fd, nullptr, asking.left, MSG_TRUNC);
    } else {
      const size_t from = asking.ssl == nullptr ? asking.filled : 0;
      io_uring_prep_recv(entry, asking.fd, asking.room + from, sizeof asking.room - from, 0);
    }
    entry->ioprio |= IORING_RECVSEND_POLL_FIRST;
    ring_.tell(entry);
    asking.fresh = false;
  }

  void received(Asking& asking, int result) {
    if (result <= 0) {
      if (!asked_.anew || result < 0 || !asking.in_body || asking.left > 0)
        fail(result < 0 ? std::strerror(-result) : "closed early");
      again(asking);
      return;
    }
    if (asking.ssl == nullptr) {
      answered(asking, static_cast<size_t>(result));
      return;
    }
    BIO_write(SSL_get_rbio(asking.ssl), asking.room, result);
    if (!asking.secured) {
      shake_hands(asking);
      return;
    }
    size_t got = 0;
    const size_t from = asking.in_body ? 0 : asking.filled;
    bool more = true;
    while (more && SSL_read_ex(asking.ssl, text_ + from, sizeof text_ - from, &got) == 1) {
      more = answered_text(asking, {text_ + from, got});
    }
    if (more) {
      ERR_clear_error();
      receive(asking);
    }
  }

  // False: the next request is on its way.
  bool answered_text(Asking& asking, std::string_view text) {
    if (!asking.in_body) {
      const Sizes sizes = sizes_of(text);
      if (sizes.wrong) fail(text);
      if (sizes.head == 0) fail("an answer's head in pieces");
      asking.in_body = true;
      asking.left = sizes.head + sizes.body;
    }
    if (text.size() > asking.left) fail("more than was asked for");
    asking.left -= text.size();
    return !whole(asking);
  }

  void answered(Asking& asking, size_t count) {
    if (!asking.in_body) {
      asking.filled += count;
      const Sizes sizes = sizes_of({asking.room, asking.filled});
      if (sizes.wrong) fail({asking.room, asking.filled});
      if (sizes.head == 0) {
        receive(asking);
        return;
      }
      asking.in_body = true;
      asking.left = sizes.head + sizes.body;
      count = asking.filled;
    }
    if (count > asking.left) fail("more than was asked for");
    asking.left -= count;
    if (!whole(asking)) receive(asking);
  }

  // Whether the answer is; then it has been counted, and what follows is under way.
  bool whole(Asking& asking) {
    if (asking.left > 0) return false;
    ++done_;
    if (asked_.anew) {
      asking.left = 0;
      io_uring_sqe* entry = ring_.next(&asking, kReceived);  // the connection's end
      io_uring_prep_recv(entry, asking.fd, asking.room, sizeof asking.room, 0);
      ring_.tell(entry);
    } else {
      ask(asking);
    }
    return true;
  }

  void again(Asking& asking) {
    ::close(asking.fd);
    SSL_free(asking.ssl);
    asking.ssl = nullptr;
    asking.secured = false;
    asking.fresh = true;
    connect(asking);
  }

  const Asked& asked_;
  sockaddr_in address_;
  SSL_CTX* context_ = nullptr;
  std::vector<std::unique_ptr<Asking>> all_;
  size_t done_ = 0;
  char text_[64 * 1024];
  Ring ring_;  // last: what it points to outlives it
};

}  // namespace

Sizes sizes_of(std::string_view got) {
  const size_t end = got.find("\r\n\r\n");
  if (end == got.npos) return {};
  const std::string_view head = got.substr(0, end);
  size_t at = head.find("ontent-");  // of either case: the proxies write it their own way
  while (at != head.npos && head.substr(at + 7, 7) != "Length:" &&
         head.substr(at + 7, 7) != "length:")
    at = head.find("ontent-", at + 1);
  if (at == head.npos || !head.starts_with("HTTP/1.1 200")) return {.wrong = true};
  Sizes sizes{.head = end + 4};
  const std::string_view digits = head.substr(head.find_first_of("0123456789", at));
  std::from_chars(digits.data(), digits.data() + digits.size(), sizes.body);
  return sizes;
}

int run_load(const Asked& asked) { return std::make_unique<Load>(asked)->run(); }

}  // namespace edge_load
