// hob status: how the daemons are.
#include <CLI/App.hpp>
#include <boost/json.hpp>
#include <cstdio>

#include "cli/certificates.h"
#include "cli/commands.h"
#include "cli/services.h"
#include "cli/supervisor_client.h"
#include "cli/terminal.h"

namespace hob::cli {
namespace {

namespace json = boost::json;

Async<Result<void>> status(const Context& options) {
  HOB_CO_TRY(Instance instance, options.instance());
  HOB_CO_TRY(json::object state, co_await ask_supervisor(instance, "GET", "/status"));
  if (options.json) {
    printf("%s\n", json::serialize(state).c_str());
    co_return Result<void>{};
  }
  std::vector<std::vector<std::string>> rows = {{"PROCESS", "PID", "VERSION", "RESTARTS", "STATE"}};
  const json::value* roles = state.if_contains("roles");
  if (roles != nullptr && roles->is_object()) {
    for (const auto& [name, role] : roles->as_object()) {
      if (!role.is_object()) continue;
      const json::object& it = role.as_object();
      const bool ready =
          it.contains("ready") && it.at("ready").is_bool() && it.at("ready").as_bool();
      rows.push_back({std::string(name), json::serialize(it.at("pid")), text_at(it, "version"),
                      json::serialize(it.at("restarts")), ready ? "ready" : "starting"});
    }
  }
  printf("%s\n  API %s, data %s\n", table(rows).c_str(), instance.endpoint().c_str(),
         instance.data.c_str());
  // Root alone has the keys to ask.
  const Result<Api> api = Api::open(options);
  if (!api) co_return Result<void>{};
  if (const auto lines = co_await list_certificates(*api)) {
    for (const std::string& warning : certificate_warnings(*lines, SystemClock().now()))
      printf("  warning: %s\n", warning.c_str());
  }
  const auto services = co_await list_services(*api);
  const auto capacities = co_await list_capacity(*api);
  if (services && capacities) {
    for (const std::string& warning : failed_deployments(*services, *capacities))
      printf("  warning: %s\n", warning.c_str());
  }
  co_return Result<void>{};
}

}  // namespace

void add_status(CLI::App& program, Context& context) {
  CLI::App* command = program.add_subcommand("status", "Show Hob's own processes");
  on_run(*command, context, [&context]() -> Async<Result<void>> { return status(context); });
}

}  // namespace hob::cli
