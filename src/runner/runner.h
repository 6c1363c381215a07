// The runner as control has it: the API's handler and the controller behind it.
#pragma once

#include <memory>
#include <string>

#include "aws/apprunner/handler.h"
#include "base/async.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/time.h"
#include "link/messages.h"
#include "observe/logs.h"
#include "runner/builders.h"
#include "runner/domain_controller.h"
#include "runner/images.h"
#include "store/store.h"

namespace hob::runner {

struct RunnerOptions {
  std::string region = "us-east-1";
  std::string url_suffix = "hob.localhost";  // service URLs: SUBDOMAIN.REGION.<this>
  Secret<std::string> sealing_key{};         // of secrets in records (base/sealed.h)
  Builders* builders = nullptr;  // outlives it; none: deployments of sources wait for their time
};

class Api;

class Runner {
 public:
  // All must outlive it; it belongs to `executor`'s loop.
  Runner(store::Store& store, Executor executor, Clock& clock, Random& random, Images& images,
         observe::Logs& logs, DomainPorts domains, RunnerOptions options);
  ~Runner();
  // The controller goes on where the records say; the API works before, too.
  void start();
  Async<> stop();
  // What an edge says of its load, for scaling; cluster's port.
  void edge_reported(const EdgeId& edge, const link::EdgeReport& report);
  // What a host says of a build; cluster's port, likewise.
  void build_reported(link::BuildReport report);
  // App Runner's API, and what Hob has beyond it.
  Api& api();

 private:
  class Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace hob::runner
