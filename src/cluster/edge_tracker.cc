#include "cluster/edge_tracker.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/assert.h"

namespace hob::cluster {

void EdgeTracker::expect(const EdgeId& edge, Instant now) {
  edges_.try_emplace(edge, Edge{.left_at = now, .behind_since = now});
}

void EdgeTracker::connected(const EdgeId& edge, Instant now) {
  Edge& known = edges_[edge];
  known.connected = true;
  known.leaving = false;
  // What it applies is told by its first report: it may come with a table of an earlier control.
  known.applied = 0;
  known.in_flight.clear();
  if (!known.behind_since) known.behind_since = now;
}

void EdgeTracker::left(const EdgeId& edge, Instant now) {
  const auto found = edges_.find(edge);
  if (found == edges_.end()) return;
  found->second.connected = false;
  found->second.left_at = now;
  std::erase_if(edges_, [&](const auto& item) {
    const Edge& it = item.second;
    return !it.connected && (it.leaving || now - it.left_at >= kEdgeForgetAfter);
  });
}

void EdgeTracker::sent(const link::RouteTable& table, Instant now) {
  HOB_ASSERT(table.version > version());
  Table& added = tables_[table.version];
  added.sent_at = now;
  for (const link::Route& route : table.routes) {
    for (const link::Target& target : route.targets) added.targets[target.task] = target.state;
  }
  for (auto& [id, edge] : edges_) {
    if (!edge.behind_since) edge.behind_since = now;
  }
  prune();
}

bool EdgeTracker::reported(const EdgeId& id, const link::EdgeReport& report) {
  const auto found = edges_.find(id);
  if (found == edges_.end() || !found->second.connected) return false;
  Edge& edge = found->second;
  std::map<TaskId, int> in_flight;
  for (const link::TargetLoad& load : report.targets) {
    if (load.in_flight > 0) in_flight[load.task] = load.in_flight;
  }
  bool changed = edge.applied != report.applied_version;
  // Load on tasks that get requests changes all the time and means nothing here.
  const auto leaving = [&](const auto& item) { return !sends_to(version(), item.first); };
  changed = changed || std::ranges::count_if(edge.in_flight, leaving) !=
                           std::ranges::count_if(in_flight, leaving);
  // While it has requests in hand a broken link may come back.
  edge.leaving = report.leaving && in_flight.empty();
  edge.applied = report.applied_version;
  edge.in_flight = std::move(in_flight);
  if (edge.applied == version()) {
    edge.behind_since.reset();
  } else if (const auto applied = tables_.find(edge.applied); applied != tables_.end() && changed) {
    edge.behind_since = std::next(applied)->second.sent_at;  // it moves, if slowly
  }
  prune();
  return changed;
}

std::optional<Instant> EdgeTracker::waited_until(const Edge& edge) const {
  if (!edge.connected) return edge.left_at + kEdgeForgetAfter;
  if (!edge.behind_since) return std::nullopt;
  return *edge.behind_since + kEdgeLagMax;
}

bool EdgeTracker::waited(const Edge& edge, Instant now) const {
  const std::optional<Instant> until = waited_until(edge);
  return !until || now < *until;
}

bool EdgeTracker::sends_to(int64_t version, const TaskId& task) const {
  const auto table = tables_.find(version);
  if (table == tables_.end()) return false;
  const auto target = table->second.targets.find(task);
  return target != table->second.targets.end() && target->second == link::TargetState::kReady;
}

Traffic EdgeTracker::traffic(const TaskId& task, Instant now) const {
  Traffic traffic{.ready = sends_to(version(), task), .gone = !sends_to(version(), task)};
  if (!settled(now)) return Traffic{.ready = false, .gone = false};
  for (const auto& [id, edge] : edges_) {
    if (!waited(edge, now)) continue;
    const auto applied = tables_.find(edge.applied);
    if (applied == tables_.end()) return Traffic{.ready = false, .gone = false};
    traffic.ready = traffic.ready && sends_to(edge.applied, task);
    // Between what it applies and what it was sent, an edge may be using any table.
    for (auto table = applied; table != tables_.end(); ++table) {
      traffic.gone = traffic.gone && !sends_to(table->first, task);
    }
    traffic.gone = traffic.gone && !edge.in_flight.contains(task);
  }
  return traffic;
}

bool EdgeTracker::settled(Instant now) const {
  if (now - started_at_ >= kEdgesAwaited) return true;
  return std::ranges::any_of(
      edges_, [&](const auto& item) { return tables_.contains(item.second.applied); });
}

bool EdgeTracker::forgotten(const EdgeId& edge, Instant now) const {
  const auto found = edges_.find(edge);
  if (found == edges_.end()) return true;
  return !found->second.connected && now - found->second.left_at >= kEdgeForgetAfter;
}

std::optional<Instant> EdgeTracker::changes_at(Instant now) const {
  std::optional<Instant> next;
  const auto consider = [&](Instant at) {
    if (at > now && (!next || at < *next)) next = at;
  };
  consider(started_at_ + kEdgesAwaited);
  for (const auto& [id, edge] : edges_) {
    if (const auto until = waited_until(edge)) consider(*until);
  }
  return next;
}

void EdgeTracker::prune() {
  int64_t oldest = version();
  for (const auto& [id, edge] : edges_) {
    if (tables_.contains(edge.applied)) oldest = std::min(oldest, edge.applied);
  }
  while (!tables_.empty() && (tables_.begin()->first < oldest || tables_.size() > kTablesMax)) {
    // The newest says what is wanted, and stays.
    if (tables_.size() == 1) return;
    tables_.erase(tables_.begin());
  }
}

}  // namespace hob::cluster
