// Auto scaling configurations: numbered revisions of a name, one of them the account's default.
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
using ScalingRecord = runner::AutoScalingConfiguration;

// What every account has from the start.
const ScalingReference kFirstDefault{
    .name = "DefaultConfiguration", .revision = 1, .id = "00000000000000000000000000000001"};

ScalingReference reference_of(const ScalingRecord& configuration) {
  return {.name = configuration.name, .revision = configuration.revision, .id = configuration.id};
}

bool uses(const runner::Service& service, const ScalingRecord& configuration) {
  return service.status != ServiceStatus::kDeleted &&
         service.configuration.scaling == reference_of(configuration);
}

std::unexpected<Error> unknown_arn(const std::string& arn) {
  return invalid_request_exception(
      fmt::format("The auto scaling configuration ARN you specified isn't valid. ARN: '{}'", arn));
}
std::unexpected<Error> no_such_configuration(const std::string& arn) {
  return resource_not_found_exception(
      fmt::format("Auto scaling configuration with the provided ARN does not exist: {}.", arn));
}
// The highest active revision of a name; 0: none.
template <class Stored>
int highest_revision(const std::vector<Stored>& all, const std::string& name) {
  int highest = 0;
  for (const Stored& each : all) {
    if (each.value.name == name && !each.value.deleted_at)
      highest = std::max(highest, each.value.revision);
  }
  return highest;
}

}  // namespace

Async<Result<Api::Scalings>> Api::scalings(std::string account) {
  for (int attempt = 0; attempt < kConflictRetriesMax; ++attempt) {
    const std::string preset_path = scaling_default_key(account);
    HOB_CO_TRY(auto preset_entry, co_await store_.get(preset_path));
    if (!preset_entry) {
      const ScalingRecord first{.account = account,
                                .name = kFirstDefault.name,
                                .revision = kFirstDefault.revision,
                                .id = kFirstDefault.id,
                                .created_at = clock_.now()};
      store::Transaction transaction;
      transaction.expect[preset_path] = store::kAbsent;
      transaction.put[preset_path] = encode(ScalingPointer{.scaling = kFirstDefault});
      transaction.put[scaling_key(account, first.name, first.revision, first.id)] = encode(first);
      const auto committed = co_await store_.commit(std::move(transaction));
      if (!committed && committed.error().code != Code::kConflict)
        co_return fail(committed.error());
      continue;
    }
    Scalings found;
    HOB_CO_TRY(const ScalingPointer preset,
               context(decode_pointer(preset_entry->value), "record {}", preset_path));
    found.preset = preset.scaling;
    found.preset_entry = std::move(*preset_entry);
    HOB_CO_TRY(store::Listing listing, co_await store_.list(scalings_of(account)));
    for (store::Entry& entry : listing.entries) {
      auto configuration = decode_scaling(entry.value);
      if (configuration)
        found.all.push_back({.value = std::move(*configuration), .entry = std::move(entry)});
      else
        log::error("record unreadable",
                   {{"key", entry.key}, {"error", configuration.error().message}});
    }
    co_return found;
  }
  co_return overtaken();
}

std::optional<const Api::Stored<ScalingRecord>*> Api::match(const Scalings& scalings,
                                                            const std::string& arn,
                                                            const std::string& account,
                                                            bool inactive_too) const {
  const auto parsed = parse_arn(arn);
  if (!parsed || parsed->kind != "autoscalingconfiguration") return std::nullopt;
  if (parsed->account != account || parsed->region != options_.region) return nullptr;
  const Stored<ScalingRecord>* best = nullptr;
  for (const Stored<ScalingRecord>& each : scalings.all) {
    if (each.value.name != parsed->name) continue;
    if (parsed->revision && each.value.revision != *parsed->revision) continue;
    if (!parsed->id.empty() && each.value.id != parsed->id) continue;
    if (each.value.deleted_at && !(inactive_too && !parsed->id.empty())) continue;
    if (best == nullptr || each.value.revision > best->value.revision) best = &each;
  }
  return best;
}

