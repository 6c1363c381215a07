// What App Runner never had: operations that can be cancelled, and versions that can be had again.
#include <algorithm>
#include <map>
#include <tuple>

#include "aws/apprunner/errors.h"
#include "base/log.h"
#include "cluster/keys.h"
#include "cluster/task_state.h"
#include "cluster/traffic_decision.h"
#include "runner/api.h"
#include "runner/extensions.h"
#include "runner/keys.h"
#include "runner/rollout.h"
#include "runner/strategy.h"

namespace hob::runner {

using namespace aws::apprunner;

namespace {
constexpr std::string_view kCluster = "apprunner";  // cluster::Service's default
}

Async<Result<Operation>> Api::change_operation(std::string arn, aws::Caller caller,
                                               std::string_view verb, ChangeOperation change) {
  for (int attempt = 0; attempt < kConflictRetriesMax; ++attempt) {
    HOB_CO_TRY(const auto stored, co_await find_service(arn, caller));
    const runner::Service& service = stored.value;
    if (service.operation.empty()) {
      co_return invalid_state_exception(
          fmt::format("Service {} has no operation in progress to {}.", service.name, verb));
    }
    const std::string path = operation_key(service.account, service.id, service.operation);
    HOB_CO_TRY(const auto entry, co_await store_.get(path));
    if (!entry) continue;  // it has ended just now
    HOB_CO_TRY(Operation operation, context(decode_operation(entry->value), "record {}", path));
    HOB_CO_TRY(const bool changed, change(service, operation));
    if (!changed) co_return operation;
    // With the service, whose change is what the controller looks for.
    store::Transaction transaction;
    transaction.expect[stored.entry.key] = stored.entry.revision;
    transaction.expect[path] = entry->revision;
    transaction.put[stored.entry.key] = stored.entry.value;
    transaction.put[path] = encode_over(operation, entry->value);
    const auto committed = co_await store_.commit(std::move(transaction));
    if (committed) {
      log::info("operation changed",
                {{"service", service.id}, {"operation", operation.id}, {"change", verb}});
      co_return operation;
    }
    if (committed.error().code != Code::kConflict) co_return fail(committed.error());
  }
  co_return overtaken();
}

Async<Result<Operation>> Api::cancel_operation(std::string arn, aws::Caller caller) {
  const ChangeOperation change = [this](const runner::Service& service,
                                        Operation& operation) -> Result<bool> {
    if (operation.type == OperationType::kDeleteService) {
      return invalid_state_exception(
          fmt::format("The deletion of service {} can't be cancelled.", service.name));
    }
    if (operation.cancel_requested_at) return false;
    operation.cancel_requested_at = clock_.now();
    return true;
  };
  return change_operation(std::move(arn), std::move(caller), "cancel", change);
}

Async<Result<Operation>> Api::promote_operation(std::string arn, aws::Caller caller) {
  const ChangeOperation change = [this](const runner::Service& service,
                                        Operation& operation) -> Result<bool> {
    const bool deploys = operation.type == OperationType::kStartDeployment ||
                         operation.type == OperationType::kUpdateService;
    if (!deploys || waits_of(strategy_of(service, operation).configuration) == Duration(0)) {
      return invalid_state_exception(
          fmt::format("The operation on service {} has no steps to leave out.", service.name));
    }
    if (operation.promote_requested_at) return false;
    operation.promote_requested_at = clock_.now();
    return true;
  };
  return change_operation(std::move(arn), std::move(caller), "promote", change);
}

Async<Result<std::vector<Operation>>> Api::operations(std::string arn, aws::Caller caller) {
  HOB_CO_TRY(const auto stored, co_await find_service(std::move(arn), caller));
  HOB_CO_TRY(const store::Listing listing,
             co_await store_.list(operations_of(caller.account, stored.value.id)));
  std::vector<Operation> all;
  for (const store::Entry& entry : listing.entries) {
    auto operation = decode_operation(entry.value);
    if (operation)
      all.push_back(std::move(*operation));
    else
      log::error("record unreadable", {{"key", entry.key}, {"error", operation.error().message}});
  }
  std::ranges::sort(all, std::greater{},
                    [](const Operation& each) { return std::tie(each.started_at, each.id); });
  co_return all;
}

Async<Result<std::map<std::string, Operation>>> Api::failed_deployments(aws::Caller caller) {
  HOB_CO_TRY(const store::Listing listing, co_await store_.list(operations_of(caller.account)));
  std::map<std::string, Operation> last;
  for (const store::Entry& entry : listing.entries) {
    auto operation = decode_operation(entry.value);
    if (!operation || !is_rollout(operation->type) || !operation->ended_at) continue;
    const auto [at, is_first] = last.try_emplace(operation->service, *operation);
    if (!is_first && at->second.started_at < operation->started_at)
      at->second = std::move(*operation);
  }
  std::erase_if(last, [](const auto& each) {
    return each.second.status == OperationStatus::kSucceeded || each.second.cancel_requested_at;
  });
  co_return last;
}

Async<Result<std::vector<RevisionLine>>> Api::list_revisions(std::string arn, aws::Caller caller) {
  HOB_CO_TRY(const auto stored, co_await find_service(std::move(arn), caller));
  const runner::Service& service = stored.value;
  HOB_CO_TRY(const store::Listing listing,
             co_await store_.list(revisions_of(caller.account, service.id)));
  HOB_CO_TRY(const auto entry,
             co_await store_.get(cluster::service_key(caller.account, kCluster, service.id)));
  const auto cluster =
      entry ? cluster::decode_service(entry->value) : Result<cluster::Service>(cluster::Service{});
  HOB_CO_TRY(const store::Listing tasks,
             co_await store_.list(cluster::task_key(caller.account, kCluster, "")));
  std::map<DeploymentId, int> ready;
  for (const store::Entry& each : tasks.entries) {
    const auto task = cluster::decode_task(each.value);
    if (task && task->service == service.id && cluster::is_healthy(*task))
      ++ready[task->deployment];
  }
  std::map<int, const cluster::Deployment*> deployments;  // by revision; the one made last
  std::map<DeploymentId, int> weights;
  if (cluster) {
    weights = cluster::weights_of(*cluster, ready);
    for (const cluster::Deployment& each : cluster->deployments) {
      if (ready.contains(each.id)) deployments.try_emplace(each.revision, &each);
    }
  }
  int all = 0;
  for (const auto& [id, weight] : weights) all += weight;
  std::vector<RevisionLine> lines;
  for (const store::Entry& each : listing.entries) {
    auto revision = decode_revision(each.value);
    if (!revision) {
      log::error("record unreadable", {{"key", each.key}, {"error", revision.error().message}});
      continue;
    }
    RevisionLine& line =
        lines.emplace_back(RevisionLine{*revision, revision->number == service.revision});
    const auto runs = deployments.find(revision->number);
    if (runs == deployments.end()) continue;
    if (!runs->second->host_names.empty()) line.host_name = runs->second->host_names.front();
    line.kept = runs->second->kept_since.has_value();
    line.percent = all > 0 ? weights.at(runs->second->id) * 100 / all : 0;
  }
  co_return lines;
}

Async<Result<Operation>> Api::roll_back(std::string arn, std::optional<int> to,
                                        aws::Caller caller) {
  HOB_CO_TRY(const std::vector<RevisionLine> lines, co_await list_revisions(arn, caller));
  std::optional<Revision> chosen;
  const Change change = [&](runner::Service& service) -> Result<void> {
    if (service.status != ServiceStatus::kRunning) {
      const bool busy = service.status == ServiceStatus::kOperationInProgress;
      return invalid_state_exception(fmt::format(
          "Service cannot be rolled back in the current state: {}.{}", word(service.status),
          busy ? " What is in progress is undone by cancelling it." : ""));
    }
    chosen.reset();
    for (const RevisionLine& line : lines) {  // ascending
      const Revision& revision = line.revision;
      if (revision.state != RevisionState::kSucceeded) continue;
      if (to ? revision.number == *to : revision.number < service.revision) chosen = revision;
    }
    if (!chosen && to) {
      return resource_not_found_exception(
          fmt::format("Service {} has no revision {} (any more).", service.name, *to));
    }
    if (!chosen) {
      return resource_not_found_exception(
          fmt::format("Service {} has no revision before {}.", service.name, service.revision));
    }
    if (chosen->number == service.revision) {
      return invalid_request_exception(
          fmt::format("Revision {} is what service {} runs.", chosen->number, service.name));
    }
    service.previous = std::move(service.configuration);
    service.digest_tried_previous = service.digest_tried;
    service.version_tags_previous = version_tags(service.tags);
    service.configuration = chosen->configuration;
    if (chosen->settings) {
      auto tags = version_tags(*chosen->settings);
      // What tasks run in is the service's, whichever revision they are of.
      if (const auto found = service.tags.find(std::string(kIsolationTag));
          found != service.tags.end())
        tags.insert(*found);
      replace_version_tags(service.tags, tags);
    }
    // How it scales is not of a version: what was set since then stays.
    service.configuration.scaling = service.previous->scaling;
    return {};
  };
  const Mark mark = [&](Operation& operation) {
    operation.rolls_back_to = chosen->number;
    operation.digest = chosen->digest;
  };
  HOB_CO_TRY(const Begun begun, co_await begin(std::move(arn), OperationType::kUpdateService,
                                               std::move(caller), change, mark));
  co_return begun.operation;
}

}  // namespace hob::runner
