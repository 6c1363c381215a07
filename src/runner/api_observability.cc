// Observability configurations: numbered revisions of a name. What they ask for, traces, Hob does
// not collect: they are kept, answered and given to services as AWS does, so that stock clients and
// their plans work.
#include <algorithm>

#include "aws/apprunner/errors.h"
#include "base/log.h"
#include "runner/api.h"
#include "runner/configuration.h"
#include "runner/keys.h"
#include "runner/paging.h"

namespace hob::runner {

namespace {

using namespace aws::apprunner;
using ObservabilityRecord = runner::ObservabilityConfiguration;

// What every account has from the start; it is no record until somebody changes it.
constexpr std::string_view kFirstName = "DefaultConfiguration";
constexpr std::string_view kFirstId = "00000000000000000000000000000001";
constexpr const char* kVendor = "AWSXRAY";

std::unexpected<Error> unknown_arn(const std::string& arn) {
  return invalid_request_exception(
      fmt::format("The observability configuration ARN you specified isn't valid. ARN: '{}'", arn));
}
std::unexpected<Error> no_such_configuration(const std::string& arn) {
  return resource_not_found_exception(
      fmt::format("Observability configuration with the provided ARN does not exist: {}.", arn));
}

bool is_first(const ObservabilityRecord& configuration) { return configuration.id == kFirstId; }

template <class Stored>
int highest_revision(const std::vector<Stored>& all, const std::string& name) {
  int highest = 0;
  for (const Stored& each : all) {
    if (each.value.name == name && !each.value.deleted_at)
      highest = std::max(highest, each.value.revision);
  }
  return highest;
}

template <class Stored>
aws::apprunner::ObservabilityConfiguration shown_configuration(
    const std::string& region, const ObservabilityRecord& configuration,
    const std::vector<Stored>& all) {
  aws::apprunner::ObservabilityConfiguration shown{
      .observability_configuration_arn = arn_of(region, configuration),
      .observability_configuration_name = configuration.name,
      .observability_configuration_revision = configuration.revision,
      .latest = !configuration.deleted_at &&
                configuration.revision == highest_revision(all, configuration.name),
      .status = configuration.deleted_at ? "INACTIVE" : "ACTIVE",
      .created_at = configuration.created_at,
      .deleted_at = configuration.deleted_at};
  if (configuration.vendor)
    shown.trace_configuration = TraceConfiguration{.vendor = *configuration.vendor};
  return shown;
}

}  // namespace

Async<Result<std::vector<Api::Stored<ObservabilityRecord>>>> Api::observabilities(
    std::string account) {
  HOB_CO_TRY(store::Listing listing, co_await store_.list(observabilities_of(account)));
  std::vector<Stored<ObservabilityRecord>> all;
  all.push_back({.value = {.account = account,
                           .name = std::string(kFirstName),
                           .id = std::string(kFirstId),
                           .vendor = kVendor}});
  for (store::Entry& entry : listing.entries) {
    auto configuration = decode_observability(entry.value);
    if (!configuration) {
      log::error("record unreadable",
                 {{"key", entry.key}, {"error", configuration.error().message}});
      continue;
    }
    if (is_first(*configuration)) all.erase(all.begin());
    all.push_back({.value = std::move(*configuration), .entry = std::move(entry)});
  }
  co_return all;
}

Async<Result<Api::Stored<ObservabilityRecord>>> Api::find_observability(std::string arn,
                                                                        aws::Caller caller,
                                                                        bool inactive_too) {
  const auto parsed = parse_arn(arn);
  if (!parsed || parsed->kind != "observabilityconfiguration") co_return unknown_arn(arn);
  if (parsed->account != caller.account || parsed->region != options_.region)
    co_return no_such_configuration(arn);
  HOB_CO_TRY(const auto all, co_await observabilities(caller.account));
  const Stored<ObservabilityRecord>* best = nullptr;
  for (const Stored<ObservabilityRecord>& each : all) {
    if (each.value.name != parsed->name) continue;
    if (parsed->revision && each.value.revision != *parsed->revision) continue;
    if (!parsed->id.empty() && each.value.id != parsed->id) continue;
    if (each.value.deleted_at && !(inactive_too && !parsed->id.empty())) continue;
    if (best == nullptr || each.value.revision > best->value.revision) best = &each;
  }
  if (best == nullptr) co_return no_such_configuration(arn);
  co_return *best;
}

Async<Result<void>> Api::complete_observability(
    std::optional<ServiceObservabilityConfiguration>& given, aws::Caller caller) {
  if (!given) co_return Result<void>();
  if (!given->observability_enabled) {
    if (given->observability_configuration_arn) {
      co_return invalid_request_exception(
          "ObservabilityConfigurationArn is given only when ObservabilityEnabled is true.");
    }
    co_return Result<void>();
  }
  // The model's own default where none is named.
  const std::string wanted = given->observability_configuration_arn.value_or(
      fmt::format("arn:aws:apprunner:{}:{}:observabilityconfiguration/{}", options_.region,
                  caller.account, kFirstName));
  const auto found = co_await find_observability(wanted, caller, false);
  if (!found && found.error().aws_code.empty()) co_return fail(found.error());
  if (!found) co_return unknown_arn(wanted);
  given->observability_configuration_arn = arn_of(options_.region, found->value);
  co_return Result<void>();
}

Async<Result<CreateObservabilityConfigurationResponse>> Api::create_observability_configuration(
    CreateObservabilityConfigurationRequest request, aws::Caller caller) {
  ObservabilityRecord configuration{.account = caller.account,
                                    .name = request.observability_configuration_name};
  if (request.trace_configuration) configuration.vendor = request.trace_configuration->vendor;
  HOB_CO_TRY(configuration.tags, apply_tags({}, request.tags.value_or(std::vector<Tag>{}),
                                            TaggedKind::kObservabilityConfiguration));
  for (int attempt = 0; attempt < kConflictRetriesMax; ++attempt) {
    HOB_CO_TRY(auto all, co_await observabilities(caller.account));
    const auto active = [](const Stored<ObservabilityRecord>& each) {
      return !each.value.deleted_at;
    };
    if (static_cast<size_t>(std::ranges::count_if(all, active)) >= kObservabilitiesMax) {
      co_return service_quota_exceeded_exception(fmt::format(
          "An account has at most {} observability configurations.", kObservabilitiesMax));
    }
    configuration.revision = highest_revision(all, configuration.name) + 1;
    configuration.id = random_hex(random_, 32);
    configuration.created_at = clock_.now();
    // By name and revision alone, so that two makers do not get the same number; an inactive one
    // of that number gives its place up.
    const std::string path =
        observability_key(caller.account, configuration.name, configuration.revision);
    HOB_CO_TRY(const auto entry, co_await store_.get(path));
    if (entry) {
      HOB_CO_TRY(const ObservabilityRecord before,
                 context(decode_observability(entry->value), "record {}", path));
      if (!before.deleted_at) continue;
    }
    store::Transaction transaction;
    transaction.expect[path] = entry ? entry->revision : store::kAbsent;
    transaction.put[path] = encode(configuration);
    const auto committed = co_await store_.commit(std::move(transaction));
    if (committed) {
      all.push_back({.value = configuration});
      co_return CreateObservabilityConfigurationResponse{
          .observability_configuration = shown_configuration(options_.region, configuration, all)};
    }
    if (committed.error().code != Code::kConflict) co_return fail(committed.error());
  }
  co_return overtaken();
}

Async<Result<DescribeObservabilityConfigurationResponse>> Api::describe_observability_configuration(
    DescribeObservabilityConfigurationRequest request, aws::Caller caller) {
  HOB_CO_TRY(const auto found,
             co_await find_observability(request.observability_configuration_arn, caller, true));
  HOB_CO_TRY(const auto all, co_await observabilities(caller.account));
  co_return DescribeObservabilityConfigurationResponse{
      .observability_configuration = shown_configuration(options_.region, found.value, all)};
}

Async<Result<ListObservabilityConfigurationsResponse>> Api::list_observability_configurations(
    ListObservabilityConfigurationsRequest request, aws::Caller caller) {
  HOB_CO_TRY(const auto all, co_await observabilities(caller.account));
  std::vector<std::pair<std::string, ObservabilityConfigurationSummary>> items;
  for (const Stored<ObservabilityRecord>& each : all) {
    const auto shown = shown_configuration(options_.region, each.value, all);
    if (each.value.deleted_at) continue;
    if (request.observability_configuration_name &&
        *request.observability_configuration_name != each.value.name)
      continue;
    if (request.latest_only.value_or(true) && !*shown.latest) continue;
    items.emplace_back(
        fmt::format("{}/{:010}", each.value.name, each.value.revision),
        ObservabilityConfigurationSummary{
            .observability_configuration_arn = shown.observability_configuration_arn,
            .observability_configuration_name = shown.observability_configuration_name,
            .observability_configuration_revision = shown.observability_configuration_revision});
  }
  HOB_CO_TRY(auto page, page_of(std::move(items), request.next_token, request.max_results,
                                "ListObservabilityConfigurations"));
  co_return ListObservabilityConfigurationsResponse{
      .observability_configuration_summary_list = std::move(page.items),
      .next_token = std::move(page.next_token)};
}

Async<Result<DeleteObservabilityConfigurationResponse>> Api::delete_observability_configuration(
    DeleteObservabilityConfigurationRequest request, aws::Caller caller) {
  for (int attempt = 0; attempt < kConflictRetriesMax; ++attempt) {
    HOB_CO_TRY(auto found,
               co_await find_observability(request.observability_configuration_arn, caller, false));
    if (is_first(found.value)) {
      co_return invalid_request_exception(fmt::format(
          "You can't delete a reserved observability configuration: '{}'.", found.value.name));
    }
    const std::string arn = arn_of(options_.region, found.value);
    HOB_CO_TRY(const auto services, co_await services_of_account(caller.account));
    if (std::ranges::any_of(services, [&](const runner::Service& service) {
          return service.status != ServiceStatus::kDeleted &&
                 service.configuration.observability_arn == arn;
        })) {
      co_return invalid_request_exception(
          "You can't delete the observability configuration. It's used by one or more services. "
          "To delete it, update the services to use other observability configurations.");
    }
    found.value.deleted_at = clock_.now();
    store::Transaction transaction;
    transaction.expect[found.entry.key] = found.entry.revision;
    transaction.put[found.entry.key] = encode_over(found.value, found.entry.value);
    const auto committed = co_await store_.commit(std::move(transaction));
    if (committed) {
      HOB_CO_TRY(const auto all, co_await observabilities(caller.account));
      co_return DeleteObservabilityConfigurationResponse{
          .observability_configuration = shown_configuration(options_.region, found.value, all)};
    }
    if (committed.error().code != Code::kConflict) co_return fail(committed.error());
  }
  co_return overtaken();
}

}  // namespace hob::runner
