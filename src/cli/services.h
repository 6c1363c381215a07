// Services as the commands see them, through App Runner's API: found by name, followed through an
// operation.
#pragma once

#include <boost/json/fwd.hpp>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/async.h"
#include "base/result.h"
#include "cli/context.h"
#include "cli/terminal.h"

namespace hob::cli {

struct ServiceLine {
  std::string name{};
  std::string id{};
  std::string arn{};
  std::string url{};      // "http://SUBDOMAIN.REGION.hob.localhost:8080"
  std::string status{};   // AWS's word: RUNNING, PAUSED…
  double updated_at = 0;  // seconds since 1970
};

// The URL to type for a service's host name, as App Runner's API gives it.
std::string url_of(const Instance& instance, std::string_view host_name);

// All of the account, in order of name.
Async<Result<std::vector<ServiceLine>>> list_services(Api api);
// How many tasks a service should have, and what those do that it has.
struct Capacity {
  int desired = 0;
  int awake = 0;
  int asleep = 0;  // they have their memory and no CPU, and wake when a request needs them
  int starting = 0;
  std::optional<std::string> failure{};  // its last deployment failed: why
};
using Capacities = std::map<std::string, Capacity>;  // by the service's id
// Of all services of the account; one that never ran is not named.
Async<Result<Capacities>> list_capacity(Api api);
// A sentence for each service that serves although its last deployment failed.
std::vector<std::string> failed_deployments(const std::vector<ServiceLine>& services,
                                            const Capacities& capacities);
// By name, id or ARN. kNotFound: says which there are.
Async<Result<ServiceLine>> find_service(Api api, std::string wanted);
// One App Runner call that names the service by its ARN: "PauseService".
Async<Result<boost::json::object>> call_on_service(Api api, std::string operation, std::string arn);

// How the service's deployments take the requests over, as hob:strategy says it; "rolling".
Async<Result<std::string>> strategy_of(Api api, std::string arn);
// Says so where a deployment will stop on its way, and what can be done then.
void say_strategy(const ServiceLine& service, const std::string& strategy, bool given,
                  Progress& progress);

// Whether App Runner's operation would take the input; nothing is changed. Of an image it is
// checked how it is written alone. App Runner's errors.
Async<Result<void>> check_request(Api api, std::string operation, boost::json::object input);
// Whether hob: tags ([{Key, Value}]) are what they may be; nothing is changed. kInvalid: says what
// would be right.
Async<Result<void>> check_settings(Api api, boost::json::array tags);

// Waits until an operation has ended, showing the service's events as they come. An operation that
// failed is kUnavailable with its reason. `verb` is for the moment's line: "deploying". Events
// before `since` are not shown. Ctrl-C ends the program, not the operation, and says so.
Async<Result<void>> follow_operation(Api api, ServiceLine service, std::string operation_id,
                                     std::string verb, Progress& progress, Instant since = {});

// Waits until an operation has ended, however it did; answers its status.
Async<Result<std::string>> await_operation(Api api, ServiceLine service, std::string operation_id);

// An event log's or an application's group, as App Runner names them.
enum class LogKind { kApplication, kEvents };
std::string log_group(const ServiceLine& service, LogKind kind);

}  // namespace hob::cli