Result<Api::Stored<ScalingRecord>> Api::choose_scaling(const Scalings& scalings,
                                                       const std::optional<std::string>& arn,
                                                       const std::string& account) const {
  if (arn) {
    const auto found = match(scalings, *arn, account, false);
    if (!found || *found == nullptr) return unknown_arn(*arn);
    return **found;
  }
  for (const Stored<ScalingRecord>& each : scalings.all) {
    if (reference_of(each.value) == scalings.preset) return each;
  }
  return fail(Code::kCorrupt, "the default auto scaling configuration {} is missing",
              scalings.preset.name);
}

aws::apprunner::AutoScalingConfiguration Api::show(
    const ScalingRecord& configuration, const Scalings& scalings,
    const std::vector<runner::Service>& services) const {
  const ScalingReference reference = reference_of(configuration);
  return {
      .auto_scaling_configuration_arn = arn_of(options_.region, configuration.account, reference),
      .auto_scaling_configuration_name = configuration.name,
      .auto_scaling_configuration_revision = configuration.revision,
      .latest = !configuration.deleted_at &&
                configuration.revision == highest_revision(scalings.all, configuration.name),
      // Lower case, unlike every other status and the model: Terraform compares so.
      .status = configuration.deleted_at ? "inactive" : "active",
      .max_concurrency = configuration.max_concurrency,
      .min_size = configuration.min_size,
      .max_size = configuration.max_size,
      .created_at = configuration.created_at,
      .deleted_at = configuration.deleted_at,
      .has_associated_service = std::ranges::any_of(
          services, [&](const runner::Service& each) { return uses(each, configuration); }),
      .is_default = reference == scalings.preset};
}

Async<Result<CreateAutoScalingConfigurationResponse>> Api::create_auto_scaling_configuration(
    CreateAutoScalingConfigurationRequest request, aws::Caller caller) {
  ScalingRecord configuration{.account = caller.account,
                              .name = request.auto_scaling_configuration_name,
                              .max_concurrency = request.max_concurrency.value_or(100),
                              .min_size = request.min_size.value_or(1),
                              .max_size = request.max_size.value_or(25)};
  if (configuration.min_size > configuration.max_size) {
    co_return invalid_request_exception(
        fmt::format("MinSize ({}) can't be greater than MaxSize ({}).", configuration.min_size,
                    configuration.max_size));
  }
  if (configuration.max_size > kMaxSizeMax) {
    co_return invalid_request_exception(fmt::format("MaxSize is at most {}.", kMaxSizeMax));
  }
  HOB_CO_TRY(configuration.tags, apply_tags({}, request.tags.value_or(std::vector<Tag>{}),
                                            TaggedKind::kAutoScalingConfiguration));
  for (int attempt = 0; attempt < kConflictRetriesMax; ++attempt) {
    const std::string name_path = scaling_name_key(caller.account, configuration.name);
    HOB_CO_TRY(const auto name_entry, co_await store_.get(name_path));
    HOB_CO_TRY(Scalings known, co_await scalings(caller.account));
    HOB_CO_TRY(const auto services, co_await services_of_account(caller.account));
    const auto active = [](const Stored<ScalingRecord>& each) { return !each.value.deleted_at; };
    if (static_cast<size_t>(std::ranges::count_if(known.all, active)) >=
        kScalingConfigurationsMax) {
      co_return service_quota_exceeded_exception(fmt::format(
          "An account has at most {} auto scaling configurations.", kScalingConfigurationsMax));
    }
    configuration.revision = highest_revision(known.all, configuration.name) + 1;
    configuration.id = random_hex(random_, 32);
    configuration.created_at = clock_.now();
    store::Transaction transaction;
    transaction.expect[name_path] = name_entry ? name_entry->revision : store::kAbsent;
    transaction.put[name_path] = encode(ScalingPointer{.scaling = reference_of(configuration)});
    const std::string path =
        scaling_key(caller.account, configuration.name, configuration.revision, configuration.id);
    transaction.expect[path] = store::kAbsent;
    transaction.put[path] = encode(configuration);
    // Inactive ones are described for a while; those that a service lives on with stay as long as
    // it does.
    for (const Stored<ScalingRecord>& each : known.all) {
      const bool over =
          each.value.deleted_at && *each.value.deleted_at + kScalingKept < configuration.created_at;
      const bool used = std::ranges::any_of(
          services, [&](const runner::Service& service) { return uses(service, each.value); });
      if (over && !used && transaction.remove.size() < store::kTransactionKeysMax / 2)
        transaction.remove.push_back(each.entry.key);
    }
    const auto committed = co_await store_.commit(std::move(transaction));
    if (committed) {
      known.all.push_back({.value = configuration});
      co_return CreateAutoScalingConfigurationResponse{.auto_scaling_configuration =
                                                           show(configuration, known, services)};
    }
    if (committed.error().code != Code::kConflict) co_return fail(committed.error());
  }
  co_return overtaken();
}

