// Tags of services, connections and configurations. They make no operation and change no status;
// the controller sees hob: tags change and keeps the routing in step.
#include "aws/apprunner/errors.h"
#include "cluster/keys.h"
#include "cluster/records.h"
#include "runner/api.h"
#include "runner/configuration.h"
#include "runner/extensions.h"
#include "runner/keys.h"

namespace hob::runner {

namespace {
using namespace aws::apprunner;

std::unexpected<Error> not_an_arn(const std::string& arn) {
  return invalid_request_exception(
      fmt::format("The resource ARN you specified isn't valid. ARN: '{}'", arn));
}
std::unexpected<Error> no_such_resource(const std::string& arn) {
  return resource_not_found_exception(
      fmt::format("Resource with the provided ARN does not exist: {}.", arn));
}
// Empty: it is not set.
std::string value_of(const std::map<std::string, std::string>& tags, std::string_view key) {
  const auto found = tags.find(std::string(key));
  return found == tags.end() ? "" : found->second;
}
}  // namespace

Async<Result<void>> Api::check_isolation(std::map<std::string, std::string> tags) {
  HOB_CO_TRY(const Extensions extensions, parse_extensions(tags));
  if (extensions.isolation != link::Isolation::kMicrovm) co_return Result<void>();
  HOB_CO_TRY(const store::Listing hosts, co_await store_.list(std::string(cluster::kHostsPrefix)));
  bool any = false;
  for (const store::Entry& entry : hosts.entries) {
    const auto host = cluster::decode_host(entry.value);
    if (!host || !host->connected) continue;
    if (host->microvm || host->can_microvm) co_return Result<void>();
    any = true;
  }
  // With none connected nobody knows; placement will tell.
  if (!any) co_return Result<void>();
  co_return invalid_request_exception(
      "The tag hob:isolation asks for microVMs, and no host that is connected can run them. "
      "hob doctor on a host says what is missing there.");
}

Async<Result<void>> Api::change_tags(std::string arn, aws::Caller caller, ChangeTags change) {
  const auto parsed = parse_arn(arn);
  if (!parsed) co_return not_an_arn(arn);
  for (int attempt = 0; attempt < kConflictRetriesMax; ++attempt) {
    store::Transaction transaction;
    if (parsed->kind == "service") {
      HOB_CO_TRY(auto service, co_await find_service(arn, caller));
      if (service.value.status == ServiceStatus::kDeleted) co_return no_such_resource(arn);
      const std::string isolation = value_of(service.value.tags, kIsolationTag);
      HOB_CO_CHECK(change(service.value.tags, TaggedKind::kService));
      if (value_of(service.value.tags, kIsolationTag) != isolation)
        HOB_CO_CHECK(co_await check_isolation(service.value.tags));
      const ScalingReference& uses = service.value.configuration.scaling;
      HOB_CO_TRY(const Scalings known, co_await scalings(caller.account));
      for (const Stored<AutoScalingConfiguration>& each : known.all) {
        if (each.value.name != uses.name || each.value.id != uses.id) continue;
        HOB_CO_CHECK(check_minimum(service.value.tags, each.value.max_size));
      }
      transaction.expect[service.entry.key] = service.entry.revision;
      transaction.put[service.entry.key] = encode_over(service.value, service.entry.value);
    } else if (parsed->kind == "connection") {
      HOB_CO_TRY(auto connection, co_await find_connection(arn, caller));
      HOB_CO_CHECK(change(connection.value.tags, TaggedKind::kConnection));
      transaction.expect[connection.entry.key] = connection.entry.revision;
      transaction.put[connection.entry.key] = encode_over(connection.value, connection.entry.value);
    } else if (parsed->kind == "observabilityconfiguration") {
      HOB_CO_TRY(auto found, co_await find_observability(arn, caller, false));
      HOB_CO_CHECK(change(found.value.tags, TaggedKind::kObservabilityConfiguration));
      const std::string path =
          observability_key(caller.account, found.value.name, found.value.revision);
      const bool stored = !found.entry.key.empty();  // the first one is not until it is changed
      transaction.expect[path] = stored ? found.entry.revision : store::kAbsent;
      transaction.put[path] =
          stored ? encode_over(found.value, found.entry.value) : encode(found.value);
    } else {
      HOB_CO_TRY(const Scalings known, co_await scalings(caller.account));
      const auto found = match(known, arn, caller.account, false);
      if (!found) co_return not_an_arn(arn);
      if (*found == nullptr) co_return no_such_resource(arn);
      Stored<AutoScalingConfiguration> configuration = **found;
      HOB_CO_CHECK(change(configuration.value.tags, TaggedKind::kAutoScalingConfiguration));
      transaction.expect[configuration.entry.key] = configuration.entry.revision;
      transaction.put[configuration.entry.key] =
          encode_over(configuration.value, configuration.entry.value);
    }
    const auto committed = co_await store_.commit(std::move(transaction));
    if (committed) co_return Result<void>();
    if (committed.error().code != Code::kConflict) co_return fail(committed.error());
  }
  co_return fail(Code::kUnavailable, "the record kept being changed by others; try again");
}

Async<Result<TagResourceResponse>> Api::tag_resource(TagResourceRequest request,
                                                     aws::Caller caller) {
  const ChangeTags change = [&request](std::map<std::string, std::string>& tags,
                                       TaggedKind kind) -> Result<void> {
    HOB_TRY(tags, apply_tags(tags, request.tags, kind));
    return {};
  };
  HOB_CO_CHECK(co_await change_tags(request.resource_arn, std::move(caller), change));
  co_return TagResourceResponse{};
}

Async<Result<UntagResourceResponse>> Api::untag_resource(UntagResourceRequest request,
                                                         aws::Caller caller) {
  const ChangeTags change = [&request](std::map<std::string, std::string>& tags,
                                       TaggedKind) -> Result<void> {
    for (const std::string& key : request.tag_keys) tags.erase(key);
    return {};
  };
  HOB_CO_CHECK(co_await change_tags(request.resource_arn, std::move(caller), change));
  co_return UntagResourceResponse{};
}

Async<Result<ListTagsForResourceResponse>> Api::list_tags_for_resource(
    ListTagsForResourceRequest request, aws::Caller caller) {
  const auto parsed = parse_arn(request.resource_arn);
  if (!parsed) co_return not_an_arn(request.resource_arn);
  std::map<std::string, std::string> tags;
  if (parsed->kind == "service") {
    HOB_CO_TRY(const auto service, co_await find_service(request.resource_arn, caller));
    if (service.value.status == ServiceStatus::kDeleted)
      co_return no_such_resource(request.resource_arn);
    tags = service.value.tags;
  } else if (parsed->kind == "connection") {
    HOB_CO_TRY(const auto connection, co_await find_connection(request.resource_arn, caller));
    tags = connection.value.tags;
  } else if (parsed->kind == "observabilityconfiguration") {
    HOB_CO_TRY(const auto found, co_await find_observability(request.resource_arn, caller, false));
    tags = found.value.tags;
  } else {
    HOB_CO_TRY(const Scalings known, co_await scalings(caller.account));
    const auto found = match(known, request.resource_arn, caller.account, false);
    if (!found || *found == nullptr) co_return no_such_resource(request.resource_arn);
    tags = (*found)->value.tags;
  }
  ListTagsForResourceResponse response{.tags = std::vector<Tag>{}};
  for (const auto& [key, value] : tags) response.tags->push_back({.key = key, .value = value});
  co_return response;
}

}  // namespace hob::runner
