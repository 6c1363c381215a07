// Which container of a microVM starts when: ECS's dependsOn. Pure.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "guest/protocol.h"

namespace hob::guest {

enum class ContainerState { kWaiting, kRunning, kHealthy, kExited };
struct ContainerView {
  ContainerState state = ContainerState::kWaiting;
  int exit_code = 0;  // of one that has exited, or could not be started
};

// kInvalid: a name twice, one that is not there, a circle, or a wait for the health of one that has
// no health check.
Result<void> check_dependencies(const std::vector<Container>& containers);

struct Decision {
  std::vector<int> start{};   // now, in this order
  std::vector<int> refuse{};  // will never be: what they wait for cannot come
};
Decision decide_start(const std::vector<Container>& containers,
                      const std::vector<ContainerView>& views);

}  // namespace hob::guest
