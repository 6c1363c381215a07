#include "daemon/hob_service.h"

#include <array>
#include <boost/json.hpp>
#include <map>
#include <set>

#include "aws/apprunner/handler.h"
#include "base/certificate.h"
#include "cluster/keys.h"
#include "cluster/records.h"
#include "cluster/task_state.h"
#include "image/records.h"
#include "runner/domain.h"
#include "runner/extensions.h"

namespace hob::daemon {
namespace {

namespace json = boost::json;

constexpr std::string_view kFirstAccount = "000000000001";
constexpr std::string_view kAppRunnerCluster = "apprunner";  // cluster::Service's default
constexpr std::array<aws::ErrorShape, 6> kErrors = {{
    {.name = "AccessDeniedException",
     .code = "AccessDeniedException",
     .status = 400,
     .message_member = "message"},
    {.name = "InvalidRequestException",
     .code = "InvalidRequestException",
     .status = 400,
     .message_member = "message"},
    {.name = "InvalidStateException",
     .code = "InvalidStateException",
     .status = 400,
     .message_member = "message"},
    {.name = "ResourceNotFoundException",
     .code = "ResourceNotFoundException",
     .status = 400,
     .message_member = "message"},
    {.name = "ServiceUnavailableException",
     .code = "ServiceUnavailableException",
     .status = 503,
     .message_member = "message"},
    {.name = "ValidationException",
     .code = "ValidationException",
     .status = 400,
     .message_member = "message"},
}};
constexpr aws::ServiceModel kModel = {.name = "hob",
                                      .signing_name = "hob",
                                      .protocol = aws::Protocol::kJson,
                                      .json_version = "1.1",
                                      .target_prefix = "Hob",
                                      .api_version = "2026-11-23",
                                      .xml_namespace = "",
                                      .validation_error = "ValidationException",
                                      .internal_error = "ServiceUnavailableException",
                                      .errors = kErrors};

std::unexpected<Error> refuse(std::string_view shape, std::string message) {
  return fail(
      Error{.code = Code::kInvalid, .message = std::move(message), .aws_code = std::string(shape)});
}

std::unexpected<Error> refuse(const Error& error) {
  const char* shape = "ServiceUnavailableException";
  if (error.code == Code::kInvalid || error.code == Code::kLimit) shape = "ValidationException";
  if (error.code == Code::kNotFound) shape = "ResourceNotFoundException";
  return refuse(shape, error.message);
}

// A string member that must be there.
Result<std::string> wanted(const json::object& input, std::string_view name,
                           size_t bytes_max = kRegistryLoginBytesMax) {
  const json::value* value = input.if_contains(name);
  if (value == nullptr || !value->is_string() || value->as_string().empty()) {
    return refuse("ValidationException", fmt::format("{} is missing", name));
  }
  if (value->as_string().size() > bytes_max) {
    return refuse("ValidationException",
                  fmt::format("{} is longer than {} bytes", name, bytes_max));
  }
  return std::string(value->as_string());
}

// App Runner's requests read and checked, without their effect.
class DryRun final : public aws::apprunner::Handler {
 public:
  explicit DryRun(runner::Api& runner) : runner_(runner) {}

  Async<Result<aws::apprunner::CreateServiceResponse>> create_service(
      aws::apprunner::CreateServiceRequest request, aws::Caller) override {
    HOB_CO_CHECK(runner_.check_creation(request));
    co_return aws::apprunner::CreateServiceResponse{};
  }
  Async<Result<aws::apprunner::UpdateServiceResponse>> update_service(
      aws::apprunner::UpdateServiceRequest request, aws::Caller caller) override {
    HOB_CO_CHECK(co_await runner_.check_update(std::move(request), std::move(caller)));
    co_return aws::apprunner::UpdateServiceResponse{};
  }

 private:
  runner::Api& runner_;
};

class HobService final : public aws::Service {
 public:
  HobService(identity::Directory& directory, image::Catalog& catalog, runner::Api& runner,
             store::Store& store)
      : directory_(directory),
        catalog_(catalog),
        runner_(runner),
        store_(store),
        dry_run_(runner),
        dry_service_(aws::apprunner::make_service(dry_run_)) {}

