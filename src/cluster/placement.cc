#include "cluster/placement.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "cluster/task_state.h"
#include "network/subnets.h"

namespace hob::cluster {

namespace {

struct Room {
  const Host* host = nullptr;
  int cpu_free = 0;
  int memory_mib_free = 0;
};

class Placing {
 public:
  Placing(const PlacementView& view, Instant now) : view_(view), now_(now) {
    std::map<HostId, Room*> by_id;
    rooms_.reserve(view.hosts.size());
    for (const HostView& host : view.hosts) {
      if (host.away_since) continue;
      rooms_.push_back(
          {.host = &host.host, .cpu_free = host.host.cpu, .memory_mib_free = host.host.memory_mib});
    }
    std::ranges::sort(rooms_, {}, [](const Room& room) { return room.host->id; });
    for (Room& room : rooms_) by_id[room.host->id] = &room;
    const Task* newest = nullptr;
    for (const Task* each : view.tasks) {
      const Task& task = *each;
      if (task.host.empty()) continue;
      const bool rests = !is_present(task) && now - task.stopped_at.value_or(now) < kAddressRest;
      if (is_present(task) || rests) taken_.insert(task.address);
      if (newest == nullptr ||
          std::tie(newest->created_at, newest->id) < std::tie(task.created_at, task.id)) {
        newest = &task;
      }
      if (!is_present(task)) continue;
      count_service(task, task.zone, task.host);
      const auto found = by_id.find(task.host);
      if (found == by_id.end()) continue;
      take(*found->second, task);
      leaving_ = leaving_ || !is_wanted(task);
    }
    if (newest != nullptr) last_address_ = newest->address;
  }

  std::vector<PlacementAction> run() {
    std::vector<const Task*> waiting;
    for (const Task* task : view_.tasks) {
      if (task->host.empty() && is_present(*task) &&
          task->desired == link::DesiredStatus::kRunning) {
        waiting.push_back(task);
      }
    }
    std::ranges::sort(waiting, {},
                      [](const Task* task) { return std::tie(task->created_at, task->id); });
    for (const Task* task : waiting) {
      if (!place(*task)) wait_or_refuse(*task);
    }
    if (wake_) actions_.push_back(WakePlacementAt{*wake_});
    return std::move(actions_);
  }

 private:
  static std::string service_of(const Task& task) {
    return task.account + "/" + task.cluster + "/" + task.service;
  }
  void count_service(const Task& task, const std::string& zone, const HostId& host) {
    // A task that is going leaves room for its successor where it is.
    if (!is_wanted(task)) return;
    ++in_zone_[{service_of(task), zone}];
    ++on_host_[{service_of(task), host}];
  }
  // Whether or not it started before the host had them.
  static bool in_microvm(const Room& room, const Task& task) {
    switch (task.isolation) {
      case link::Isolation::kDefault:
        return room.host->microvm;
      case link::Isolation::kContainer:
        return false;
      case link::Isolation::kMicrovm:
        return true;
    }
    return false;
  }
  static bool can_isolate(const Room& room, const Task& task) {
    return task.isolation != link::Isolation::kMicrovm || room.host->microvm ||
           room.host->can_microvm;
  }
  // With its microVM's own.
  static int memory_mib(const Room& room, const Task& task) {
    return task.memory_mib +
           (in_microvm(room, task) ? link::microvm_overhead_mib(task.memory_mib) : 0);
  }
  static void take(Room& room, const Task& task) {
    room.cpu_free -= task.cpu;
    room.memory_mib_free -= memory_mib(room, task);
  }
  static bool fits(const Room& room, const Task& task) {
    return task.cpu <= room.cpu_free && memory_mib(room, task) <= room.memory_mib_free;
  }

  bool place(const Task& task) {
    const std::string service = service_of(task);
    std::vector<Room*> candidates;
    for (Room& room : rooms_) {
      if (can_isolate(room, task) && fits(room, task)) candidates.push_back(&room);
    }
    std::ranges::sort(candidates, {}, [&](const Room* room) {
      return std::tuple(in_zone_[{service, room->host->zone}], on_host_[{service, room->host->id}],
                        -room->memory_mib_free, -room->cpu_free, room->host->id);
    });
    for (Room* room : candidates) {
      const auto address = network::allocate(room->host->zone, taken_, last_address_);
      if (!address) {
        full_zone_ = room->host->zone;
        continue;
      }
      taken_.insert(*address);
      last_address_ = *address;
      take(*room, task);
      count_service(task, room->host->zone, room->host->id);
      actions_.push_back(PlaceTask{
          .task = task.id, .host = room->host->id, .zone = room->host->zone, .address = *address});
      return true;
    }
    return false;
  }

