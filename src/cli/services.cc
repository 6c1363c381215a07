#include "cli/services.h"

#include <unistd.h>

#include <algorithm>
#include <boost/asio/signal_set.hpp>
#include <boost/json.hpp>
#include <csignal>
#include <ranges>

#include "cli/deploy_options.h"
#include "cli/log_tail.h"

namespace hob::cli {
namespace {

namespace json = boost::json;

constexpr int kPagesMax = 500;
constexpr Duration kPollInterval{250};
// Of an operation that says nothing: one step of a deployment waits a day at most (hob:strategy).
constexpr Duration kOperationWithin = std::chrono::hours(25);
// Control may be away for a moment (a restart): asking goes on for so long.
constexpr Duration kAwayMax{30'000};
constexpr int kInterruptedExit = 128 + SIGINT;  // as shells have it

ServiceLine line_of(const Instance& instance, const json::object& summary) {
  ServiceLine line{.name = text_at(summary, "ServiceName"),
                   .id = text_at(summary, "ServiceId"),
                   .arn = text_at(summary, "ServiceArn"),
                   .url = url_of(instance, text_at(summary, "ServiceUrl")),
                   .status = text_at(summary, "Status")};
  const json::value* updated = summary.if_contains("UpdatedAt");
  if (updated != nullptr && updated->is_number()) line.updated_at = updated->to_number<double>();
  return line;
}

// The operation's record; empty while it is not listed.
Async<Result<json::object>> find_operation(Api api, std::string arn, std::string id) {
  HOB_CO_TRY(json::object page, co_await api.call("apprunner", "AppRunner.ListOperations",
                                                  {{"ServiceArn", arn}, {"MaxResults", 20}}));
  const json::value* list = page.if_contains("OperationSummaryList");
  if (list != nullptr && list->is_array()) {
    for (const json::value& operation : list->as_array()) {
      if (operation.is_object() && text_at(operation.as_object(), "Id") == id)
        co_return operation.as_object();
    }
  }
  co_return json::object();
}

bool has_ended(const std::string& status) {
  return !status.empty() && status != "PENDING" && !status.ends_with("IN_PROGRESS");
}

// The event that says why an operation failed; the last one where none does: what the application
// printed may come after it.
const std::string& reason_in(const std::vector<std::string>& events) {
  for (const std::string& event : events | std::views::reverse) {
    if (event.find("Failure reason") != std::string::npos) return event;
  }
  return events.back();
}

// Ctrl-C while an operation is followed.
[[noreturn]] void leave(const std::string& name, Progress& progress) {
  progress.line(fmt::format(
      "it goes on without you: hob deploys {0} shows how far it is, hob cancel {0} ends it", name));
  _exit(kInterruptedExit);
}

}  // namespace

std::string url_of(const Instance& instance, std::string_view host_name) {
  if (host_name.empty()) return {};
  std::string url = "http://" + std::string(host_name);
  if (host_name.find(':') == std::string_view::npos && instance.http_port != 80) {
    url += ":" + std::to_string(instance.http_port);
  }
  return url;
}

std::string log_group(const ServiceLine& service, LogKind kind) {
  return "/aws/apprunner/" + service.name + "/" + service.id +
         (kind == LogKind::kApplication ? "/application" : "/service");
}

Async<Result<std::vector<ServiceLine>>> list_services(Api api) {
  std::vector<ServiceLine> all;
  json::object input = {{"MaxResults", 20}};
  for (int page_number = 0; page_number < kPagesMax; ++page_number) {
    HOB_CO_TRY(json::object page, co_await api.call("apprunner", "AppRunner.ListServices", input));
    const json::value* list = page.if_contains("ServiceSummaryList");
    if (list != nullptr && list->is_array()) {
      for (const json::value& summary : list->as_array()) {
        if (summary.is_object()) all.push_back(line_of(api.instance(), summary.as_object()));
      }
    }
    const std::string token = text_at(page, "NextToken");
    if (token.empty()) break;
    input["NextToken"] = token;
  }
  std::ranges::sort(all, {}, &ServiceLine::name);
  co_return all;
}

Async<Result<Capacities>> list_capacity(Api api) {
  HOB_CO_TRY(json::object answer, co_await api.call("hob", "Hob.ListServiceCapacity", {}));
  Capacities all;
  const json::value* list = answer.if_contains("Services");
  if (list == nullptr || !list->is_array()) co_return all;
  for (const json::value& each : list->as_array()) {
    if (!each.is_object()) continue;
    const auto count = [&each](const char* name) {
      const json::value* value = each.as_object().if_contains(name);
      return value != nullptr && value->is_int64() ? static_cast<int>(value->as_int64()) : 0;
    };
    all[text_at(each.as_object(), "ServiceId")] = {.desired = count("Desired"),
                                                   .awake = count("Awake"),
                                                   .asleep = count("Asleep"),
                                                   .starting = count("Starting")};
    if (each.as_object().contains("LastDeploymentFailed"))
      all[text_at(each.as_object(), "ServiceId")].failure =
          text_at(each.as_object(), "LastDeploymentFailed");
  }
  co_return all;
}

std::vector<std::string> failed_deployments(const std::vector<ServiceLine>& services,
                                            const Capacities& capacities) {
  std::vector<std::string> warnings;
  for (const ServiceLine& line : services) {
    const auto found = capacities.find(line.id);
    if (found == capacities.end() || !found->second.failure || line.status != "RUNNING") continue;
    warnings.push_back(fmt::format(
        "{0}: the last deployment failed, the version before serves; see: hob deploys {0}",
        line.name));
  }
  return warnings;
}

Async<Result<ServiceLine>> find_service(Api api, std::string wanted) {
  HOB_CO_TRY(std::vector<ServiceLine> all, co_await list_services(api));
  std::string names;
  for (const ServiceLine& line : all) {
    if (line.name == wanted || line.id == wanted || line.arn == wanted) co_return line;
    names += (names.empty() ? "" : ", ") + line.name;
  }
  if (names.empty())
    co_return fail(Code::kNotFound, "there is no service yet; make one with: hob deploy IMAGE");
  co_return fail(Code::kNotFound, "there is no service {}; there are {}", printable(wanted), names);
}

Async<Result<json::object>> call_on_service(Api api, std::string operation, std::string arn) {
  json::object input = {{"ServiceArn", arn}};
  co_return co_await api.call("apprunner", "AppRunner." + operation, std::move(input));
}

Async<Result<std::string>> strategy_of(Api api, std::string arn) {
  json::object input = {{"ResourceArn", std::move(arn)}};
  HOB_CO_TRY(const json::object answer,
             co_await api.call("apprunner", "AppRunner.ListTagsForResource", std::move(input)));
  const json::value* tags = answer.if_contains("Tags");
  if (tags == nullptr || !tags->is_array()) co_return std::string("rolling");
  for (const json::value& tag : tags->as_array()) {
    if (tag.is_object() && text_at(tag.as_object(), "Key") == "hob:strategy")
      co_return text_at(tag.as_object(), "Value");
  }
  co_return std::string("rolling");
}

void say_strategy(const ServiceLine& service, const std::string& strategy, bool given,
                  Progress& progress) {
  if (strategy == "rolling") return;
  progress.line(fmt::format(
      "strategy: {}, {}", printable(strategy),
      given ? "from now on for each deployment of " + service.name
            : "as it was set before; another: hob scale " + service.name + " --strategy rolling"));
  if (has_waits(strategy)) {
    progress.line(fmt::format(
        "it waits on its way: hob promote {0} leaves the waiting out, hob cancel {0} goes back",
        service.name));
  }
}

Async<Result<void>> check_request(Api api, std::string operation, json::object input) {
  json::object request = {{"Operation", std::move(operation)}, {"Input", std::move(input)}};
  HOB_CO_CHECK(co_await api.call("hob", "Hob.CheckRequest", std::move(request)));
  co_return Result<void>{};
}

Async<Result<void>> check_settings(Api api, json::array tags) {
  if (tags.empty()) co_return Result<void>{};
  json::object input = {{"Tags", std::move(tags)}};
  HOB_CO_CHECK(co_await api.call("hob", "Hob.CheckSettings", std::move(input)));
  co_return Result<void>{};
}

Async<Result<std::string>> await_operation(Api api, ServiceLine service, std::string operation_id) {
  const auto until = std::chrono::steady_clock::now() + kOperationWithin;
  while (std::chrono::steady_clock::now() < until) {
    HOB_CO_TRY(const json::object operation,
               co_await find_operation(api, service.arn, operation_id));
    const std::string status = text_at(operation, "Status");
    if (has_ended(status)) co_return status;
    co_await sleep_for(kPollInterval);
  }
  co_return fail(Code::kTimeout, "the operation on {0} goes on; see hob deploys {0}", service.name);
}

Async<Result<void>> follow_operation(Api api, ServiceLine service, std::string operation_id,
                                     std::string verb, Progress& progress, Instant since) {
  LogTail events(api, log_group(service, LogKind::kEvents), "deployment/" + operation_id);
  boost::asio::signal_set interrupted(co_await boost::asio::this_coro::executor, SIGINT);
  interrupted.async_wait([&](const boost::system::error_code& error, int) {
    if (!error) leave(service.name, progress);
  });
  const auto started = std::chrono::steady_clock::now();
  auto heard = started;  // last: a step of a deployment may be long, and says so when it begins
  const auto seconds = [&] {
    return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() -
                                                            started)
        .count();
  };
  std::vector<std::string> said;
  Duration away{0};
  while (true) {
    Result<json::object> operation = co_await find_operation(api, service.arn, operation_id);
    if (!operation) {
      away += kPollInterval;
      if (away > kAwayMax) co_return fail(std::move(operation).error());
      progress.now(fmt::format("{} {}: Hob does not answer, waiting", verb, service.name));
    } else {
      away = Duration(0);
      const std::string status = text_at(*operation, "Status");
      const std::vector<TailedLine> lines = co_await events.next();
      for (const TailedLine& line : lines) {
        if (Instant(Duration(line.at)) < since) continue;
        progress.line("  " + printable(line.text));
        said.push_back(line.text);
        heard = std::chrono::steady_clock::now();
      }
      if (has_ended(status)) {
        progress.clear();
        if (status == "SUCCEEDED") co_return Result<void>{};
        const std::string reason = said.empty() ? "" : ": " + printable(reason_in(said));
        co_return fail(Code::kUnavailable,
                       "{} {} ended with {}{}\nlook at: hob deploys {}, hob logs {} --events, hob "
                       "logs {}",
                       verb, service.name, status, reason, service.name, service.name,
                       service.name);
      }
      progress.now(
          fmt::format("{} {}: {}", verb, service.name, status.empty() ? "PENDING" : status),
          fmt::format(" ({} s)", seconds()));
    }
    if (std::chrono::steady_clock::now() - heard > kOperationWithin) {
      co_return fail(Code::kTimeout, "{0} {1} goes on; see hob deploys {1}", verb, service.name);
    }
    co_await sleep_for(kPollInterval);
  }
}

}  // namespace hob::cli
