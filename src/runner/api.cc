#include "runner/api.h"

#include <algorithm>

#include "aws/apprunner/errors.h"
#include "base/log.h"
#include "runner/configuration.h"
#include "runner/extensions.h"
#include "runner/keys.h"
#include "runner/operations.h"
#include "runner/paging.h"

namespace hob::runner {

namespace {

using namespace aws::apprunner;
using RunnerService = runner::Service;

constexpr std::string_view kSubdomainAlphabet = "abcdefghijklmnopqrstuvwxyz23456789";
constexpr size_t kSubdomainLength = 10;

std::unexpected<Error> wrong_state(const char* done, const RunnerService& service) {
  return invalid_state_exception(
      fmt::format("Service cannot be {} in the current state: {}.", done, word(service.status)));
}

template <class Request>
ConfigurationRequest parts_of(const Request& request) {
  const auto value_or_null = [](const auto& member) { return member ? &*member : nullptr; };
  ConfigurationRequest parts{.instance = value_or_null(request.instance_configuration),
                             .health = value_or_null(request.health_check_configuration),
                             .network = value_or_null(request.network_configuration),
                             .observability = value_or_null(request.observability_configuration)};
  if constexpr (std::is_same_v<Request, CreateServiceRequest>)
    parts.source = &request.source_configuration;
  else
    parts.source = value_or_null(request.source_configuration);
  return parts;
}

// What a request alone says of a new service.
struct Asked {
  Configuration configuration{};
  std::map<std::string, std::string> tags{};
};

Result<Asked> asked_by(const CreateServiceRequest& request, const Images& images) {
  if (request.encryption_configuration) {
    return invalid_request_exception(
        "Keys of your own (EncryptionConfiguration) aren't supported by this version of Hob yet.");
  }
  Asked asked;
  HOB_TRY(asked.configuration, apply_request({}, parts_of(request), images));
  HOB_TRY(asked.tags,
          apply_tags({}, request.tags.value_or(std::vector<Tag>{}), TaggedKind::kService));
  return asked;
}

bool may_be_updated(const RunnerService& service) {
  return service.status == ServiceStatus::kRunning ||
         service.status == ServiceStatus::kCreateFailed;
}

// Ascending keys that show the newest first.
std::string newest_first(Instant at, const std::string& id) {
  return fmt::format("{:020}{}", INT64_MAX - at.time_since_epoch().count(), id);
}

}  // namespace

Api::Api(store::Store& store, Clock& clock, Random& random, Images& images, ApiOptions options)
    : store_(store),
      clock_(clock),
      random_(random),
      images_(images),
      options_(std::move(options)) {}

std::unexpected<Error> Api::overtaken() {
  return fail(Code::kUnavailable, "the record kept being changed by others; try again");
}

Operation Api::new_operation(const runner::Service& service, OperationType type, Instant now) {
  return {.id = random_uuid(random_),
          .account = service.account,
          .service = service.id,
          .type = type,
          .started_at = now,
          .updated_at = now};
}

Async<Result<Api::Stored<runner::Service>>> Api::find_service(std::string arn, aws::Caller caller) {
  const auto parsed = parse_arn(arn);
  if (!parsed || parsed->kind != "service") {
    co_return invalid_request_exception(
        fmt::format("The service ARN you specified isn't valid. ARN: '{}'", arn));
  }
  const auto not_found = resource_not_found_exception(
      fmt::format("Service with the provided ARN does not exist: {}.", arn));
  if (parsed->account != caller.account || parsed->region != options_.region) co_return not_found;
  HOB_CO_TRY(auto entry, co_await store_.get(service_key(caller.account, parsed->id)));
  if (!entry) co_return not_found;
  HOB_CO_TRY(RunnerService service, context(decode_service(entry->value), "record {}", entry->key));
  if (service.name != parsed->name) co_return not_found;
  co_return Stored<RunnerService>{.value = std::move(service), .entry = std::move(*entry)};
}

Async<Result<std::vector<runner::Service>>> Api::services_of_account(std::string account) {
  HOB_CO_TRY(const store::Listing listing, co_await store_.list(services_of(account)));
  std::vector<RunnerService> services;
  for (const store::Entry& entry : listing.entries) {
    auto service = decode_service(entry.value);
    if (service)
      services.push_back(std::move(*service));
    else
      log::error("record unreadable", {{"key", entry.key}, {"error", service.error().message}});
  }
  co_return services;
}

Async<Result<CreateServiceResponse>> Api::create_service(CreateServiceRequest request,
                                                         aws::Caller caller) {
  const std::string& account = caller.account;
  HOB_CO_CHECK(co_await complete_observability(request.observability_configuration, caller));
  HOB_CO_TRY(const Asked asked, asked_by(request, images_));
  const auto& [configuration, tags] = asked;
  HOB_CO_CHECK(co_await check_isolation(tags));

  for (int attempt = 0; attempt < kConflictRetriesMax; ++attempt) {
    HOB_CO_TRY(const Scalings known, co_await scalings(account));
    HOB_CO_TRY(const auto scaling,
               choose_scaling(known, request.auto_scaling_configuration_arn, account));
    HOB_CO_CHECK(check_minimum(tags, scaling.value.max_size));
    HOB_CO_TRY(const std::vector<RunnerService> others, co_await services_of_account(account));
    const auto lives = [](const RunnerService& each) {
      return each.status != ServiceStatus::kDeleted;
    };
    if (static_cast<size_t>(std::ranges::count_if(others, lives)) >= kServicesMax) {
      co_return service_quota_exceeded_exception(
          fmt::format("An account has at most {} services.", kServicesMax));
    }
    const std::string name_path = name_key(account, request.service_name);
    HOB_CO_TRY(const auto taken, co_await store_.get(name_path));
    if (taken) {
      co_return invalid_request_exception(
          fmt::format("Service with the provided name already exists: {}.", request.service_name));
    }
    const Instant now = clock_.now();
    RunnerService service{.account = account,
                          .region = options_.region,
                          .id = random_hex(random_, 32),
                          .name = request.service_name,
                          .subdomain = random_word(random_, kSubdomainLength, kSubdomainAlphabet),
                          .configuration = configuration,
                          .tags = tags,
                          .created_at = now,
                          .updated_at = now};
    service.url = fmt::format("{}.{}.{}", service.subdomain, options_.region, options_.url_suffix);
    service.configuration.scaling = {
        .name = scaling.value.name, .revision = scaling.value.revision, .id = scaling.value.id};
    const Operation operation = new_operation(service, OperationType::kCreateService, now);
    service.operation = operation.id;

    const std::string service_path = service_key(account, service.id);
    const std::string subdomain_path = subdomain_key(service.subdomain);
    store::Transaction transaction;
    for (const std::string& path : {name_path, subdomain_path, service_path})
      transaction.expect[path] = store::kAbsent;
    transaction.expect[scaling.entry.key] = scaling.entry.revision;
    transaction.put[name_path] = "\"" + service.id + "\"";
    transaction.put[subdomain_path] = "\"" + service.id + "\"";
    transaction.put[service_path] = encode(service);
    transaction.put[operation_key(account, service.id, operation.id)] = encode(operation);
    const auto committed = co_await store_.commit(std::move(transaction));
    if (committed) {
      log::info("service created",
                {{"service", service.id}, {"name", service.name}, {"operation", operation.id}});
      co_return CreateServiceResponse{.service = runner::show(service),
                                      .operation_id = operation.id};
    }
    if (committed.error().code != Code::kConflict) co_return fail(committed.error());
  }
  co_return overtaken();
}

Async<Result<DescribeServiceResponse>> Api::describe_service(DescribeServiceRequest request,
                                                             aws::Caller caller) {
  HOB_CO_TRY(const auto service,
             co_await find_service(std::move(request.service_arn), std::move(caller)));
  co_return DescribeServiceResponse{.service = runner::show(service.value)};
}

Async<Result<ListServicesResponse>> Api::list_services(ListServicesRequest request,
                                                       aws::Caller caller) {
  HOB_CO_TRY(const std::vector<RunnerService> services,
             co_await services_of_account(caller.account));
  std::vector<std::pair<std::string, ServiceSummary>> items;
  for (const RunnerService& service : services) {
    if (service.status == ServiceStatus::kDeleted) continue;
    items.emplace_back(newest_first(service.created_at, service.id), show_summary(service));
  }
  HOB_CO_TRY(auto page,
             page_of(std::move(items), request.next_token, request.max_results, "ListServices"));
  co_return ListServicesResponse{.service_summary_list = std::move(page.items),
                                 .next_token = std::move(page.next_token)};
}

Async<Result<Api::Begun>> Api::begin(std::string arn, OperationType type, aws::Caller caller,
                                     Change check, Mark mark) {
  for (int attempt = 0; attempt < kConflictRetriesMax; ++attempt) {
    HOB_CO_TRY(auto stored, co_await find_service(arn, caller));
    RunnerService service = std::move(stored.value);
    HOB_CO_CHECK(check(service));
    const Instant now = clock_.now();
    Operation operation = new_operation(service, type, now);
    if (mark) mark(operation);
    service.operation = operation.id;
    service.status = ServiceStatus::kOperationInProgress;
    service.updated_at = now;
    store::Transaction transaction;
    HOB_CO_CHECK(co_await drop_old_operations(store_, service.account, service.id, transaction));
    transaction.expect[stored.entry.key] = stored.entry.revision;
    transaction.put[stored.entry.key] = encode_over(service, stored.entry.value);
    transaction.put[operation_key(service.account, service.id, operation.id)] = encode(operation);
    const auto committed = co_await store_.commit(std::move(transaction));
    if (committed) {
      log::info("operation accepted",
                {{"service", service.id}, {"type", word(type)}, {"operation", operation.id}});
      co_return Begun{.service = std::move(service), .operation = std::move(operation)};
    }
    if (committed.error().code != Code::kConflict) co_return fail(committed.error());
  }
  co_return overtaken();
}

Async<Result<UpdateServiceResponse>> Api::update_service(UpdateServiceRequest request,
                                                         aws::Caller caller) {
  HOB_CO_TRY(const Scalings known, co_await scalings(caller.account));
  std::optional<ScalingReference> scaling;
  int max_size = 0;
  if (request.auto_scaling_configuration_arn) {
    HOB_CO_TRY(const auto chosen,
               choose_scaling(known, request.auto_scaling_configuration_arn, caller.account));
    scaling = ScalingReference{
        .name = chosen.value.name, .revision = chosen.value.revision, .id = chosen.value.id};
    max_size = chosen.value.max_size;
  }
  if (request.tags) {
    HOB_CO_TRY(auto given, apply_tags({}, *request.tags, TaggedKind::kService));
    HOB_CO_CHECK(co_await check_isolation(std::move(given)));
  }
  HOB_CO_CHECK(co_await complete_observability(request.observability_configuration, caller));
  const ConfigurationRequest parts = parts_of(request);
  const Change change = [&](RunnerService& service) -> Result<void> {
    if (!may_be_updated(service)) return wrong_state("updated", service);
    auto tags = service.tags;
    if (request.tags) {
      HOB_TRY(tags, apply_tags(std::move(tags), *request.tags, TaggedKind::kService));
      const ScalingReference& uses = service.configuration.scaling;
      for (const Stored<AutoScalingConfiguration>& each : known.all) {
        if (!scaling && each.value.name == uses.name && each.value.id == uses.id)
          HOB_CHECK(check_minimum(tags, each.value.max_size));
      }
    }
    HOB_TRY(Configuration configuration, apply_request(service.configuration, parts, images_));
    if (scaling) {
      HOB_CHECK(check_minimum(tags, max_size));
      configuration.scaling = *scaling;
    }
    service.previous = std::move(service.configuration);
    service.digest_tried_previous = service.digest_tried;
    service.version_tags_previous = version_tags(service.tags);
    service.configuration = std::move(configuration);
    service.tags = std::move(tags);
    return {};
  };
  HOB_CO_TRY(const Begun begun, co_await begin(request.service_arn, OperationType::kUpdateService,
                                               std::move(caller), change));
  co_return UpdateServiceResponse{.service = runner::show(begun.service),
                                  .operation_id = begun.operation.id};
}

Result<void> Api::check_creation(const CreateServiceRequest& request) const {
  HOB_CHECK(asked_by(request, images_));
  return {};
}

Async<Result<void>> Api::check_update(UpdateServiceRequest request, aws::Caller caller) {
  HOB_CO_TRY(const auto stored, co_await find_service(request.service_arn, std::move(caller)));
  if (!may_be_updated(stored.value)) co_return wrong_state("updated", stored.value);
  HOB_CO_CHECK(apply_request(stored.value.configuration, parts_of(request), images_));
  co_return Result<void>{};
}

Async<Result<DeleteServiceResponse>> Api::delete_service(DeleteServiceRequest request,
                                                         aws::Caller caller) {
  const Change change = [](RunnerService& service) -> Result<void> {
    if (service.status == ServiceStatus::kOperationInProgress ||
        service.status == ServiceStatus::kDeleted) {
      return wrong_state("deleted", service);
    }
    return {};
  };
  HOB_CO_TRY(const Begun begun, co_await begin(request.service_arn, OperationType::kDeleteService,
                                               std::move(caller), change));
  co_return DeleteServiceResponse{.service = runner::show(begun.service),
                                  .operation_id = begun.operation.id};
}

Async<Result<PauseServiceResponse>> Api::pause_service(PauseServiceRequest request,
                                                       aws::Caller caller) {
  const Change change = [](RunnerService& service) -> Result<void> {
    if (service.status != ServiceStatus::kRunning) return wrong_state("paused", service);
    return {};
  };
  HOB_CO_TRY(const Begun begun, co_await begin(request.service_arn, OperationType::kPauseService,
                                               std::move(caller), change));
  co_return PauseServiceResponse{.service = runner::show(begun.service),
                                 .operation_id = begun.operation.id};
}

Async<Result<ResumeServiceResponse>> Api::resume_service(ResumeServiceRequest request,
                                                         aws::Caller caller) {
  const Change change = [](RunnerService& service) -> Result<void> {
    if (service.status != ServiceStatus::kPaused) return wrong_state("resumed", service);
    return {};
  };
  HOB_CO_TRY(const Begun begun, co_await begin(request.service_arn, OperationType::kResumeService,
                                               std::move(caller), change));
  co_return ResumeServiceResponse{.service = runner::show(begun.service),
                                  .operation_id = begun.operation.id};
}

Async<Result<StartDeploymentResponse>> Api::start_deployment(StartDeploymentRequest request,
                                                             aws::Caller caller) {
  const Change change = [](RunnerService& service) -> Result<void> {
    if (service.status != ServiceStatus::kRunning) {
      return invalid_request_exception(
          "Can't start a deployment on the specified service, because it isn't in RUNNING state.");
    }
    return {};
  };
  HOB_CO_TRY(const Begun begun, co_await begin(request.service_arn, OperationType::kStartDeployment,
                                               std::move(caller), change));
  co_return StartDeploymentResponse{.operation_id = begun.operation.id};
}

Async<Result<ListOperationsResponse>> Api::list_operations(ListOperationsRequest request,
                                                           aws::Caller caller) {
  HOB_CO_TRY(const auto service, co_await find_service(request.service_arn, caller));
  const std::string prefix = operations_of(caller.account, service.value.id);
  HOB_CO_TRY(const store::Listing listing, co_await store_.list(prefix));
  std::vector<std::pair<std::string, OperationSummary>> items;
  for (const store::Entry& entry : listing.entries) {
    const auto operation = decode_operation(entry.value);
    if (!operation) {
      log::error("record unreadable", {{"key", entry.key}, {"error", operation.error().message}});
      continue;
    }
    items.emplace_back(newest_first(operation->started_at, operation->id),
                       runner::show(*operation, service.value));
  }
  HOB_CO_TRY(auto page,
             page_of(std::move(items), request.next_token, request.max_results, "ListOperations"));
  co_return ListOperationsResponse{.operation_summary_list = std::move(page.items),
                                   .next_token = std::move(page.next_token)};
}

}  // namespace hob::runner
