// hob revisions, deploys, rollback, promote, cancel: a service's versions, and the way back to one.
#include <CLI/App.hpp>
#include <algorithm>
#include <boost/json.hpp>
#include <cstdio>

#include "cli/commands.h"
#include "cli/services.h"

namespace hob::cli {
namespace {

namespace json = boost::json;

constexpr size_t kDigestShown = 19;  // "sha256:" and twelve digits, as container tools do

int64_t number_at(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value != nullptr && value->is_int64() ? value->as_int64() : 0;
}

bool is_true(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value != nullptr && value->is_bool() && value->as_bool();
}

// While a version takes over, what the other one is follows from its share.
std::string state_of(const json::object& revision, bool serves) {
  const int64_t percent = number_at(revision, "Percent");
  const bool runs = !text_at(revision, "HostName").empty();
  if (is_true(revision, "Kept")) return "kept";
  const std::string state = text_at(revision, "State");
  if (state == "IN_PROGRESS" && percent == 100) return "bakes: hob promote or cancel ends it";
  if (state == "IN_PROGRESS") return percent > 0 ? "takes over" : "being deployed";
  if (serves)
    return runs && percent == 0 ? "served; ready until the next one is settled" : "serves";
  if (is_true(revision, "Cancelled")) return "cancelled";
  return state == "FAILED" ? "failed" : "";
}

// How long something took; empty: it goes on.
std::string span(const json::object& object) {
  const auto seconds_at = [&object](const char* name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_number() ? value->to_number<double>() : 0.0;
  };
  const double end = seconds_at("EndedAt");
  if (end == 0) return "";
  return fmt::format("{:.1f} s", std::max(0.0, end - seconds_at("StartedAt")));
}

Async<Result<void>> deploys(const Context& context, std::string wanted) {
  HOB_CO_TRY(Api api, Api::open(context));
  HOB_CO_TRY(ServiceLine service, co_await find_service(api, std::move(wanted)));
  HOB_CO_TRY(json::object answer,
             co_await api.call("hob", "Hob.ListOperations", {{"ServiceArn", service.arn}}));
  if (context.json) {
    printf("%s\n", json::serialize(answer).c_str());
    co_return Result<void>{};
  }
  std::vector<std::vector<std::string>> rows = {
      {"OPERATION", "REVISION", "STATUS", "TOOK", "BEGUN"}};
  const json::value* list = answer.if_contains("Operations");
  if (list == nullptr || !list->is_array())
    co_return fail(Code::kCorrupt, "ListOperations answers nothing");
  for (const json::value& each : list->as_array()) {
    if (!each.is_object()) continue;
    const json::object& operation = each.as_object();
    const int64_t revision = number_at(operation, "Revision");
    const json::value* started = operation.if_contains("StartedAt");
    const bool rolls_back = number_at(operation, "RollsBackTo") > 0;
    const std::string status = text_at(operation, "Status");
    const bool cancelled = is_true(operation, "Cancelled") && status != "SUCCEEDED";
    rows.push_back({rolls_back ? "ROLL_BACK" : printable(text_at(operation, "Type")),
                    revision > 0 ? std::to_string(revision) : "",
                    cancelled ? (span(operation).empty() ? "BEING_CANCELLED" : "CANCELLED")
                              : printable(status),
                    span(operation),
                    started != nullptr && started->is_number()
                        ? age(started->to_number<double>()) + " ago"
                        : ""});
    const json::value* steps = operation.if_contains("Steps");
    if (steps == nullptr || !steps->is_array()) continue;
    for (const json::value& step : steps->as_array()) {
      if (!step.is_object()) continue;
      const std::string result = printable(text_at(step.as_object(), "Result"));
      rows.push_back({"  " + printable(text_at(step.as_object(), "Name")), "",
                      result.empty() ? "goes on" : result, span(step.as_object()), ""});
    }
  }
  printf("%s", table(rows).c_str());
  co_return Result<void>{};
}

Async<Result<void>> revisions(const Context& context, std::string wanted) {
  HOB_CO_TRY(Api api, Api::open(context));
  HOB_CO_TRY(ServiceLine service, co_await find_service(api, std::move(wanted)));
  HOB_CO_TRY(json::object answer,
             co_await api.call("hob", "Hob.ListRevisions", {{"ServiceArn", service.arn}}));
  if (context.json) {
    printf("%s\n", json::serialize(answer).c_str());
    co_return Result<void>{};
  }
  std::vector<std::vector<std::string>> rows = {
      {"REVISION", "MADE", "IMAGE", "DIGEST", "TRAFFIC", "STATE", "URL"}};
  const json::value* list = answer.if_contains("Revisions");
  if (list != nullptr && list->is_array()) {
    for (const json::value& each : list->as_array()) {
      if (!each.is_object()) continue;
      const json::object& revision = each.as_object();
      const json::value* made = revision.if_contains("CreatedAt");
      const std::string url = url_of(api.instance(), printable(text_at(revision, "HostName")));
      rows.push_back(
          {std::to_string(number_at(revision, "Revision")),
           made != nullptr && made->is_number() ? age(made->to_number<double>()) + " ago" : "",
           printable(text_at(revision, "ImageIdentifier")),
           printable(text_at(revision, "Digest")).substr(0, kDigestShown),
           url.empty() ? "" : fmt::format("{}%", number_at(revision, "Percent")),
           state_of(revision, is_true(revision, "Serves")), url});
    }
  }
  if (rows.size() == 1) {
    printf("%s has no revision yet: a deployment that succeeds makes one\n", service.name.c_str());
    co_return Result<void>{};
  }
  printf("%s", table(rows).c_str());
  co_return Result<void>{};
}

Async<Result<void>> rollback(const Context& context, std::string wanted, int to) {
  HOB_CO_TRY(Api api, Api::open(context));
  HOB_CO_TRY(ServiceLine service, co_await find_service(api, std::move(wanted)));
  json::object input = {{"ServiceArn", service.arn}};
  if (to > 0) input["Revision"] = to;
  HOB_CO_TRY(json::object answer, co_await api.call("hob", "Hob.RollBack", std::move(input)));
  const std::string operation = text_at(answer, "OperationId");
  const int64_t revision = number_at(answer, "Revision");
  Progress progress(context.json);
  HOB_CO_CHECK(co_await follow_operation(api, service, operation, "rolling back", progress));
  if (context.json) {
    printf("%s\n", json::serialize(answer).c_str());
  } else {
    printf("%s runs revision %lld again\n", service.name.c_str(), static_cast<long long>(revision));
  }
  co_return Result<void>{};
}

Async<Result<void>> promote(const Context& context, std::string wanted) {
  HOB_CO_TRY(Api api, Api::open(context));
  HOB_CO_TRY(ServiceLine service, co_await find_service(api, std::move(wanted)));
  // What was said before was shown to who deployed it.
  const Instant since = SystemClock().now();
  HOB_CO_TRY(json::object answer,
             co_await api.call("hob", "Hob.PromoteOperation", {{"ServiceArn", service.arn}}));
  const std::string operation = text_at(answer, "OperationId");
  Progress progress(context.json);
  HOB_CO_CHECK(co_await follow_operation(api, service, operation, "promoting", progress, since));
  if (context.json)
    printf("%s\n", json::serialize(answer).c_str());
  else
    printf("%s: the new version has all requests\n", service.name.c_str());
  co_return Result<void>{};
}

Async<Result<void>> cancel(const Context& context, std::string wanted) {
  HOB_CO_TRY(Api api, Api::open(context));
  HOB_CO_TRY(ServiceLine service, co_await find_service(api, std::move(wanted)));
  HOB_CO_TRY(json::object answer,
             co_await api.call("hob", "Hob.CancelOperation", {{"ServiceArn", service.arn}}));
  HOB_CO_TRY(const std::string status,
             co_await await_operation(api, service, text_at(answer, "OperationId")));
  if (context.json) {
    answer["Status"] = status;
    printf("%s\n", json::serialize(answer).c_str());
  } else if (status == "SUCCEEDED") {
    printf("too late: the operation on %s had succeeded\n", service.name.c_str());
  } else {
    printf("cancelled; see: hob deploys %s\n", service.name.c_str());
  }
  co_return Result<void>{};
}

}  // namespace

void add_revisions(CLI::App& program, Context& context) {
  auto wanted = std::make_shared<std::string>();
  CLI::App* command =
      program.add_subcommand("revisions", "List the versions a service can be rolled back to");
  command->add_option("service", *wanted, "Its name")->required();
  on_run(*command, context,
         [&context, wanted]() -> Async<Result<void>> { return revisions(context, *wanted); });
}

void add_rollback(CLI::App& program, Context& context) {
  auto wanted = std::make_shared<std::string>();
  auto to = std::make_shared<int>(0);
  CLI::App* command = program.add_subcommand("rollback", "Run an earlier version of a service");
  command->add_option("service", *wanted, "Its name")->required();
  command->add_option("--to", *to, "A revision (default: the one before)")
      ->check(CLI::Range(1, 1'000'000));
  on_run(*command, context, [&context, wanted, to]() -> Async<Result<void>> {
    return rollback(context, *wanted, *to);
  });
}

void add_deploys(CLI::App& program, Context& context) {
  auto wanted = std::make_shared<std::string>();
  CLI::App* command =
      program.add_subcommand("deploys", "List what was done to a service, with each step");
  command->add_option("service", *wanted, "Its name")->required();
  on_run(*command, context,
         [&context, wanted]() -> Async<Result<void>> { return deploys(context, *wanted); });
}

void add_promote(CLI::App& program, Context& context) {
  auto wanted = std::make_shared<std::string>();
  CLI::App* command = program.add_subcommand(
      "promote", "Give a version that is being deployed all requests now, without further steps");
  command->add_option("service", *wanted, "Its name")->required();
  on_run(*command, context,
         [&context, wanted]() -> Async<Result<void>> { return promote(context, *wanted); });
}

void add_cancel(CLI::App& program, Context& context) {
  auto wanted = std::make_shared<std::string>();
  CLI::App* command = program.add_subcommand(
      "cancel", "End a service's deployment, update, pause or resume without effect");
  command->add_option("service", *wanted, "Its name")->required();
  on_run(*command, context,
         [&context, wanted]() -> Async<Result<void>> { return cancel(context, *wanted); });
}

}  // namespace hob::cli