Async<Result<DescribeAutoScalingConfigurationResponse>> Api::describe_auto_scaling_configuration(
    DescribeAutoScalingConfigurationRequest request, aws::Caller caller) {
  HOB_CO_TRY(const Scalings known, co_await scalings(caller.account));
  const auto found = match(known, request.auto_scaling_configuration_arn, caller.account, true);
  if (!found) co_return unknown_arn(request.auto_scaling_configuration_arn);
  if (*found == nullptr) co_return no_such_configuration(request.auto_scaling_configuration_arn);
  HOB_CO_TRY(const auto services, co_await services_of_account(caller.account));
  co_return DescribeAutoScalingConfigurationResponse{.auto_scaling_configuration =
                                                         show((*found)->value, known, services)};
}

Async<Result<ListAutoScalingConfigurationsResponse>> Api::list_auto_scaling_configurations(
    ListAutoScalingConfigurationsRequest request, aws::Caller caller) {
  HOB_CO_TRY(const Scalings known, co_await scalings(caller.account));
  HOB_CO_TRY(const auto services, co_await services_of_account(caller.account));
  std::vector<std::pair<std::string, AutoScalingConfigurationSummary>> items;
  for (const Stored<ScalingRecord>& each : known.all) {
    const auto shown = show(each.value, known, services);
    if (each.value.deleted_at) continue;
    if (request.auto_scaling_configuration_name &&
        *request.auto_scaling_configuration_name != each.value.name)
      continue;
    if (request.latest_only.value_or(true) && !*shown.latest) continue;
    items.emplace_back(
        fmt::format("{}/{:010}", each.value.name, each.value.revision),
        AutoScalingConfigurationSummary{
            .auto_scaling_configuration_arn = shown.auto_scaling_configuration_arn,
            .auto_scaling_configuration_name = shown.auto_scaling_configuration_name,
            .auto_scaling_configuration_revision = shown.auto_scaling_configuration_revision,
            .status = shown.status,
            .created_at = shown.created_at,
            .has_associated_service = shown.has_associated_service,
            .is_default = shown.is_default});
  }
  HOB_CO_TRY(auto page, page_of(std::move(items), request.next_token, request.max_results,
                                "ListAutoScalingConfigurations"));
  co_return ListAutoScalingConfigurationsResponse{
      .auto_scaling_configuration_summary_list = std::move(page.items),
      .next_token = std::move(page.next_token)};
}