  void wait_or_refuse(const Task& task) {
    const Duration patience = rooms_.empty() ? kNoHostAfter
                              : leaving_     ? kLeavingAwaited
                                             : kNoRoomAfter;
    const Instant at = task.created_at + patience;
    if (now_ < at) {
      wake_ = wake_ ? std::min(*wake_, at) : at;
      return;
    }
    actions_.push_back(
        RefuseTask{.task = task.id, .reason = std::string(kReasonNoRoom) + why_not(task)});
  }

  std::string why_not(const Task& task) const {
    if (rooms_.empty()) return "AGENT: no host is connected";
    std::vector<Room> able;
    std::ranges::copy_if(rooms_, std::back_inserter(able),
                         [&](const Room& room) { return can_isolate(room, task); });
    if (able.empty()) {
      return "ATTRIBUTE: the service asks for a microVM (hob:isolation), and no host that is "
             "connected can run one. hob doctor on a host says what is missing there";
    }
    const Room& memory_best = *std::ranges::max_element(able, {}, &Room::memory_mib_free);
    const int needed = memory_mib(memory_best, task);
    if (needed > memory_best.memory_mib_free) {
      return fmt::format(
          "MEMORY: the task needs {} MiB{}; the host with most free, {}, has {} of {} MiB. Choose "
          "a "
          "smaller size, delete or pause a service, add a host, or raise --memory-overcommit",
          task.memory_mib,
          needed > task.memory_mib
              ? fmt::format(" and {} for its microVM", needed - task.memory_mib)
              : "",
          memory_best.host->id.value, std::max(0, memory_best.memory_mib_free),
          memory_best.host->memory_mib);
    }
    const Room& cpu_best = *std::ranges::max_element(able, {}, &Room::cpu_free);
    if (task.cpu > cpu_best.cpu_free) {
      return fmt::format(
          "CPU: the task needs {} units (1024 are a vCPU); the host with most free, {}, has {} of "
          "{}. "
          "Choose a smaller size, delete or pause a service, add a host, or raise --cpu-overcommit",
          task.cpu, cpu_best.host->id.value, std::max(0, cpu_best.cpu_free), cpu_best.host->cpu);
    }
    if (!full_zone_.empty())
      return fmt::format("ENI: every address of zone {} is in use", full_zone_);
    return fmt::format("CPU: no host has {} CPU units and {} MiB free at once", task.cpu,
                       task.memory_mib);
  }

  const PlacementView& view_;
  const Instant now_;
  std::vector<Room> rooms_;
  bool leaving_ = false;  // some task goes, and leaves its room
  std::set<std::string> taken_;
  std::string last_address_;
  std::string full_zone_;
  std::map<std::pair<std::string, std::string>, int> in_zone_;
  std::map<std::pair<std::string, HostId>, int> on_host_;
  std::vector<PlacementAction> actions_;
  std::optional<Instant> wake_;
};

}  // namespace

std::vector<PlacementAction> decide_placement(const PlacementView& view, Instant now) {
  return Placing(view, now).run();
}

std::vector<HostId> lost_hosts(const std::vector<HostView>& hosts, Instant now,
                               std::optional<Instant>& wake_at) {
  std::vector<HostId> lost;
  const bool elsewhere =
      std::ranges::any_of(hosts, [](const HostView& host) { return !host.away_since; });
  if (!elsewhere) return lost;
  for (const HostView& host : hosts) {
    if (!host.away_since) continue;
    const Instant at = *host.away_since + kHostLostAfter;
    if (now >= at)
      lost.push_back(host.host.id);
    else if (!wake_at || at < *wake_at)
      wake_at = at;
  }
  return lost;
}

std::vector<GoneHostAction> decide_gone_hosts(const PlacementView& view, Instant now) {
  std::vector<GoneHostAction> actions;
  for (const HostView& host : view.hosts) {
    if (!host.away_since || now < *host.away_since + kHostForgottenAfter) continue;
    bool left = false;
    for (const Task* task : view.tasks) {
      if (task->host != host.host.id || !is_present(*task)) continue;
      left = true;
      if (task->desired == link::DesiredStatus::kStopped) actions.emplace_back(EndTask{task->id});
    }
    if (!left) actions.emplace_back(ForgetHost{host.host.id});
  }
  return actions;
}

}  // namespace hob::cluster
