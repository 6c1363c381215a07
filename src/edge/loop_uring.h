// The loop on io_uring: multishot accept and receive into a ring of provided buffers, sends
// submitted with the wait. Kernel 6.0 or newer; `make` probes and says what is missing.
#pragma once

#include <liburing.h>

#include <memory>
#include <vector>

#include "edge/loop.h"

namespace hob::edge {

class UringLoop final : public Loop {
 public:
  static Result<std::unique_ptr<Loop>> make();
  ~UringLoop() override;
  const char* name() const override { return "io_uring"; }

  void run() override;
  void listen(int fd, Listener& listener, size_t index) override;
  void unlisten(Backlog backlog) override;
  void connect(Socket& socket, const sockaddr_in& address) override;
  void read(Socket& socket) override;
  void pause(Socket& socket) override;

 private:
  UringLoop() = default;
  Result<void> open();
  void start_socket(Socket&) override {}
  void start_send(Socket& socket) override;
  bool start_close(Socket& socket) override;
  void shut_now(Socket& socket) override;

  io_uring_sqe* sqe();
  void fill_ring();
  void complete(const io_uring_cqe& cqe);
  void received(Socket& socket, const io_uring_cqe& cqe);
  void accept_next(size_t index);
  void watch_wake();
  void retry_accepts();
  void finish_unlisten();
  void finish_if_free(Socket& socket);

  struct Accepting {
    int fd = -1;
    Listener* listener = nullptr;
    size_t index = 0;
    bool active = false;
  };
  // What a sendmsg or connect points to until it has been submitted.
  struct Message {
    msghdr header{};
    Sending sending{};
    sockaddr_in address{};
  };
  Message& message();

  io_uring ring_{};
  bool open_ = false;
  io_uring_buf_ring* provided_ = nullptr;
  size_t provided_count_ = 0;  // buffers the kernel holds
  std::vector<std::unique_ptr<Message>> messages_;
  size_t messages_used_ = 0;
  std::vector<Accepting> accepting_;
  uint64_t wake_value_ = 0;
  bool accept_failed_ = false;
  bool unlistening_ = false;
  Backlog backlog_ = Backlog::kLeave;
  uint64_t accept_again_at_ = 0;
};

}  // namespace hob::edge
