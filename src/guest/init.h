// The init of a microVM: one loop over the host's orders and the containers' output, ends and
// health.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "guest/depends.h"
#include "guest/frame.h"
#include "guest/health.h"
#include "guest/program.h"

namespace hob::guest {

// Output that the host has not taken; beyond, containers wait with theirs.
inline constexpr size_t kUnsentBytesMax = 256 * 1024;
inline constexpr size_t kOrderConnectionsMax = 64;

class Init {
 public:
  // `report`: connected to the host. `orders`: listening.
  Init(Fd report, Fd orders);
  // Until the host has closed its connection.
  Result<void> run();

 private:
  struct Running {
    ContainerView view{};
    std::optional<Prepared> prepared{};
    pid_t process = -1;  // -1: not started, or ended and waited for
    Fd output{}, errors{};
    int exit_code = 0;
    Health health{};
    pid_t check = -1;
  };
  struct Connection {
    Fd fd{};
    FrameReader reader{kOrderBytesMax};
  };

  void watch(int fd, uint32_t events);
  void ready(int fd);
  bool hear_host();
  Result<void> begin(Start start);
  void start_what_can();
  void start_container(int index);
  void read_output(int index, Fd& from, FrameKind kind);
  void reap();
  void ended(int index);
  void check_health();
  int until_next_check() const;
  void accept_orders();
  void hear_orders(int fd);
  void carry_out(Connection& connection, const Order& order);
  void report(const Report& report);
  void send(FrameKind kind, int container, std::string_view body);
  void flush();
  void pause_output(bool paused);

  Fd report_;
  Fd orders_;
  Fd signals_;
  Fd epoll_;
  FrameReader reader_{kOrderBytesMax};
  std::optional<Start> start_;
  std::vector<Running> containers_;
  std::map<int, Connection> connections_;
  std::string unsent_;
  size_t unsent_at_ = 0;
  bool paused_ = false;
  bool host_gone_ = false;
};

}  // namespace hob::guest
