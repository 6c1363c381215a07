// What App Runner never had: operations that can be cancelled, and versions that can be had again.
#include <algorithm>

#include "aws/apprunner/errors.h"
#include "base/log.h"
#include "runner/api.h"
#include "runner/keys.h"

namespace hob::runner {

using namespace aws::apprunner;

Async<Result<Operation>> Api::cancel_operation(std::string arn, aws::Caller caller) {
  for (int attempt = 0; attempt < kConflictRetriesMax; ++attempt) {
    HOB_CO_TRY(const auto stored, co_await find_service(arn, caller));
    const runner::Service& service = stored.value;
    if (service.operation.empty()) {
      co_return invalid_state_exception(
          fmt::format("Service {} has no operation in progress to cancel.", service.name));
    }
    const std::string path = operation_key(service.account, service.id, service.operation);
    HOB_CO_TRY(const auto entry, co_await store_.get(path));
    if (!entry) continue;  // it has ended just now
    HOB_CO_TRY(Operation operation, context(decode_operation(entry->value), "record {}", path));
    if (operation.type == OperationType::kDeleteService) {
      co_return invalid_state_exception(
          fmt::format("The deletion of service {} can't be cancelled.", service.name));
    }
    if (operation.cancel_requested_at) co_return operation;
    operation.cancel_requested_at = clock_.now();
    // With the service, whose change is what the controller looks for.
    store::Transaction transaction;
    transaction.expect[stored.entry.key] = stored.entry.revision;
    transaction.expect[path] = entry->revision;
    transaction.put[stored.entry.key] = stored.entry.value;
    transaction.put[path] = encode_over(operation, entry->value);
    const auto committed = co_await store_.commit(std::move(transaction));
    if (committed) {
      log::info("cancel accepted", {{"service", service.id}, {"operation", operation.id}});
      co_return operation;
    }
    if (committed.error().code != Code::kConflict) co_return fail(committed.error());
  }
  co_return overtaken();
}

Async<Result<std::vector<RevisionLine>>> Api::list_revisions(std::string arn, aws::Caller caller) {
  HOB_CO_TRY(const auto stored, co_await find_service(std::move(arn), caller));
  HOB_CO_TRY(const store::Listing listing,
             co_await store_.list(revisions_of(caller.account, stored.value.id)));
  std::vector<RevisionLine> lines;
  for (const store::Entry& entry : listing.entries) {
    auto revision = decode_revision(entry.value);
    if (revision)
      lines.push_back({*revision, revision->number == stored.value.revision});
    else
      log::error("record unreadable", {{"key", entry.key}, {"error", revision.error().message}});
  }
  co_return lines;
}

Async<Result<Operation>> Api::roll_back(std::string arn, std::optional<int> to,
                                        aws::Caller caller) {
  HOB_CO_TRY(const std::vector<RevisionLine> lines, co_await list_revisions(arn, caller));
  std::optional<Revision> chosen;
  const Change change = [&](runner::Service& service) -> Result<void> {
    if (service.status != ServiceStatus::kRunning) {
      return invalid_state_exception(fmt::format(
          "Service cannot be rolled back in the current state: {}.", word(service.status)));
    }
    chosen.reset();
    for (const auto& [revision, serves] : lines) {  // ascending
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
    service.configuration = chosen->configuration;
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
