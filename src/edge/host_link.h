// An edge's link to a host: names the tasks that shall be awake and hears when they are
// (docs/decisions/sleep.md).
//
// On the main thread. Connects for as long as it runs, and tells the whole of what is held each
// time.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/async.h"
#include "link/messages.h"

namespace hob::link {
class Session;
}

namespace hob::edge {

// The first is short: a request may be waiting for what is told.
inline constexpr Duration kHostRetryMin{5};
inline constexpr Duration kHostRetryMax{100};

class HostLink {
 public:
  struct Calls {
    std::function<link::TargetHold()> whole{};  // all that shall be awake now, and what may sleep
    std::function<void(const link::TargetsAwake&)> answered{};
  };
  // Coroutines live in `scope`, which must outlive this.
  HostLink(AsyncScope& scope, std::string socket, link::EdgeHello hello, Calls calls);
  // A change of what is held. While the host is away it is dropped: the whole is told at the next
  // connection.
  void tell(const link::TargetHold& change);
  Async<> run();
  void close();

 private:
  // Until the link ends. True: it had begun well.
  Async<bool> follow(std::shared_ptr<link::Session> session);

  AsyncScope& scope_;
  std::string socket_;
  link::EdgeHello hello_;
  Calls calls_;
  std::shared_ptr<link::Session> session_;
};

}  // namespace hob::edge
