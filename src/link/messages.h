// What travels on a link. Each struct is one message, sent as its name and its JSON (encode/decode
// in messages.cc).
//
// Order of a host's stream: HostHello up; HostWelcome down (the whole of what it should run);
// TaskReport up for every task it has, and then again at each change; AssignmentChange down at each
// change; BuildOrder down, BuildReport up in answer and as it goes on, BuildEnd down. An edge's:
// EdgeHello up; RouteTable and CertificateTable down (the whole, again at each change: versions
// only grow); EdgeReport up every second and when a drained target is idle. Between an edge and a
// host, without control: EdgeHello up; TargetHold up (the whole at first, then changes);
// TargetsAwake down in answer (docs/decisions/sleep.md). Fields are only added, each with a default
// that means what its absence meant (style.md §12).
#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"

namespace hob {
using TaskId = Id<struct TaskTag>;  // 32 hex
using HostId = Id<struct HostTag>;  // 32 hex
using EdgeId = Id<struct EdgeTag>;  // 32 hex
using DeploymentId = Id<struct DeploymentTag>;
}  // namespace hob

namespace hob::link {

// ---- host ----

enum class ProbeProtocol { kTcp, kHttp };
BOOST_DESCRIBE_ENUM(ProbeProtocol, kTcp, kHttp)

// How a host finds out whether a task is healthy. App Runner's defaults. Thresholds: probes in a
// row.
struct Probe {
  ProbeProtocol protocol = ProbeProtocol::kTcp;
  int port = 8080;
  std::string path = "/";
  Duration interval{5000};
  Duration timeout{2000};
  int healthy_threshold = 1;
  int unhealthy_threshold = 5;
  bool operator==(const Probe&) const = default;
};
BOOST_DESCRIBE_STRUCT(Probe, (),
                      (protocol, port, path, interval, timeout, healthy_threshold,
                       unhealthy_threshold))

// Where an image is pulled from and how. `repository` and `digest` name it at `registry`.
struct ImageSource {
  std::string registry{};    // "127.0.0.1:4566", "registry-1.docker.io"
  bool plain_http = false;   // ours on loopback; others speak TLS
  std::string repository{};  // "library/nginx"
  std::string
      reference{};  // a digest "sha256:…" where control knows it (always for ours), else a tag
  std::string username{};  // empty: anonymous
  std::string password{};  // secret: never logged
  bool operator==(const ImageSource&) const = default;
};
BOOST_DESCRIBE_STRUCT(ImageSource, (),
                      (registry, plain_http, repository, reference, username, password))

// A container of a task as the host runs it.
struct Container {
  std::string name{};
  ImageSource image{};
  std::vector<std::string> entry_point{};  // empty: the image's
  std::vector<std::string> command{};      // empty: the image's
  std::map<std::string, std::string> environment{};
  std::string log_group{};
  std::string log_stream{};
  bool operator==(const Container&) const = default;
};
BOOST_DESCRIBE_STRUCT(Container, (),
                      (name, image, entry_point, command, environment, log_group, log_stream))

// What is between a task and its host's other tasks.
enum class Isolation { kDefault, kContainer, kMicrovm };  // kDefault: as its host has it
BOOST_DESCRIBE_ENUM(Isolation, kDefault, kContainer, kMicrovm)

enum class DesiredStatus { kRunning, kStopped };
BOOST_DESCRIBE_ENUM(DesiredStatus, kRunning, kStopped)

// One task that a host should run. Immutable but for `desired` and `restart`, and gone from the
// list when control has seen it STOPPED.
struct Assignment {
  TaskId task{};
  std::string account{};
  std::string service{};  // for logs and cgroup names; empty: a task of its own
  DesiredStatus desired = DesiredStatus::kRunning;
  std::vector<Container>
      containers{};       // exactly one for now; more is refused by the host as a TaskReport
  int cpu = 1024;         // units of 1/1024 vCPU: a limit
  int memory_mib = 2048;  // a limit
  int ephemeral_storage_mib = 3072;  // of the writable layer: a limit where the driver can
  std::string address{};             // "198.18.0.17"
  int prefix_length = 20;            // of its subnet
  std::string gateway{};             // "198.18.0.1", which also answers DNS as "198.18.0.2"
  std::optional<Probe> probe{};      // nullopt: healthy as soon as it runs
  // Once it was healthy, a task whose container exits is started again by the host (same task, same
  // address), with back-off, control alive or dead. Before that, an exit ends the task: STOPPED,
  // and control decides.
  bool restart = true;
  Duration stop_timeout{30'000};  // SIGTERM to SIGKILL
  Isolation isolation = Isolation::kDefault;
  bool operator==(const Assignment&) const = default;
};
BOOST_DESCRIBE_STRUCT(Assignment, (),
                      (task, account, service, desired, containers, cpu, memory_mib,
                       ephemeral_storage_mib, address, prefix_length, gateway, probe, restart,
                       stop_timeout, isolation))

struct HostHello {
  HostId host{};
  std::string zone{};  // "us-east-1a"
  std::string version{};
  int cpu = 0;               // units that tasks' sizes may add up to (overcommit applied)
  int memory_mib = 0;        // likewise
  bool microvm = false;      // tasks start in microVMs: each needs microvm_overhead_mib() as well
  bool can_microvm = false;  // those that ask for it do, whatever the others
};
BOOST_DESCRIBE_STRUCT(HostHello, (), (host, zone, version, cpu, memory_mib, microvm, can_microvm))

// What a task's microVM takes of its host's memory beside the task's own, both in MiB: a kernel,
// its tables, and the monitor. The host's sandbox limits it so.
constexpr int microvm_overhead_mib(int task_mib) { return 64 + task_mib / 32; }

struct HostWelcome {
  std::vector<Assignment> assignments{};  // this host's
  bool more = false;  // another HostWelcome follows: only all of them together are the whole
};
BOOST_DESCRIBE_STRUCT(HostWelcome, (), (assignments, more))

struct AssignmentChange {
  std::vector<Assignment> put{};
  std::vector<TaskId> remove{};  // control has seen these stopped: forget them
};
BOOST_DESCRIBE_STRUCT(AssignmentChange, (), (put, remove))

// ECS's lastStatus, as far as a host knows it.
enum class TaskStatus {
  kProvisioning,
  kPending,
  kActivating,
  kRunning,
  kDeactivating,
  kStopping,
  kDeprovisioning,
  kStopped
};
BOOST_DESCRIBE_ENUM(TaskStatus, kProvisioning, kPending, kActivating, kRunning, kDeactivating,
                    kStopping, kDeprovisioning, kStopped)

enum class Health { kUnknown, kHealthy, kUnhealthy };
BOOST_DESCRIBE_ENUM(Health, kUnknown, kHealthy, kUnhealthy)

// ECS's stopCode.
enum class StopCode {
  kNone,
  kTaskFailedToStart,
  kEssentialContainerExited,
  kUserInitiated,
  kServiceSchedulerInitiated
};
BOOST_DESCRIBE_ENUM(StopCode, kNone, kTaskFailedToStart, kEssentialContainerExited, kUserInitiated,
                    kServiceSchedulerInitiated)

// The whole of what a host knows of one task: repeating it does no harm.
struct TaskReport {
  TaskId task{};
  TaskStatus status = TaskStatus::kPending;
  Health health = Health::kUnknown;
  StopCode stop_code = StopCode::kNone;
  std::string reason{};  // "CannotPullContainerError: …", "Essential container in task exited"
  std::optional<int> exit_code{};
  std::string image_digest{};  // once pulled
  int restarts = 0;
  std::vector<std::string>
      last_lines{};  // of its output (at most 20 × 1 kB), when it stopped or is unhealthy
  std::optional<Instant> pull_started_at{};
  std::optional<Instant> pull_stopped_at{};
  std::optional<Instant> started_at{};
  std::optional<Instant> stopped_at{};
  bool asleep = false;  // frozen: it has its memory and no CPU; its health is what it was
  // It failed, or is unhealthy, in a way that trying again would not change: no such image or
  // program, the application listens elsewhere. Absent: an older host, whose reason's words tell.
  std::optional<bool> permanent{};
  bool operator==(const TaskReport&) const = default;
};
BOOST_DESCRIBE_STRUCT(TaskReport, (),
                      (task, status, health, stop_code, reason, exit_code, image_digest, restarts,
                       last_lines, pull_started_at, pull_stopped_at, started_at, stopped_at, asleep,
                       permanent))

struct LogLine {
  Instant at{};
  std::string text{};
};
BOOST_DESCRIBE_STRUCT(LogLine, (), (at, text))

// Lines of one stream. The host sends the next batch of a stream after LogAck; `position` is the
// host's own offset after this batch, which makes a repeated batch harmless: control keeps the last
// position of each stream.
struct LogBatch {
  std::string account{};
  std::string group{};
  std::string stream{};
  int64_t position = 0;
  std::vector<LogLine> lines{};
};
BOOST_DESCRIBE_STRUCT(LogBatch, (), (account, group, stream, position, lines))

struct LogAck {
  std::string group{};
  std::string stream{};
  int64_t position = 0;  // stored up to here
};
BOOST_DESCRIBE_STRUCT(LogAck, (), (group, stream, position))

// A build that a host is to do, or to go on with: repeating it does no harm, and tells which of its
// lines are kept.
struct BuildOrder {
  std::string build{};  // names it
  std::string account{};
  std::string service{};  // for logs
  std::string url{};      // the repository's
  std::string branch{};
  std::string source_directory{};  // empty: all of it
  // Empty: apprunner.yaml says what the next ones do.
  std::string runtime{};  // as that file would name it
  std::string build_command{};
  std::string start_command{};
  ImageSource target{};     // where the image goes; `reference` is a tag
  int64_t lines_taken = 0;  // control has so many: the next report begins there
};
BOOST_DESCRIBE_STRUCT(BuildOrder, (),
                      (build, account, service, url, branch, source_directory, runtime,
                       build_command, start_command, target, lines_taken))

// Nobody waits for it any more: it is ended, and forgotten.
struct BuildEnd {
  std::string build{};
};
BOOST_DESCRIBE_STRUCT(BuildEnd, (), (build))

enum class BuildState { kRunning, kSucceeded, kFailed };
BOOST_DESCRIBE_ENUM(BuildState, kRunning, kSucceeded, kFailed)

// How far a build is, and the lines it printed since those that control has. An end comes with the
// last of them.
struct BuildReport {
  std::string build{};
  BuildState state = BuildState::kRunning;
  int64_t first_line = 0;  // of all of the build's, the number of the first in `lines`
  std::vector<std::string> lines{};
  std::string commit{};  // once it is fetched
  std::string digest{};  // of the image, once it succeeded; likewise the next
  int port = 0;
  std::string reason{};  // why it failed, for people
  bool again = false;    // it failed for no fault of the application's
  bool operator==(const BuildReport&) const = default;
};
BOOST_DESCRIBE_STRUCT(BuildReport, (),
                      (build, state, first_line, lines, commit, digest, port, reason, again))

// ---- edge ----

enum class TargetState { kReady, kDraining };
BOOST_DESCRIBE_ENUM(TargetState, kReady, kDraining)

struct Target {
  TaskId task{};
  std::string address{};
  int port = 0;
  TargetState state = TargetState::kReady;  // draining: no new requests
  std::string zone{};                       // "us-east-1a"; empty: not known
  std::string version{};                    // names one of its route's versions; empty: the only
  bool operator==(const Target&) const = default;
};
BOOST_DESCRIBE_STRUCT(Target, (), (task, address, port, state, zone, version))

// What a route's targets speak. kHttp2: without TLS, by prior knowledge (gRPC).
enum class TargetProtocol { kHttp1, kHttp2 };
BOOST_DESCRIBE_ENUM(TargetProtocol, kHttp1, kHttp2)

// How a version's requests are served.
struct RequestSettings {
  TargetProtocol protocol = TargetProtocol::kHttp1;
  Duration request_timeout{120'000};  // whole request; 0: none
  Duration idle_timeout{60'000};      // between bytes
  Duration sticky{0};  // a client returns to its target for so long, by cookie; 0: it does not
  bool operator==(const RequestSettings&) const = default;
};
BOOST_DESCRIBE_STRUCT(RequestSettings, (), (protocol, request_timeout, idle_timeout, sticky))

// One of the versions of a service that have targets at the same time: being rolled out, serving,
// or kept for a way back. Each is balanced and put to sleep on its own.
struct RouteVersion {
  std::string id{};  // the deployment's
  // Its share of the requests to the route's host names is weight / the sum of all weights.
  // 0: none of them, while another version has a target.
  int weight = 0;
  std::vector<std::string> host_names{};  // that lead to this version alone; lower case, no port
  int awake_min = -1;                     // as the route's, in its stead
  std::optional<RequestSettings> settings{};  // likewise; absent: an older control's, the route's
  bool operator==(const RouteVersion&) const = default;
};
BOOST_DESCRIBE_STRUCT(RouteVersion, (), (id, weight, host_names, awake_min, settings))

// What a service does with requests: kPaused and kFailed answer 503 with a page that says so.
enum class RouteState { kServing, kPaused, kDeploying };
BOOST_DESCRIBE_ENUM(RouteState, kServing, kPaused, kDeploying)

struct Route {
  std::string account{};
  std::string service{};                  // runner's service id, for metrics and logs
  std::string service_name{};             // for people
  std::vector<std::string> host_names{};  // lower case, no port
  RouteState state = RouteState::kServing;
  int max_concurrency = 100;          // requests a target takes at once
  Duration request_timeout{120'000};  // this, the next, `protocol` and `sticky`: RequestSettings
  Duration idle_timeout{60'000};
  std::vector<Target> targets{};
  // Targets that stay awake without visitors; those beyond sleep when they are not needed. -1: none
  // ever sleeps.
  int awake_min = -1;
  Duration sleep_after{20'000};    // the last target goes to sleep after so long without requests
  Duration queue_timeout{10'000};  // how long a request waits for a free target; then 503
  std::vector<RouteVersion> versions{};  // empty: its targets are all of one
  TargetProtocol protocol = TargetProtocol::kHttp1;
  Duration sticky{0};
  bool operator==(const Route&) const = default;
};
BOOST_DESCRIBE_STRUCT(Route, (),
                      (account, service, service_name, host_names, state, max_concurrency,
                       request_timeout, idle_timeout, targets, awake_min, sleep_after,
                       queue_timeout, versions, protocol, sticky))

struct EdgeHello {
  EdgeId edge{};
  std::string zone{};
  std::string version{};
};
BOOST_DESCRIBE_STRUCT(EdgeHello, (), (edge, zone, version))

// An answer to an ACME server's HTTP-01 question (RFC 8555 section 8.3), which the edge gives
// itself.
struct AcmeChallenge {
  std::string host_name{};  // lower case, no port
  std::string token{};
  std::string key_authorization{};
  bool operator==(const AcmeChallenge&) const = default;
};
BOOST_DESCRIBE_STRUCT(AcmeChallenge, (), (host_name, token, key_authorization))

struct RouteTable {
  int64_t version = 0;
  std::vector<Route> routes{};  // all of this edge's
  std::vector<AcmeChallenge> challenges{};
};
BOOST_DESCRIBE_STRUCT(RouteTable, (), (version, routes, challenges))

// A certificate that edges show for names of services, beside those that they have in files.
struct EdgeCertificate {
  std::string id{};
  std::vector<std::string> host_names{};  // that it is shown for; "*.domain" stands for one label
  std::string certificate{};              // PEM, with those above it
  std::string key{};                      // PEM; secret: never logged
  // What its authority says of it (OCSP), shown with it until then: DER as base64; empty: nothing.
  std::string staple{};
  Instant staple_until{};
  bool operator==(const EdgeCertificate&) const = default;
};
BOOST_DESCRIBE_STRUCT(EdgeCertificate, (), (id, host_names, certificate, key, staple, staple_until))

struct CertificateTable {
  int64_t version = 0;
  std::vector<EdgeCertificate> certificates{};  // all of this edge's
  bool more = false;  // another CertificateTable follows: only all of them together are the whole
  bool operator==(const CertificateTable&) const = default;
};
BOOST_DESCRIBE_STRUCT(CertificateTable, (), (version, certificates, more))

struct TargetLoad {
  TaskId task{};
  int in_flight = 0;
};
BOOST_DESCRIBE_STRUCT(TargetLoad, (), (task, in_flight))

struct ServiceLoad {
  std::string service{};
  int in_flight = 0;
  int queued = 0;
  int64_t requests_total = 0;  // ended ones; this and the next two only grow while the edge lives
  int64_t in_flight_us = 0;    // the integral of in_flight (queued ones among them) over time
  int64_t service_us = 0;      // of ended requests: time from head to end, without what they queued
  bool short_of_targets = false;  // requests wait, and no sleeping target is left to be woken
};
BOOST_DESCRIBE_STRUCT(ServiceLoad, (),
                      (service, in_flight, queued, requests_total, in_flight_us, service_us,
                       short_of_targets))

// How one version of a service does. Both counts only grow while the edge lives.
struct VersionLoad {
  std::string service{};
  std::string version{};
  int64_t requests_total = 0;  // ended ones that were given to a target of it
  // Of those, answered 5xx by the target, or not at all: refused, reset, malformed, timed out.
  int64_t failures_total = 0;
};
BOOST_DESCRIBE_STRUCT(VersionLoad, (), (service, version, requests_total, failures_total))

struct EdgeReport {
  int64_t applied_version = 0;          // every loop of the edge uses this table or a newer one
  std::vector<TargetLoad> targets{};    // those with requests in flight, and all draining ones
  std::vector<ServiceLoad> services{};  // those with any load since the last report
  std::vector<VersionLoad> versions{};  // those with requests ended since the last report
  // Another edge has taken its listening sockets over, and it ends with its last connection: once
  // its link has ended, nobody need wait for it.
  bool leaving = false;
  int64_t certificates_version = 0;  // new connections are shown this table's; 0: none came
};
BOOST_DESCRIBE_STRUCT(EdgeReport, (),
                      (applied_version, targets, services, versions, leaving, certificates_version))

// ---- edge and host ----

// What an edge needs awake. The first after EdgeHello names all it holds; repeats do no harm.
struct TargetHold {
  std::vector<TaskId> hold{};  // shall be awake, from now on until released
  // This edge sends it nothing any more: it may sleep. Also of what it never held: an edge that is
  // new names here, at first, what may sleep and it does not need.
  std::vector<TaskId> release{};
};
BOOST_DESCRIBE_STRUCT(TargetHold, (), (hold, release))

// The answer to each hold: once the task runs, or that it cannot.
struct TargetsAwake {
  std::vector<TaskId> awake{};
  std::vector<TaskId> unknown{};  // not running here (any more)
};
BOOST_DESCRIBE_STRUCT(TargetsAwake, (), (awake, unknown))

// ---- encoding, in messages.cc ----

struct Message {
  std::string type{};  // "TaskReport"
  std::string body{};  // JSON
};

#define HOB_LINK_MESSAGES(X)                                                                  \
  X(HostHello)                                                                                \
  X(HostWelcome)                                                                              \
  X(AssignmentChange)                                                                         \
  X(TaskReport)                                                                               \
  X(LogBatch)                                                                                 \
  X(LogAck)                                                                                   \
  X(EdgeHello)                                                                                \
  X(RouteTable) X(EdgeReport) X(TargetHold) X(TargetsAwake) X(CertificateTable) X(BuildOrder) \
      X(BuildEnd) X(BuildReport)
#define HOB_LINK_DECLARE(T)         \
  Message encode(const T& message); \
  Result<void> decode(const Message& message, T& into);
HOB_LINK_MESSAGES(HOB_LINK_DECLARE)
#undef HOB_LINK_DECLARE

// For an edge's own disk, where it keeps what it was last told.
std::string encode_json(const RouteTable& message);
Result<RouteTable> decode_route_table(std::string_view json);
std::string encode_json(const CertificateTable& message);
std::string encode_json(const EdgeCertificate& certificate);
Result<CertificateTable> decode_certificate_table(std::string_view json);

}  // namespace hob::link
