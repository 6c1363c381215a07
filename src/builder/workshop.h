// Where a build's steps run, made when the first one is to: a build slot, its name server, a
// sandbox. A build of nothing new never needs it. Blocking; one thread.
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>

#include "base/result.h"
#include "builder/build_sandbox.h"

namespace hob::builder {

class Workshop {
 public:
  // `state`: as BuildSlot's. `cancelled` must outlive the workshop.
  Workshop(std::filesystem::path state, const std::atomic<bool>& cancelled);
  ~Workshop();
  // The same one each time. kLimit: too many builds run. kUnavailable.
  Result<BuildSandbox*> sandbox();

 private:
  struct Rooms;
  std::filesystem::path state_;
  const std::atomic<bool>& cancelled_;
  std::unique_ptr<Rooms> rooms_;
};

}  // namespace hob::builder