  const aws::ServiceModel& model() const override { return kModel; }
  std::vector<std::string_view> operations() const override {
    return {
        "CancelOperation",     "CheckRequest",        "CheckSettings",
        "CompleteConnection",  "CreateAccount",       "DeleteCertificate",
        "DeleteRegistryLogin", "ListAccounts",        "ListCertificates",
        "ListDomains",         "ListOperations",      "ListRegistryLogins",
        "ListRevisions",       "ListServiceCapacity", "PromoteOperation",
        "PutCertificate",      "PutRegistryLogin",    "RollBack",
    };
  }

  Async<Result<std::string>> call(aws::Call call, aws::Caller caller) override {
    boost::system::error_code error;
    json::value parsed = json::parse(call.body.empty() ? "{}" : call.body, error);
    if (error || !parsed.is_object())
      co_return refuse("ValidationException", "the body is no JSON object");
    const json::object input = std::move(parsed.as_object());
    if (call.operation == "PutRegistryLogin") co_return co_await put_login(input, caller);
    if (call.operation == "DeleteRegistryLogin") co_return co_await delete_login(input, caller);
    if (call.operation == "ListRegistryLogins") co_return co_await list_logins(caller);
    if (call.operation == "CancelOperation") co_return co_await cancel_operation(input, caller);
    if (call.operation == "PromoteOperation") co_return co_await promote_operation(input, caller);
    if (call.operation == "ListOperations") co_return co_await list_operations(input, caller);
    if (call.operation == "ListRevisions") co_return co_await list_revisions(input, caller);
    if (call.operation == "RollBack") co_return co_await roll_back(input, caller);
    if (call.operation == "CheckRequest") co_return co_await check_request(input, caller);
    if (call.operation == "CheckSettings") co_return check_settings(input);
    if (call.operation == "CompleteConnection")
      co_return co_await complete_connection(input, caller);
    if (call.operation == "PutCertificate") co_return co_await put_certificate(input, caller);
    if (call.operation == "DeleteCertificate") co_return co_await delete_certificate(input, caller);
    if (call.operation == "ListCertificates") co_return co_await list_certificates(caller);
    if (call.operation == "ListDomains") co_return co_await list_domains(input, caller);
    if (call.operation == "ListServiceCapacity") co_return co_await list_capacity(caller);
    if (caller.account != kFirstAccount) {
      co_return refuse("AccessDeniedException", "only the first account manages accounts");
    }
    if (call.operation == "CreateAccount") co_return co_await create_account(input);
    co_return list_accounts();
  }

 private:
  Async<Result<std::string>> create_account(const json::object& input) {
    HOB_CO_TRY(std::string name, wanted(input, "Name"));
    Result<identity::NewAccount> made = co_await directory_.create_account(std::move(name));
    if (!made) co_return refuse(made.error());
    co_return json::serialize(json::object{{"AccountId", made->account.id},
                                           {"AccessKeyId", made->key.id},
                                           {"SecretAccessKey", made->key.secret}});
  }

  Result<std::string> list_accounts() const {
    json::array accounts;
    for (const identity::Account& account : directory_.accounts()) {
      accounts.push_back({{"AccountId", account.id}, {"Name", account.name}});
    }
    return json::serialize(json::object{{"Accounts", std::move(accounts)}});
  }

  Async<Result<std::string>> put_login(const json::object& input, const aws::Caller& caller) {
    image::LoginRecord login;
    HOB_CO_TRY(login.registry, wanted(input, "Registry"));
    HOB_CO_TRY(login.username, wanted(input, "Username"));
    HOB_CO_TRY(login.password, wanted(input, "Password"));
    if (login.registry.find('/') != std::string::npos) {
      co_return refuse("ValidationException",
                       "Registry must be a host name, with a port if it needs one");
    }
    Result<void> done = co_await catalog_.put_login(caller.account, std::move(login));
    if (!done) co_return refuse(done.error());
    co_return std::string("{}");
  }

