// What a service's actions change in its records. Pure but for the ids of new tasks.
#pragma once

#include <optional>
#include <vector>

#include "base/ids.h"
#include "cluster/records.h"
#include "cluster/service_decision.h"

namespace hob::cluster {

struct ServiceChanges {
  std::optional<Service> service{};  // to be written
  bool remove_service = false;
  std::vector<Task> put{};
  std::vector<TaskId> remove{};
  std::optional<Instant> wake_at{};
  bool empty() const { return !service && !remove_service && put.empty() && remove.empty(); }
};

// The actions must have been decided on this very view.
ServiceChanges changes_of(const ServiceView& view, const std::vector<ServiceAction>& actions,
                          Instant now, Random& random);

}  // namespace hob::cluster
