#include "guest/depends.h"

#include <algorithm>

#include "base/assert.h"

namespace hob::guest {
namespace {

int index_of(const std::vector<Container>& containers, const std::string& name) {
  const auto found = std::ranges::find(containers, name, &Container::name);
  return found == containers.end() ? -1 : static_cast<int>(found - containers.begin());
}

enum class Met { kYes, kNotYet, kNever };

Met met(Condition condition, const ContainerView& view) {
  const bool running =
      view.state == ContainerState::kRunning || view.state == ContainerState::kHealthy;
  const bool exited = view.state == ContainerState::kExited;
  switch (condition) {
    case Condition::kStart:
      return running || exited ? Met::kYes : Met::kNotYet;
    case Condition::kComplete:
      return exited ? Met::kYes : Met::kNotYet;
    case Condition::kSuccess:
      return !exited ? Met::kNotYet : view.exit_code == 0 ? Met::kYes : Met::kNever;
    case Condition::kHealthy:
      return exited                                   ? Met::kNever
             : view.state == ContainerState::kHealthy ? Met::kYes
                                                      : Met::kNotYet;
  }
  return Met::kNever;
}

}  // namespace

Result<void> check_dependencies(const std::vector<Container>& containers) {
  for (size_t i = 0; i < containers.size(); ++i) {
    if (index_of(containers, containers[i].name) != static_cast<int>(i))
      return fail(Code::kInvalid, "two containers are named '{}'", containers[i].name);
    for (const Dependency& dependency : containers[i].depends_on) {
      const int other = index_of(containers, dependency.container);
      if (other < 0)
        return fail(Code::kInvalid, "'{}' depends on '{}', which is not there", containers[i].name,
                    dependency.container);
      if (dependency.condition == Condition::kHealthy &&
          !containers[static_cast<size_t>(other)].health)
        return fail(Code::kInvalid, "'{}' waits for the health of '{}', which has no health check",
                    containers[i].name, dependency.container);
    }
  }
  // Those that wait for nobody go, again and again; who is left waits in a circle.
  std::vector<bool> gone(containers.size());
  for (size_t round = 0; round < containers.size(); ++round) {
    for (size_t i = 0; i < containers.size(); ++i) {
      gone[i] = gone[i] || std::ranges::all_of(containers[i].depends_on, [&](const auto& other) {
                  return gone[static_cast<size_t>(index_of(containers, other.container))];
                });
    }
  }
  const auto left = std::ranges::find(gone, false);
  if (left != gone.end())
    return fail(Code::kInvalid, "'{}' waits for itself",
                containers[static_cast<size_t>(left - gone.begin())].name);
  return {};
}

Decision decide_start(const std::vector<Container>& containers,
                      const std::vector<ContainerView>& views) {
  HOB_ASSERT(containers.size() == views.size());
  Decision decision;
  for (size_t i = 0; i < containers.size(); ++i) {
    if (views[i].state != ContainerState::kWaiting) continue;
    Met all = Met::kYes;
    for (const Dependency& dependency : containers[i].depends_on) {
      const int other = index_of(containers, dependency.container);
      all = std::max(all, met(dependency.condition, views[static_cast<size_t>(other)]));
    }
    if (all == Met::kYes) decision.start.push_back(static_cast<int>(i));
    if (all == Met::kNever) decision.refuse.push_back(static_cast<int>(i));
  }
  return decision;
}

}  // namespace hob::guest
