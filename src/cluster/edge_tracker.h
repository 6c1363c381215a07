// What the edges know and do, as far as their reports tell: may a task be counted on, may it be
// stopped?
//
// Plain bookkeeping: no I/O, and the time comes in. Belongs to control's loop.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "base/time.h"
#include "cluster/service_decision.h"
#include "link/messages.h"

namespace hob::cluster {

inline constexpr Duration kEdgesAwaited{30'000};     // after control's start, for edges to connect
inline constexpr Duration kEdgeForgetAfter{60'000};  // an edge away for so long is not waited for
inline constexpr Duration kEdgeLagMax{120'000};      // likewise one that does not apply a table
inline constexpr size_t kTablesMax =
    1000;  // versions remembered; an edge further behind counts as unknown

class EdgeTracker {
 public:
  explicit EdgeTracker(Instant started_at) : started_at_(started_at) {}

  // An edge that an earlier control knew: waited for as if it had just left.
  void expect(const EdgeId& edge, Instant now);
  void connected(const EdgeId& edge, Instant now);
  // One that said it was leaving, with no request in hand, is forgotten at once.
  void left(const EdgeId& edge, Instant now);
  // A table that is sent to all edges from now on. Versions grow.
  void sent(const link::RouteTable& table, Instant now);
  // True: some task's Traffic may have changed. A report of an edge that is not connected is
  // ignored.
  bool reported(const EdgeId& edge, const link::EdgeReport& report);

  Traffic traffic(const TaskId& task, Instant now) const;
  // False: just started, and no edge has said yet what it does.
  bool settled(Instant now) const;
  // When time alone changes one of these answers.
  std::optional<Instant> changes_at(Instant now) const;
  // Away for so long that nobody waits for it.
  bool forgotten(const EdgeId& edge, Instant now) const;
  int64_t version() const { return tables_.empty() ? 0 : tables_.rbegin()->first; }

 private:
  using Targets = std::map<TaskId, link::TargetState>;
  struct Table {
    Targets targets{};
    Instant sent_at{};
  };
  struct Edge {
    bool connected = false;
    bool leaving = false;  // it will not be back
    Instant left_at{};
    int64_t applied = 0;  // 0: not known yet
    std::optional<Instant>
        behind_since{};  // nullopt: it applies the newest table; reconnecting does not reset it
    std::map<TaskId, int> in_flight{};
  };
  // Until when it is waited for; nullopt: without limit.
  std::optional<Instant> waited_until(const Edge& edge) const;
  bool waited(const Edge& edge, Instant now) const;
  bool sends_to(int64_t version, const TaskId& task) const;
  void prune();

  Instant started_at_;
  std::map<int64_t, Table> tables_;
  std::map<EdgeId, Edge> edges_;
};

}  // namespace hob::cluster
