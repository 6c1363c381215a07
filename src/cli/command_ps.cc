// hob ps: the services there are.
#include <CLI/App.hpp>
#include <boost/json.hpp>
#include <cstdio>

#include "cli/commands.h"
#include "cli/services.h"

namespace hob::cli {
namespace {

Async<Result<void>> ps(const Context& options) {
  HOB_CO_TRY(Api api, Api::open(options));
  HOB_CO_TRY(std::vector<ServiceLine> services, co_await list_services(api));
  HOB_CO_TRY(Capacities capacities, co_await list_capacity(api));
  if (options.json) {
    boost::json::array list;
    for (const ServiceLine& line : services) {
      const Capacity capacity = capacities[line.id];
      list.push_back({{"Name", line.name},
                      {"Status", line.status},
                      {"Desired", capacity.desired},
                      {"Awake", capacity.awake},
                      {"Asleep", capacity.asleep},
                      {"Starting", capacity.starting},
                      {"Url", line.url},
                      {"Id", line.id},
                      {"Arn", line.arn}});
      if (capacity.failure) list.back().as_object()["LastDeploymentFailed"] = *capacity.failure;
    }
    printf("%s\n", boost::json::serialize(boost::json::object{{"Services", list}}).c_str());
    co_return Result<void>{};
  }
  if (services.empty()) {
    printf("No services yet; make one with: hob deploy IMAGE\n");
    co_return Result<void>{};
  }
  std::vector<std::vector<std::string>> rows = {
      {"NAME", "STATUS", "AWAKE", "ASLEEP", "DESIRED", "UPDATED", "URL"}};
  for (const ServiceLine& line : services) {
    const Capacity capacity = capacities[line.id];
    rows.push_back({line.name, line.status, std::to_string(capacity.awake),
                    std::to_string(capacity.asleep), std::to_string(capacity.desired),
                    age(line.updated_at), line.url});
  }
  printf("%s", table(rows).c_str());
  for (const std::string& warning : failed_deployments(services, capacities))
    printf("%s\n", warning.c_str());
  co_return Result<void>{};
}

}  // namespace

void add_ps(CLI::App& program, Context& context) {
  CLI::App* command = program.add_subcommand("ps", "List services, with their instances");
  on_run(*command, context, [&context]() -> Async<Result<void>> { return ps(context); });
}

}  // namespace hob::cli
