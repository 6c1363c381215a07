// The loop on epoll, for kernels and containers that forbid io_uring. Edge-triggered; reads in
// turns, so that one busy connection does not hold up the others.
#pragma once

#include <memory>
#include <vector>

#include "edge/loop.h"

namespace hob::edge {

class EpollLoop final : public Loop {
 public:
  static Result<std::unique_ptr<Loop>> make();
  const char* name() const override { return "epoll"; }

  void run() override;
  void listen(int fd, Listener& listener, size_t index) override;
  void unlisten(Backlog backlog) override;
  void connect(Socket& socket, const sockaddr_in& address) override;
  void read(Socket& socket) override;
  void pause(Socket& socket) override;

 private:
  EpollLoop() = default;
  void start_socket(Socket& socket) override;
  void start_send(Socket& socket) override;
  bool start_close(Socket& socket) override;
  void shut_now(Socket& socket) override;

  void accept_all(size_t index);
  void event(Socket& socket, uint32_t events);
  void read_some(Socket& socket);

  struct Accepting {
    int fd = -1;
    Listener* listener = nullptr;
    size_t index = 0;
  };

  Fd epoll_;
  std::vector<Accepting> accepting_;
  std::vector<Socket*> ready_;
};

}  // namespace hob::edge