  Async<Result<std::string>> delete_login(const json::object& input, const aws::Caller& caller) {
    HOB_CO_TRY(std::string registry, wanted(input, "Registry"));
    Result<void> done = co_await catalog_.remove_login(caller.account, std::move(registry));
    if (!done) co_return refuse(done.error());
    co_return std::string("{}");
  }

  Async<Result<std::string>> list_logins(const aws::Caller& caller) {
    Result<std::vector<image::LoginRecord>> all = co_await catalog_.logins(caller.account);
    if (!all) co_return refuse(all.error());
    json::array logins;
    for (const image::LoginRecord& login : *all) {
      logins.push_back({{"Registry", login.registry}, {"Username", login.username}});
    }
    co_return json::serialize(json::object{{"Logins", std::move(logins)}});
  }

  Async<Result<std::string>> cancel_operation(const json::object& input,
                                              const aws::Caller& caller) {
    HOB_CO_TRY(std::string arn, wanted(input, "ServiceArn"));
    HOB_CO_TRY(const runner::Operation operation,
               co_await runner_.cancel_operation(std::move(arn), caller));
    co_return json::serialize(json::object{{"OperationId", operation.id}});
  }

  Async<Result<std::string>> promote_operation(const json::object& input,
                                               const aws::Caller& caller) {
    HOB_CO_TRY(std::string arn, wanted(input, "ServiceArn"));
    HOB_CO_TRY(const runner::Operation operation,
               co_await runner_.promote_operation(std::move(arn), caller));
    co_return json::serialize(json::object{{"OperationId", operation.id}});
  }

  static json::object times(Instant started_at, const std::optional<Instant>& ended_at) {
    json::object object = {{"StartedAt", epoch_seconds(started_at)}};
    if (ended_at) object["EndedAt"] = epoch_seconds(*ended_at);
    return object;
  }

  Async<Result<std::string>> list_operations(const json::object& input, const aws::Caller& caller) {
    HOB_CO_TRY(std::string arn, wanted(input, "ServiceArn"));
    HOB_CO_TRY(const std::vector<runner::Operation> operations,
               co_await runner_.operations(std::move(arn), caller));
    json::array list;
    for (const runner::Operation& operation : operations) {
      json::object shown = times(operation.started_at, operation.ended_at);
      shown["Id"] = operation.id;
      shown["Type"] = runner::word(operation.type);
      shown["Status"] = runner::word(operation.status);
      shown["Reason"] = operation.reason;
      shown["Strategy"] = operation.strategy;
      shown["Revision"] = operation.revision;
      shown["RollsBackTo"] = operation.rolls_back_to;
      shown["Cancelled"] = operation.cancel_requested_at.has_value();
      json::array steps;
      for (const runner::OperationStep& step : operation.steps) {
        json::object one = times(step.started_at, step.ended_at);
        one["Name"] = step.name;
        one["Result"] = step.result;
        steps.push_back(std::move(one));
      }
      shown["Steps"] = std::move(steps);
      list.push_back(std::move(shown));
    }
    co_return json::serialize(json::object{{"Operations", std::move(list)}});
  }

  Async<Result<std::string>> list_revisions(const json::object& input, const aws::Caller& caller) {
    HOB_CO_TRY(std::string arn, wanted(input, "ServiceArn"));
    HOB_CO_TRY(const std::vector<runner::RevisionLine> revisions,
               co_await runner_.list_revisions(std::move(arn), caller));
    json::array list;
    for (const runner::RevisionLine& line : revisions) {
      list.push_back({{"Revision", line.revision.number},
                      {"ImageIdentifier", line.revision.configuration.image},
                      {"Digest", line.revision.digest},
                      {"CreatedAt", epoch_seconds(line.revision.created_at)},
                      {"State", runner::word(line.revision.state)},
                      {"Cancelled", line.revision.cancelled},
                      {"HostName", line.host_name},
                      {"Percent", line.percent},
                      {"Kept", line.kept},
                      {"Serves", line.serves}});
    }
    co_return json::serialize(json::object{{"Revisions", std::move(list)}});
  }

