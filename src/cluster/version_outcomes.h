// What edges say of how requests to each version of a service end, summed over the edges.
//
// Plain bookkeeping: no I/O, and the time comes in. Belongs to control's loop, and forgotten with
// the process: then requests count from there on.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>

#include "base/time.h"
#include "cluster/traffic_decision.h"
#include "link/messages.h"

namespace hob::cluster {

inline constexpr Duration kOutcomesWindow{60'000};  // `lately`: this and the window before it
inline constexpr Duration kOutcomesKept = std::chrono::hours(24);  // of a version nobody asks for
inline constexpr size_t kVersionsMax = 10'000;                     // a further one is not looked at
// Each upgrade makes a new edge; beyond, the one that was silent for longest is forgotten.
inline constexpr size_t kOutcomeEdgesMax = 256;

class OutcomeTracker {
 public:
  // One report. Answers the services (link::Route's names of them) of whose versions it tells.
  std::set<std::string> reported(const EdgeId& edge, const link::EdgeReport& report, Instant now);
  // Of a version nobody told of: zeros.
  VersionOutcomes of(const std::string& service, const DeploymentId& version) const;

 private:
  void forget_edge();  // the one silent for longest
  struct Version {
    std::map<EdgeId, Outcomes> last{};  // each edge's counters
    Outcomes all{};
    Outcomes before{};  // the window before the one that began at `begun_at`
    Outcomes current{};
    Instant begun_at{};
    Instant told_at{};
  };
  std::map<std::pair<std::string, std::string>, Version> versions_;
  // Have reported, and when last: what they count of a new version is all there is.
  std::map<EdgeId, Instant> edges_;
};

}  // namespace hob::cluster
