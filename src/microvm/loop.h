// The machine's one event loop: files that become readable or writable. The
// devices, the API and the clean-up of vCPUs all live on it; nothing it calls may block for long.
#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "base/file.h"
#include "base/result.h"

namespace hob::microvm {

class Loop {
 public:
  using Callback = std::function<void(uint32_t events)>;  // epoll's bits

  static Result<std::unique_ptr<Loop>> create();

  // Until `forget`; `fd` must stay open so long. The callback may forget itself or others.
  Result<void> watch(int fd, uint32_t events, Callback callback);
  Result<void> change(int fd, uint32_t events);
  void forget(int fd);

  // Returns after `stop`, which may come from a callback.
  void run();
  // Calls back for what is ready, which it waits for so long; -1: for ever.
  void turn(int milliseconds);
  void stop() { stopped_ = true; }

 private:
  Loop() = default;
  Fd epoll_;
  std::map<int, std::shared_ptr<Callback>> callbacks_;
  bool stopped_ = false;
};

}  // namespace hob::microvm
