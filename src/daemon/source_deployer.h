// Host's side of a push: builds and deploys one commit of the git remote, as `hob deploy` does
// when somebody calls it here, and tells control line by line what it says.
//
// Building takes root, which control has not: it asks over a socket that only its user may connect
// to. A deployment whose asker is gone is ended; what control's records already hold goes on.
#pragma once

#include <filesystem>
#include <memory>

#include "base/async.h"
#include "base/http.h"
#include "base/result.h"

namespace hob::daemon {

inline constexpr size_t kDeploymentsMax = 4;  // at once; beyond: 503
// A build of each of its steps' half hour, and the slowest strategy.
inline constexpr Duration kDeploymentWithin{26 * 3'600'000};

// Where host listens, in the instance's data.
std::filesystem::path deployer_socket(const std::filesystem::path& data);

// Serves POST /deploy (git/deploy_order.h) on that socket. Stop it before the loop ends.
// nullptr: control is not of this machine, and nobody would ask.
Result<std::unique_ptr<http::Server>> serve_deployments(Executor executor,
                                                        std::filesystem::path data,
                                                        uint16_t api_port);

}  // namespace hob::daemon