  Async<Result<std::string>> roll_back(const json::object& input, const aws::Caller& caller) {
    HOB_CO_TRY(std::string arn, wanted(input, "ServiceArn"));
    std::optional<int> to;
    if (const json::value* revision = input.if_contains("Revision"); revision != nullptr) {
      boost::system::error_code error;
      to = revision->to_number<int>(error);
      if (error) co_return refuse("ValidationException", "Revision is no number of a revision");
    }
    HOB_CO_TRY(const runner::Operation operation,
               co_await runner_.roll_back(std::move(arn), to, caller));
    co_return json::serialize(
        json::object{{"OperationId", operation.id}, {"Revision", operation.rolls_back_to}});
  }

  // Whether App Runner's operation would take the input; of an image is checked how it is written
  // alone.
  Async<Result<std::string>> check_request(const json::object& input, const aws::Caller& caller) {
    HOB_CO_TRY(std::string operation, wanted(input, "Operation"));
    const json::value* wanted_input = input.if_contains("Input");
    if (wanted_input == nullptr || !wanted_input->is_object())
      co_return refuse("ValidationException", "Input is missing");
    aws::Call call{.operation = std::move(operation), .body = json::serialize(*wanted_input)};
    HOB_CO_CHECK(co_await dry_service_->call(std::move(call), caller));
    co_return std::string("{}");
  }

  static Result<std::string> check_settings(const json::object& input) {
    std::map<std::string, std::string> tags;
    const json::value* list = input.if_contains("Tags");
    if (list == nullptr || !list->is_array())
      return refuse("ValidationException", "Tags is missing");
    for (const json::value& tag : list->as_array()) {
      if (!tag.is_object()) return refuse("ValidationException", "Tags is no list of tags");
      HOB_TRY(std::string key, wanted(tag.as_object(), "Key"));
      HOB_TRY(tags[key], wanted(tag.as_object(), "Value"));
    }
    const auto checked = runner::parse_extensions(tags);
    if (!checked) return refuse("InvalidRequestException", checked.error().message);
    return std::string("{}");
  }

  Async<Result<std::string>> complete_connection(const json::object& input,
                                                 const aws::Caller& caller) {
    HOB_CO_TRY(std::string name, wanted(input, "ConnectionName"));
    runner::GivenCredential given;
    if (input.contains("Username")) {
      HOB_CO_TRY(given.user, wanted(input, "Username"));
    }
    for (const auto& [member, secret] :
         {std::pair("Token", &given.token), std::pair("SshPrivateKey", &given.ssh_key)}) {
      if (!input.contains(member)) continue;
      HOB_CO_TRY(std::string text, wanted(input, member, runner::kCredentialBytesMax));
      *secret = Secret<std::string>(std::move(text));
    }
    HOB_CO_CHECK(co_await runner_.complete_connection(std::move(name), std::move(given), caller));
    co_return std::string("{}");
  }

  Async<Result<std::string>> put_certificate(const json::object& input, const aws::Caller& caller) {
    std::string name;
    if (input.contains("Name")) {
      HOB_CO_TRY(name, wanted(input, "Name"));
    }
    CertifiedKey pair;
    HOB_CO_TRY(pair.certificate, wanted(input, "Certificate", kChainBytesMax));
    HOB_CO_TRY(pair.key, wanted(input, "PrivateKey", kPrivateKeyBytesMax));
    HOB_CO_TRY(const runner::GivenCertificate given,
               co_await runner_.put_certificate(std::move(name), std::move(pair), caller));
    co_return json::serialize(json::object{{"Name", given.name},
                                           {"HostNames", json::value_from(given.host_names)},
                                           {"NotAfter", epoch_seconds(given.not_after)}});
  }

  Async<Result<std::string>> delete_certificate(const json::object& input,
                                                const aws::Caller& caller) {
    HOB_CO_TRY(std::string name, wanted(input, "Name"));
    HOB_CO_CHECK(co_await runner_.delete_certificate(std::move(name), caller));
    co_return std::string("{}");
  }

