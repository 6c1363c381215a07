// Control's end of the hosts' links: tells each what to run, and gathers what they report.
//
// Sends from State; writes nothing itself: Cluster's loop takes the reports and stores them. One
// loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/async.h"
#include "base/time.h"
#include "cluster/cluster.h"
#include "cluster/placement.h"
#include "cluster/records.h"
#include "cluster/state.h"
#include "link/link.h"

namespace hob::cluster {

inline constexpr size_t kLogBatchesWaitingMax =
    1000;  // of one host; it sends one per stream and waits for its ack
// An assignment's variables may take 256 KiB, six times that as JSON of odd bytes: so many stay
// below kFrameBytesMax.
inline constexpr size_t kAssignmentsPerMessage = 8;
inline constexpr int kBuildMemoryMib = 4'096;  // of a step (builder/build_sandbox.h)
inline constexpr size_t kReportsWaitingMax =
    100'000;  // tasks with a report not stored yet; beyond: the link ends

class HostGateway {
 public:
  // `changed` is called when hosts come, go or report. Everything must outlive the gateway.
  HostGateway(const State& state, const ClusterPorts& ports, const Clock& clock, AsyncScope& scope,
              Instant started_at, std::function<void()> changed);

  // Serves a host's link until it ends. A second link of one host ends the first.
  Async<> serve(std::shared_ptr<link::Session> session, link::HostHello hello);
  // Sends every host what changed since it was told last.
  void sync();
  // As Cluster's.
  Result<void> order_build(link::BuildOrder order);
  void end_build(const std::string& build);
  // Ends all links.
  void close();

  // Hosts as they are now: those linked, and the records of those that are not.
  std::vector<HostView> hosts() const;
  // Host records that say something else than what is so.
  std::vector<Host> stale_records() const;
  // The newest report of each task that reported, at most `count`; they are forgotten here.
  std::vector<link::TaskReport> take_reports(size_t count);
  // One that could not be stored: comes again, unless a newer one is here.
  void give_back(link::TaskReport report);
  bool has_reports() const { return !reports_.empty(); }

 private:
  struct Link {
    std::shared_ptr<link::Session> session{};
    link::HostHello hello{};
    std::map<TaskId, link::DesiredStatus> told{};
  };
  // Which host does a build, and what it was told over which link.
  struct BuildPlace {
    HostId host{};
    std::weak_ptr<link::Session> session{};
    int64_t lines_taken = 0;
  };
  class Registration;
  link::Assignment assignment(const Task& task) const;
  void welcome(Link& link);
  void sync(Link& link);
  static void send(Link& link, link::Message message);
  void accept(const HostId& host, link::TaskReport report);
  void accept(const HostId& host, link::BuildReport report);
  // The one with most memory left; nullptr: none is linked.
  Link* roomiest();
  static Async<> store_logs(const ClusterPorts& ports, std::shared_ptr<link::Session> session,
                            std::shared_ptr<Channel<link::LogBatch>> batches);

  const State& state_;
  const ClusterPorts& ports_;
  const Clock& clock_;
  AsyncScope& scope_;
  Instant started_at_;
  std::function<void()> changed_;
  std::map<HostId, Link> links_;
  std::map<HostId, Instant> left_at_;
  std::map<TaskId, link::TaskReport> reports_;
  std::map<std::string, BuildPlace> builds_;
};

}  // namespace hob::cluster
