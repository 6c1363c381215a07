// hob describe: what a service is, in words.
#include <CLI/App.hpp>
#include <boost/json.hpp>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/services.h"

namespace hob::cli {
namespace {

namespace json = boost::json;

// The object at a path of members; empty where there is none.
json::object below(const json::object& object, std::initializer_list<std::string_view> path) {
  const json::object* at = &object;
  for (const std::string_view name : path) {
    const json::value* value = at->if_contains(name);
    if (value == nullptr || !value->is_object()) return {};
    at = &value->as_object();
  }
  return *at;
}

// A member as text, whichever it is: "true", "5", a string as it is; empty where there is none.
std::string plain(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr || value->is_null()) return {};
  return value->is_string() ? std::string(value->as_string()) : json::serialize(*value);
}

std::string when(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr || !value->is_number()) return {};
  return iso8601(Instant(Duration(static_cast<int64_t>(value->to_number<double>() * 1000))));
}

std::string health_of(const json::object& check) {
  if (check.empty()) return {};
  const bool http = plain(check, "Protocol") == "HTTP";
  return fmt::format("{}, every {} s within {} s; healthy after {}, unhealthy after {}",
                     http ? "HTTP GET " + plain(check, "Path") : "TCP", plain(check, "Interval"),
                     plain(check, "Timeout"), plain(check, "HealthyThreshold"),
                     plain(check, "UnhealthyThreshold"));
}

// App Runner's units: 1/1024 vCPU and MB.
std::string size_of(const json::object& instance) {
  if (instance.empty()) return {};
  const auto number = [&](std::string_view name) {
    return std::strtod(plain(instance, name).c_str(), nullptr) / 1024;
  };
  return fmt::format("{} vCPU, {} GB", number("Cpu"), number("Memory"));
}

using Rows = std::vector<std::vector<std::string>>;

Rows rows_of(const Instance& instance, const json::object& service) {
  const json::object source = below(service, {"SourceConfiguration"});
  const json::object image = below(source, {"ImageRepository"});
  const json::object run = below(image, {"ImageConfiguration"});
  const json::object scaling = below(service, {"AutoScalingConfigurationSummary"});
  std::vector<std::pair<std::string, std::string>> facts = {
      {"name", text_at(service, "ServiceName")},
      {"status", text_at(service, "Status")},
      {"url", url_of(instance, text_at(service, "ServiceUrl"))},
      {"image", plain(image, "ImageIdentifier")},
      {"new tags", plain(source, "AutoDeploymentsEnabled") == "true" ? "deployed by themselves"
                                                                     : "deployed when told"},
      {"port", plain(run, "Port")},
      {"command", plain(run, "StartCommand")},
      {"size", size_of(below(service, {"InstanceConfiguration"}))},
      {"health", health_of(below(service, {"HealthCheckConfiguration"}))},
      {"scaling", scaling.empty() ? ""
                                  : plain(scaling, "AutoScalingConfigurationName") + " revision " +
                                        plain(scaling, "AutoScalingConfigurationRevision")},
      {"created", when(service, "CreatedAt")},
      {"updated", when(service, "UpdatedAt")},
      {"arn", text_at(service, "ServiceArn")}};
  for (const auto& variable : below(run, {"RuntimeEnvironmentVariables"})) {
    const std::string value =
        variable.value().is_string() ? std::string(variable.value().as_string()) : "";
    facts.emplace_back("variable", std::string(variable.key()) + "=" + value);
  }
  Rows rows;
  for (const auto& [name, value] : facts) {
    if (!value.empty()) rows.push_back({name, printable(value)});
  }
  return rows;
}

Async<Result<void>> describe(const Context& context, std::string wanted) {
  HOB_CO_TRY(Api api, Api::open(context));
  HOB_CO_TRY(ServiceLine line, co_await find_service(api, std::move(wanted)));
  HOB_CO_TRY(json::object answer, co_await call_on_service(api, "DescribeService", line.arn));
  const json::object service = below(answer, {"Service"});
  if (service.empty()) co_return fail(Code::kCorrupt, "DescribeService answers nothing");
  if (context.json)
    printf("%s\n", json::serialize(service).c_str());
  else
    printf("%s", table(rows_of(api.instance(), service)).c_str());
  co_return Result<void>{};
}

}  // namespace

void add_describe(CLI::App& program, Context& context) {
  auto wanted = std::make_shared<std::string>();
  CLI::App* command = program.add_subcommand("describe", "Say what a service is");
  command->add_option("service", *wanted, "Its name")->required();
  on_run(*command, context,
         [&context, wanted]() -> Async<Result<void>> { return describe(context, *wanted); });
}

}  // namespace hob::cli