  Async<Result<std::string>> list_certificates(const aws::Caller& caller) {
    HOB_CO_TRY(const std::vector<runner::CertificateLine> lines,
               co_await runner_.list_certificates(caller));
    json::array list;
    for (const runner::CertificateLine& line : lines) {
      json::object shown = {{"Name", line.name},
                            {"Source", line.source},
                            {"HostNames", json::value_from(line.host_names)},
                            {"ShownFor", json::value_from(line.shown_for)},
                            {"NotAfter", epoch_seconds(line.not_after)},
                            {"Removed", line.removed},
                            {"Reason", line.reason}};
      if (line.renew_at) shown["RenewAt"] = epoch_seconds(*line.renew_at);
      list.push_back(std::move(shown));
    }
    co_return json::serialize(json::object{{"Certificates", std::move(list)}});
  }

  Async<Result<std::string>> list_domains(const json::object& input, const aws::Caller& caller) {
    HOB_CO_TRY(std::string arn, wanted(input, "ServiceArn"));
    HOB_CO_TRY(const std::vector<runner::Domain> domains,
               co_await runner_.list_domains(std::move(arn), caller));
    json::array list;
    for (const runner::Domain& domain : domains) {
      list.push_back({{"Name", domain.name},
                      {"Status", runner::word(domain.status)},
                      {"Proven", domain.proven},
                      {"NeedsProof", !runner::is_reserved_name(domain.name)},
                      {"Reason", domain.reason}});
    }
    co_return json::serialize(json::object{{"Domains", std::move(list)}});
  }

  Async<Result<std::string>> list_capacity(const aws::Caller& caller) {
    const std::string& account = caller.account;
    struct Capacity {
      int desired = 0;
      int awake = 0;
      int asleep = 0;
      int starting = 0;
    };
    std::map<std::string, Capacity> capacities;
    std::set<DeploymentId> kept;  // ways back are no capacity
    Result<store::Listing> services =
        co_await store_.list(cluster::service_key(account, kAppRunnerCluster, ""));
    if (!services) co_return refuse(services.error());
    for (const store::Entry& entry : services->entries) {
      const auto service = cluster::decode_service(entry.value);
      if (!service) continue;
      capacities[service->name].desired = service->desired_count;
      for (const cluster::Deployment& deployment : service->deployments) {
        if (deployment.kept_since) kept.insert(deployment.id);
      }
    }
    Result<store::Listing> tasks =
        co_await store_.list(cluster::task_key(account, kAppRunnerCluster, ""));
    if (!tasks) co_return refuse(tasks.error());
    for (const store::Entry& entry : tasks->entries) {
      const auto task = cluster::decode_task(entry.value);
      if (!task || !cluster::is_wanted(*task) || kept.contains(task->deployment)) continue;
      const auto of = capacities.find(task->service);
      if (of == capacities.end()) continue;
      if (!cluster::is_healthy(*task))
        ++of->second.starting;
      else if (task->asleep)
        ++of->second.asleep;
      else
        ++of->second.awake;
    }
    HOB_CO_TRY(const auto failed, co_await runner_.failed_deployments(caller));
    json::array list;
    for (const auto& [id, capacity] : capacities) {
      json::object shown = {{"ServiceId", id},
                            {"Desired", capacity.desired},
                            {"Awake", capacity.awake},
                            {"Asleep", capacity.asleep},
                            {"Starting", capacity.starting}};
      if (const auto why = failed.find(id); why != failed.end())
        shown["LastDeploymentFailed"] = why->second.reason;
      list.push_back(std::move(shown));
    }
    co_return json::serialize(json::object{{"Services", std::move(list)}});
  }

  identity::Directory& directory_;
  image::Catalog& catalog_;
  runner::Api& runner_;
  store::Store& store_;
  DryRun dry_run_;
  std::unique_ptr<aws::Service> dry_service_;
};

}  // namespace

std::unique_ptr<aws::Service> make_hob_service(identity::Directory& directory,
                                               image::Catalog& catalog, runner::Api& runner,
                                               store::Store& store) {
  return std::make_unique<HobService>(directory, catalog, runner, store);
}

}  // namespace hob::daemon
