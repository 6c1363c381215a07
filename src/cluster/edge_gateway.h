// Control's end of the edges' links: sends each the route table, hears what they do with it. One
// loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/async.h"
#include "base/time.h"
#include "cluster/cluster.h"
#include "cluster/edge_tracker.h"
#include "cluster/records.h"
#include "cluster/version_outcomes.h"
#include "link/link.h"

namespace hob::cluster {

// A message to an edge carries certificates up to so many bytes of JSON, or one; each is bounded
// (kChainBytesMax and the like), far below what a frame of the link takes.
inline constexpr size_t kCertificateMessageBytes = 4 * 1024 * 1024;
static_assert(4 * kCertificateMessageBytes <= link::kFrameBytesMax);

class EdgeGateway {
 public:
  // `changed` is called when some task's Traffic may have changed, `told` with the services of
  // whose versions an edge has told. Everything must outlive the gateway.
  EdgeGateway(const ClusterPorts& ports, const Clock& clock, Instant started_at,
              std::function<void()> changed,
              std::function<void(const std::set<std::string>& services)> told);

  // Serves an edge's link until it ends. A second link of one edge ends the first.
  Async<> serve(std::shared_ptr<link::Session> session, link::EdgeHello hello);
  // The routes that are so at the store's `revision`; sent if they differ from those sent last. The
  // table's version follows from that revision, so that it grows over control's restarts, too.
  void publish(std::vector<link::Route> routes, std::vector<link::AcmeChallenge> challenges,
               int64_t revision);
  // The certificates, likewise.
  void publish(std::vector<link::EdgeCertificate> certificates, int64_t revision);
  // Whether there are edges, and all of them answer that question, or show that certificate for the
  // host name, now.
  bool all_answer(const link::AcmeChallenge& challenge) const;
  bool all_show(const std::string& shown_id, const std::string& host_name) const;
  // Edges that an earlier control knew, before any is served.
  void expect(const std::vector<EdgeId>& edges);
  // Those linked now.
  std::vector<Edge> edges() const;
  // Ends all links.
  void close();
  const EdgeTracker& tracker() const { return tracker_; }
  const OutcomeTracker& outcomes() const { return outcomes_; }

 private:
  class Registration;
  // The table as it is.
  void send(link::Session& session);
  void send_certificates(link::Session& session);

  const ClusterPorts& ports_;
  const Clock& clock_;
  std::function<void()> changed_;
  std::function<void(const std::set<std::string>& services)> told_;
  EdgeTracker tracker_;
  OutcomeTracker outcomes_{};
  link::RouteTable table_{};
  bool published_ = false;
  link::CertificateTable certificates_{};
  struct Link {
    std::shared_ptr<link::Session> session{};
    Edge edge{};
    int64_t applied_version = 0;  // as it last said, as the next
    int64_t certificates_version = 0;
  };
  std::map<EdgeId, Link> links_;
};

}  // namespace hob::cluster
