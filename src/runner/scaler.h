// What edges report, kept as decide_scale() wants it: for each watched service the work it is
// offered, and the peaks of what that needed.
//
// Plain bookkeeping: no I/O, and the time comes in. Belongs to control's loop. Everything is
// forgotten with the process; then nothing is scaled in before edges have told for a full window.
// Counters of reports are integrals, so that a late report loses nothing: work is measured over
// windows of kWindow or more.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/time.h"
#include "link/messages.h"
#include "runner/scale.h"

namespace hob::runner {

inline constexpr Duration kWindow{1'000};       // edges report as often
inline constexpr Duration kBurstSpan{250};      // a burst is not measured over less
inline constexpr Duration kEdgeSilent{60'000};  // an edge that says nothing is gone: 60 reports
inline constexpr Duration kLoadStale{5'000};    // its load is no reason for more tasks any longer
inline constexpr size_t kEdgesMax = 256;        // a further edge's reports are not looked at
inline constexpr int kServiceTimeMemory = 50;   // requests after which half of the mean is new
inline constexpr size_t kPeaksMax = kKeep / kWindow + 1;  // of a service; apart by kWindow or more

class Scaler {
 public:
  // From now on reports about it count. `start_time`: of its tasks, as far as known. `plan`: what
  // was decided on; reported() answers when that is to be decided anew.
  void watch(const std::string& service, const ScaleLimits& limits, const Fleet& fleet,
             Duration start_time, const ScalePlan& plan);
  // It is paused or gone: what was known of its work means nothing later.
  void forget(const std::string& service);
  // One report. Answers the services to decide about, each once until it is watched again.
  std::vector<std::string> reported(const EdgeId& edge, const link::EdgeReport& report,
                                    Instant now);
  // Of a service that is not watched, or of which nobody has told: no peaks.
  Load load(const std::string& service, Instant now) const;

 private:
  // What one edge does with one service, since the window began.
  struct Window {
    Instant begun_at{};
    link::ServiceLoad first{};
    link::ServiceLoad last{};
    double demand = 0;  // of the window before, or more if this one shows it beyond chance
    bool quiet() const { return demand == 0 && last.in_flight == 0; }
  };
  struct Edge {
    Instant told_at{};
    std::map<std::string, Window> windows{};
  };
  struct Service {
    ScaleLimits limits{};
    Fleet fleet{};
    Duration start_time{0};
    ScalePlan plan{};
    bool told = false;  // its controller is about to decide
    double service_time = 0;
    std::deque<Peak> peaks{};
    std::optional<Instant> last_visit{};
  };

  void drop_silent(Instant now, std::set<std::string>& touched);
  // Takes a service's counters into the edge's window.
  void measure(Window& window, const link::ServiceLoad& load, Service& service, Instant now);
  // Seconds; 0: not known, and tasks hold requests that may be long.
  static double service_time_of(const Service& service, const link::ServiceLoad& load);
  void push(Service& service, double slots, Instant now) const;
  Work work_of(const std::string& id, const Service& service, Instant now) const;
  Load load_of(const std::string& id, const Service& service, Instant now) const;

  std::map<EdgeId, Edge> edges_;
  std::map<std::string, Service> services_;
  Instant heard_since_{};  // while there are edges
};

}  // namespace hob::runner
