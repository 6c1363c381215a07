// The controller's brain: a service, its operation and what cluster has made of them -> what to
// write next.
//
// Pure (no clock, no I/O, no state). An operation goes: PENDING (the API accepted it) -> the
// cluster service is written
// (`applied`) -> the rollout, or the tasks' end, decides. Everything is taken from the records, so
// that doing it again after a crash does the same or nothing. A service without an operation is
// only kept in step (routing, and as many tasks as scale.h plans) and, with automatic deployments,
// given a deployment when its tag names another image.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/time.h"
#include "cluster/records.h"
#include "runner/images.h"
#include "runner/records.h"
#include "runner/rollout.h"
#include "runner/scale.h"

namespace hob::runner {

// Beside the waits of its strategy. Cluster fails a rollout long before; this ends the operation
// should nobody else do it. Above what cluster gives tasks to start, failed ones to be tried again,
// and the old ones to drain (decide.cc holds them together).
inline constexpr Duration kRolloutTimeMax = std::chrono::minutes(120);
// For all tasks to be gone, once told: above cluster's longest drain.
inline constexpr Duration kStopTimeMax = std::chrono::minutes(90);
inline constexpr Duration kResolveRetryDelay =
    std::chrono::seconds(1);  // the registry did not answer
inline constexpr Duration kResolveTimeMax = std::chrono::seconds(60);
// A deleted service can still be described so long; AWS says "a time".
inline constexpr Duration kDeletedKept = std::chrono::hours(1);
// From the order to the image: above what a host gives a build.
inline constexpr Duration kBuildTimeMax = std::chrono::minutes(130);
inline constexpr Duration kBuildAskEvery = std::chrono::seconds(5);  // is it still on some host?
inline constexpr int kBuildAttemptsMax = 3;       // of those that fail for no fault of the source
inline constexpr size_t kBuildLinesPerStep = 50;  // into the log, in one transaction
inline constexpr size_t kLastLinesMax = 20;       // of a failed task's output in the deployment log

struct RunnerView {
  Service service{};
  std::optional<Operation> operation{};  // the one named by service.operation
  std::optional<cluster::Service> cluster{};
  bool tasks_left = false;  // some task of it may still run; one told to stop on a host that is
                            // away does not count
  std::vector<cluster::Task> tasks{};                 // of its account; others' are not looked at
  Load load{};                                        // as the edges tell it
  std::optional<AutoScalingConfiguration> scaling{};  // the configuration's; nullopt: gone
  // What is to be deployed: configuration.image, at the operation's digest if it has one. nullopt:
  // not asked.
  std::optional<Result<ResolvedImage>> image{};
  // Of a code service: what its host said last of the build that goes on. nullopt: nothing yet.
  std::optional<link::BuildReport> build{};
  std::string build_image{};   // what the image of the operation's build is called
  std::string operation_id{};  // fresh, should an operation be begun
};

struct ResolveImage {};  // ask, and decide again with the answer
struct PutService {
  Service service{};
};
struct PutOperation {
  Operation operation{};
};
struct PutCluster {
  cluster::Service service{};
};
struct PutRevision {
  Revision revision{};
};
// The revision that serves is served otherwise now; nothing if there is no record of it.
struct AmendRevision {
  int number = 0;
  link::RequestSettings settings{};
};
struct ReleaseName {};  // the name and the subdomain are free
struct Forget {};       // the service's, its operations' and its revisions' records go
// Lines for the event log, and for the operation's deployment log. Their position is the record's
// count after them.
struct LogLines {
  std::vector<std::string> events{};
  std::vector<std::string> deployment{};
};
// How many tasks it should have, for the scaler, which tells when load asks for another decision.
struct WatchLoad {
  ScaleLimits limits{};
  Fleet fleet{};
  Duration start_time{0};
  ScalePlan plan{};
};
// After the transaction, whether or not there is one: a host builds that, or goes on with it.
struct OrderBuild {
  link::BuildOrder order{};
};
// Likewise: nobody waits for it any more.
struct EndBuild {
  std::string build{};
};
struct WakeAt {
  Instant at{};
};
// All puts and removals of one decision are one transaction; LogLines are written before it.
using RunnerAction =
    std::variant<ResolveImage, PutService, PutOperation, PutCluster, PutRevision, AmendRevision,
                 ReleaseName, Forget, LogLines, WatchLoad, WakeAt, OrderBuild, EndBuild>;

// The build that an operation waits for, or waited for last.
std::string build_of(const Operation& operation);

std::vector<RunnerAction> decide_runner(const RunnerView& view, Instant now);

}  // namespace hob::runner
