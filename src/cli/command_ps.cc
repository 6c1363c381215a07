// hob ps: the services there are.
#include <CLI/App.hpp>
#include <boost/json.hpp>
#include <chrono>
#include <cstdio>

#include "cli/commands.h"
#include "cli/services.h"

namespace hob::cli {
namespace {

std::string age(double since) {
  const double now = epoch_seconds(SystemClock().now());
  const auto seconds = static_cast<int64_t>(std::max(0.0, now - since));
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 7200) return fmt::format("{} min", seconds / 60);
  if (seconds < 172'800) return fmt::format("{} h", seconds / 3600);
  return fmt::format("{} d", seconds / 86'400);
}

Async<Result<void>> ps(const Context& options) {
  HOB_CO_TRY(Api api, Api::open(options));
  HOB_CO_TRY(std::vector<ServiceLine> services, co_await list_services(api));
  if (options.json) {
    boost::json::array list;
    for (const ServiceLine& line : services) {
      list.push_back({{"Name", line.name},
                      {"Status", line.status},
                      {"Url", line.url},
                      {"Id", line.id},
                      {"Arn", line.arn}});
    }
    printf("%s\n", boost::json::serialize(boost::json::object{{"Services", list}}).c_str());
    co_return Result<void>{};
  }
  if (services.empty()) {
    printf("No services yet; make one with: hob deploy IMAGE\n");
    co_return Result<void>{};
  }
  std::vector<std::vector<std::string>> rows = {{"NAME", "STATUS", "UPDATED", "URL"}};
  for (const ServiceLine& line : services)
    rows.push_back({line.name, line.status, age(line.updated_at), line.url});
  printf("%s", table(rows).c_str());
  co_return Result<void>{};
}

}  // namespace

void add_ps(CLI::App& program, Context& context) {
  CLI::App* command = program.add_subcommand("ps", "List services");
  on_run(*command, context, [&context]() -> Async<Result<void>> { return ps(context); });
}

}  // namespace hob::cli
