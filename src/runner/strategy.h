// How a service's deployments take the requests over: the tag hob:strategy (docs/extensions.md).
// Pure; any thread.
//
//   rolling [min=PERCENT] [max=PERCENT]
//   blue-green [bake=DURATION]
//   canary PERCENT DURATION {, PERCENT DURATION} [bake=DURATION]
//   linear PERCENT DURATION [bake=DURATION]      PERCENT more each time
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"
#include "cluster/records.h"

namespace hob::runner {

inline constexpr size_t kTrafficStepsMax = 50;
inline constexpr Duration kStepWaitMax = std::chrono::hours(24);  // ECS's bake time is 1,440 min
inline constexpr int kLinearStepMin = 3;                          // ECS's

struct Strategy {
  cluster::DeploymentConfiguration configuration{};
  int min_percent = 100;  // of rolling ones: healthy tasks never fall below it
  int max_percent = 200;  // nor rise all tasks above it
  bool operator==(const Strategy&) const = default;
};

// kInvalid: says what is wrong.
Result<Strategy> parse_strategy(std::string_view text);
// As it is written: "canary 10% 5m, 50% 5m bake=10m".
std::string show(const Strategy& strategy);
std::string show(Duration duration);
// All its waits: how long a deployment takes at least.
Duration waits_of(const cluster::DeploymentConfiguration& configuration);

}  // namespace hob::runner