Async<Result<DeleteAutoScalingConfigurationResponse>> Api::delete_auto_scaling_configuration(
    DeleteAutoScalingConfigurationRequest request, aws::Caller caller) {
  const std::string& arn = request.auto_scaling_configuration_arn;
  const bool every = request.delete_all_revisions.value_or(false);
  for (int attempt = 0; attempt < kConflictRetriesMax; ++attempt) {
    HOB_CO_TRY(Scalings known, co_await scalings(caller.account));
    const auto found = match(known, arn, caller.account, false);
    if (!found) co_return unknown_arn(arn);
    if (*found == nullptr) co_return no_such_configuration(arn);
    if (every && parse_arn(arn)->revision) {
      co_return invalid_request_exception(
          "To delete all revisions, give an ARN that ends with the configuration's name.");
    }
    const ScalingRecord chosen = (*found)->value;
    HOB_CO_TRY(const auto services, co_await services_of_account(caller.account));
    const Instant now = clock_.now();
    store::Transaction transaction;
    // UpdateDefault meanwhile would make one of these the default.
    transaction.expect[known.preset_entry.key] = known.preset_entry.revision;
    for (Stored<ScalingRecord>& each : known.all) {
      const bool mine = every ? each.value.name == chosen.name && !each.value.deleted_at
                              : each.value.id == chosen.id && each.value.name == chosen.name;
      if (!mine) continue;
      if (reference_of(each.value) == known.preset) {
        co_return invalid_request_exception(fmt::format(
            "You can't delete a reserved auto scaling configuration: '{}'.", each.value.name));
      }
      if (std::ranges::any_of(services, [&](const runner::Service& service) {
            return uses(service, each.value);
          })) {
        co_return invalid_request_exception(
            "You can't delete the auto scaling configuration. It's used by one or more services. "
            "To delete it, update "
            "the services to use other auto scaling configurations.");
      }
      each.value.deleted_at = now;
      transaction.expect[each.entry.key] = each.entry.revision;
      transaction.put[each.entry.key] = encode_over(each.value, each.entry.value);
    }
    const auto committed = co_await store_.commit(std::move(transaction));
    if (committed) {
      ScalingRecord deleted = chosen;
      deleted.deleted_at = now;
      co_return DeleteAutoScalingConfigurationResponse{.auto_scaling_configuration =
                                                           show(deleted, known, services)};
    }
    if (committed.error().code != Code::kConflict) co_return fail(committed.error());
  }
  co_return overtaken();
}

Async<Result<UpdateDefaultAutoScalingConfigurationResponse>>
Api::update_default_auto_scaling_configuration(UpdateDefaultAutoScalingConfigurationRequest request,
                                               aws::Caller caller) {
  for (int attempt = 0; attempt < kConflictRetriesMax; ++attempt) {
    HOB_CO_TRY(Scalings known, co_await scalings(caller.account));
    const auto found = match(known, request.auto_scaling_configuration_arn, caller.account, false);
    if (!found) co_return unknown_arn(request.auto_scaling_configuration_arn);
    if (*found == nullptr) co_return no_such_configuration(request.auto_scaling_configuration_arn);
    const ScalingRecord chosen = (*found)->value;
    store::Transaction transaction;
    transaction.expect[(*found)->entry.key] = (*found)->entry.revision;
    transaction.expect[known.preset_entry.key] = known.preset_entry.revision;
    transaction.put[known.preset_entry.key] =
        encode(ScalingPointer{.scaling = reference_of(chosen)});
    const auto committed = co_await store_.commit(std::move(transaction));
    if (committed) {
      known.preset = reference_of(chosen);
      HOB_CO_TRY(const auto services, co_await services_of_account(caller.account));
      co_return UpdateDefaultAutoScalingConfigurationResponse{.auto_scaling_configuration =
                                                                  show(chosen, known, services)};
    }
    if (committed.error().code != Code::kConflict) co_return fail(committed.error());
  }
  co_return overtaken();
}

Async<Result<ListServicesForAutoScalingConfigurationResponse>>
Api::list_services_for_auto_scaling_configuration(
    ListServicesForAutoScalingConfigurationRequest request, aws::Caller caller) {
  HOB_CO_TRY(const Scalings known, co_await scalings(caller.account));
  const auto found = match(known, request.auto_scaling_configuration_arn, caller.account, true);
  if (!found) co_return unknown_arn(request.auto_scaling_configuration_arn);
  if (*found == nullptr) co_return no_such_configuration(request.auto_scaling_configuration_arn);
  const ScalingRecord chosen = (*found)->value;
  HOB_CO_TRY(const auto services, co_await services_of_account(caller.account));
  std::vector<std::pair<std::string, std::string>> items;
  for (const runner::Service& service : services) {
    if (uses(service, chosen)) items.emplace_back(service.id, arn_of(service));
  }
  HOB_CO_TRY(auto page, page_of(std::move(items), request.next_token, request.max_results,
                                "ListServicesForAutoScalingConfiguration"));
  co_return ListServicesForAutoScalingConfigurationResponse{
      .service_arn_list = std::move(page.items), .next_token = std::move(page.next_token)};
}

}  // namespace hob::runner
