// What cluster stores. Keys are in cluster/keys.h. Encoded in records.cc.
//
// runner (and later the ECS API) writes Service; cluster's controllers write Deployment progress
// into it, and Tasks.
#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "link/messages.h"

namespace hob::cluster {

using link::Health;
using link::StopCode;
using link::TaskStatus;

// What a task runs; fixed for a deployment.
struct TaskTemplate {
  std::vector<link::Container> containers{};  // log_stream is filled per task: "instance/<task id>"
  int cpu = 1024;
  int memory_mib = 2048;
  std::optional<link::Probe> probe{};
  int port = 8080;  // where requests go
  Duration stop_timeout{30'000};
  link::Isolation isolation = link::Isolation::kDefault;
};
BOOST_DESCRIBE_STRUCT(TaskTemplate, (),
                      (containers, cpu, memory_mib, probe, port, stop_timeout, isolation))

enum class RolloutState { kInProgress, kCompleted, kFailed };
BOOST_DESCRIBE_ENUM(RolloutState, kInProgress, kCompleted, kFailed)

// ECS's deploymentConfiguration.strategy.
enum class DeploymentStrategy { kRolling, kBlueGreen, kLinear, kCanary };
BOOST_DESCRIBE_ENUM(DeploymentStrategy, kRolling, kBlueGreen, kLinear, kCanary)

// A share of the requests that goes to a new version for a while.
struct TrafficStep {
  int percent = 100;  // 1..99
  Duration wait{0};
  bool operator==(const TrafficStep&) const = default;
};
BOOST_DESCRIBE_STRUCT(TrafficStep, (), (percent, wait))

// How a deployment takes the requests over, as ECS's deploymentConfiguration says it; the bounds of
// a rolling one are the service's.
struct DeploymentConfiguration {
  DeploymentStrategy strategy = DeploymentStrategy::kRolling;
  std::vector<TrafficStep> steps{};  // linear and canary: before all requests go to it, ascending
  Duration bake_time{0};  // with all requests, the old version ready, until it has succeeded
  bool operator==(const DeploymentConfiguration&) const = default;
};
BOOST_DESCRIBE_STRUCT(DeploymentConfiguration, (), (strategy, steps, bake_time))

// One version of a service being rolled out, serving, or being replaced (ECS's deployments[],
// newest first).
struct Deployment {
  DeploymentId id{};
  TaskTemplate task{};
  RolloutState rollout = RolloutState::kInProgress;
  std::string reason{};                   // why it failed, for people
  std::vector<std::string> last_lines{};  // of the task that failed last
  int failed_tasks = 0;                   // in a row; a healthy task sets it to 0
  Instant created_at{};
  std::optional<Instant> ended_at{};
  // What its first task found under the image's tag: all others pull this, wherever the tag goes.
  // Empty: no task has pulled yet, or `task` names a digest.
  std::string image_digest{};
  int revision = 0;                       // what the layer above calls it; 0: nothing
  std::vector<std::string> host_names{};  // that lead to this version alone, while it has tasks
  DeploymentConfiguration configuration{};
  // Where its strategy has got to: 0: its tasks are started; n: the n-th of phases_of()
  // (traffic_decision.h) since step_at. Means nothing for a rolling one.
  int step = 0;
  std::optional<Instant> step_at{};
  bool promoted = false;  // somebody wants it to have all requests now, and to succeed
  // Since when it is no more than the way back: ready, asleep as far as nobody asks for it.
  std::optional<Instant> kept_since{};
  std::optional<link::RequestSettings> settings{};  // absent: an older version's, routing's
};
BOOST_DESCRIBE_STRUCT(Deployment, (),
                      (id, task, rollout, reason, last_lines, failed_tasks, created_at, ended_at,
                       image_digest, revision, host_names, configuration, step, step_at, promoted,
                       kept_since, settings))

// How a service's requests are routed; nothing of it makes a deployment. Its time-outs, `sticky`
// and `protocol` hold for deployments without settings of their own.
struct Routing {
  std::vector<std::string> host_names{};
  std::string service_name{};
  link::RouteState state = link::RouteState::kServing;
  int max_concurrency = 100;
  Duration request_timeout{120'000};
  Duration idle_timeout{60'000};
  int awake_min = -1;  // this and the next as in link::Route
  Duration sleep_after{20'000};
  Duration queue_timeout{10'000};
  Duration sticky{0};
  // By host name ("*.domain" too): the id of the account's Certificate that edges show for it.
  std::map<std::string, std::string> certificates{};
  link::TargetProtocol protocol = link::TargetProtocol::kHttp1;
  bool operator==(const Routing&) const = default;
};
BOOST_DESCRIBE_STRUCT(Routing, (),
                      (host_names, service_name, state, max_concurrency, request_timeout,
                       idle_timeout, awake_min, sleep_after, queue_timeout, sticky, certificates,
                       protocol))

enum class ServiceStatus { kActive, kDraining, kInactive };
BOOST_DESCRIBE_ENUM(ServiceStatus, kActive, kDraining, kInactive)

// The desired state comes from the layer above: `desired_count`, `routing`, and a new Deployment
// put in front of `deployments` (kInProgress). The controller moves the rollout on: kCompleted when
// desired_count tasks of it are healthy and routed and the older ones are gone; kFailed when
// kFailedTasksMax tasks in a row never became healthy or nothing fits; a failed deployment's tasks
// are stopped while the newest completed one goes on serving, untouched. To roll back is to write
// nothing: the completed deployment is still in the list. What served before the newest completed
// one is kept for `keep_previous` (kept_since), to be put in front again as kInProgress. Other
// deployments are dropped when their tasks are gone. kDraining: stop every task, then the record is
// removed.
struct Service {
  std::string account{};
  std::string cluster = "apprunner";
  std::string name{};  // runner's service id
  ServiceStatus status = ServiceStatus::kActive;
  int desired_count = 1;
  int minimum_healthy_percent = 100;
  int maximum_percent = 200;
  std::vector<Deployment> deployments{};  // newest first
  Routing routing{};
  Instant created_at{};
  // How long a version's tasks stay once another has taken its place; 0: they go at once. They go
  // earlier where their room is needed, and with the next deployment.
  Duration keep_previous{0};
};
BOOST_DESCRIBE_STRUCT(Service, (),
                      (account, cluster, name, status, desired_count, minimum_healthy_percent,
                       maximum_percent, deployments, routing, created_at, keep_previous))

// One task. The scheduler writes placement and `desired`, the host gateway what the host reported.
struct Task {
  TaskId id{};
  std::string account{};
  std::string cluster{};
  std::string service{};
  DeploymentId deployment{};
  HostId host{};  // empty: not placed yet
  std::string zone{};
  std::string address{};  // free again once STOPPED for kAddressRest (placement.h)
  int cpu = 0;
  int memory_mib = 0;
  link::DesiredStatus desired = link::DesiredStatus::kRunning;
  TaskStatus status = TaskStatus::kProvisioning;
  Health health = Health::kUnknown;
  bool was_healthy = false;
  std::optional<Instant> healthy_at{};  // first, by control's clock
  bool asleep = false;  // frozen by its host; its health is what it was (docs/decisions/sleep.md)
  std::optional<Instant> unhealthy_since{};  // was healthy, is not: since when, by control's clock
  std::string unhealthy_reason{};            // as its host says it; empty: healthy, or not known
  std::optional<Instant> draining_since{};   // out of the routes, waiting for its requests to end
  StopCode stop_code = StopCode::kNone;
  std::string stopped_reason{};
  std::optional<int> exit_code{};
  std::string image_digest{};
  int restarts = 0;
  std::vector<std::string> last_lines{};
  Instant created_at{};
  std::optional<Instant> started_at{};
  std::optional<Instant> stopped_at{};
  std::optional<bool> permanent{};  // link::TaskReport's, of the failure or the ill health
  link::Isolation isolation = link::Isolation::kDefault;
};
BOOST_DESCRIBE_STRUCT(Task, (),
                      (id, account, cluster, service, deployment, host, zone, address, cpu,
                       memory_mib, desired, status, health, was_healthy, healthy_at, asleep,
                       unhealthy_since, unhealthy_reason, draining_since, stop_code, stopped_reason,
                       exit_code, image_digest, restarts, last_lines, created_at, started_at,
                       stopped_at, permanent, isolation))

// A host as control knows it.
struct Host {
  HostId id{};
  std::string zone{};
  std::string version{};
  int cpu = 0;  // what tasks' sizes may add up to
  int memory_mib = 0;
  bool microvm = false;  // as link::HostHello has it
  bool can_microvm = false;
  bool connected = false;
  Instant last_seen{};
};
BOOST_DESCRIBE_STRUCT(Host, (),
                      (id, zone, version, cpu, memory_mib, microvm, connected, last_seen,
                       can_microvm))

// An edge that may be routing requests: after a restart control waits for it before it takes a task
// away.
struct Edge {
  EdgeId id{};
  std::string zone{};
  std::string version{};
};
BOOST_DESCRIBE_STRUCT(Edge, (), (id, zone, version))

// What edges may show for names of the account's services; the routings say for which.
struct Certificate {
  std::string id{};
  std::string account{};
  std::string certificate{};  // PEM, with those above it
  std::string key{};          // PEM; secret: never logged
  Instant created_at{};
  // What its authority says of it (OCSP), shown with it: DER as base64; empty: nothing.
  std::string staple{};
  Instant staple_until{};                    // good for nothing afterwards
  std::optional<Instant> staple_again_at{};  // asked again; absent: now
  int staple_failures = 0;                   // to get one, in a row
  std::string staple_error{};                // the last one, for people
  // Its successor, which waits for its own staple, as clients shall not accept it without; empty:
  // none.
  std::string next_certificate{};
  std::string next_key{};  // secret
  Instant next_at{};       // waits since
};
BOOST_DESCRIBE_STRUCT(Certificate, (),
                      (id, account, certificate, key, created_at, staple, staple_until,
                       staple_again_at, staple_failures, staple_error, next_certificate, next_key,
                       next_at))

// What edges answer an ACME server that asks about a host name, one question at a time.
struct Challenge {
  std::string host_name{};
  std::string token{};
  std::string key_authorization{};
};
BOOST_DESCRIBE_STRUCT(Challenge, (), (host_name, token, key_authorization))

std::string encode(const Service& service);
std::string encode(const Task& task);
std::string encode(const Host& host);
std::string encode(const Edge& edge);
std::string encode(const Certificate& certificate);
std::string encode(const Challenge& challenge);
// Over what was read, so that fields a newer version wrote are kept.
std::string encode_over(const Service& service, std::string_view previous);
std::string encode_over(const Task& task, std::string_view previous);
std::string encode_over(const Certificate& certificate, std::string_view previous);
Result<Service> decode_service(std::string_view json);
Result<Task> decode_task(std::string_view json);
Result<Host> decode_host(std::string_view json);
Result<Edge> decode_edge(std::string_view json);
Result<Certificate> decode_certificate(std::string_view json);
Result<Challenge> decode_challenge(std::string_view json);

}  // namespace hob::cluster
