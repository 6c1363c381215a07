#include "git/push_decision.h"

#include <fmt/core.h>

#include <algorithm>

#include "git/limits.h"

namespace hob::git {

namespace {

PushDecision refuse(std::string reason) { return {.refused = std::move(reason)}; }

// The branch that a service which nothing was pushed to yet will follow: the only one pushed, else
// main, else master; empty: nobody can know.
std::string first_branch(const std::vector<RefUpdate>& updates) {
  std::vector<std::string_view> branches;
  for (const RefUpdate& update : updates) {
    if (!update.commit.empty() && !branch_of(update.name).empty())
      branches.push_back(branch_of(update.name));
  }
  if (branches.size() == 1) return std::string(branches.front());
  for (const std::string_view usual : {"main", "master"}) {
    if (std::ranges::find(branches, usual) != branches.end()) return std::string(usual);
  }
  return {};
}

bool brings_branch(const std::vector<RefUpdate>& updates) {
  return std::ranges::any_of(updates, [](const RefUpdate& update) {
    return !update.commit.empty() && !branch_of(update.name).empty();
  });
}

}  // namespace

PushDecision decide_push(const PushView& view) {
  for (const RefUpdate& update : view.updates) {
    if (!is_kept_ref(update.name)) {
      return refuse(
          fmt::format("{} is not kept here: push branches (refs/heads/…) and tags "
                      "(refs/tags/…), with names of at most {} plain characters",
                      update.name, kRefBytesMax));
    }
  }
  const PushedService& service = view.service;
  PushDecision decision;
  std::string followed = service.exists ? service.branch : std::string();
  if (followed.empty()) {
    followed = first_branch(view.updates);
    if (followed.empty() && brings_branch(view.updates))
      return refuse("which branch shall the service follow? Push that one alone first");
    decision.begins = !followed.empty();
  }
  for (const RefUpdate& update : view.updates) {
    const std::string_view branch = branch_of(update.name);
    if (branch.empty()) continue;  // a tag
    if (branch == followed) {
      if (update.commit.empty()) {
        return refuse(fmt::format(
            "the service follows the branch {}: it cannot be deleted while the service is there",
            branch));
      }
      decision.deploys = followed;
      decision.commit = update.commit;
    } else if (!update.commit.empty()) {
      decision.notes.push_back(fmt::format(
          "branch {} is kept; the service follows {}, so nothing is deployed", branch, followed));
    }
  }
  return decision;
}

}  // namespace hob::git
