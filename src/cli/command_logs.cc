// hob logs: what a service prints, or with --events what Hob did with it.
#include <CLI/App.hpp>
#include <boost/json.hpp>
#include <cstdio>
#include <set>

#include "cli/commands.h"
#include "cli/log_tail.h"
#include "cli/services.h"
#include "cli/words.h"

namespace hob::cli {
namespace {

constexpr Duration kFollowInterval{500};

struct LogsOptions {
  std::string service{};
  int lines = 100;
  std::string since{};  // "10m"; empty: whenever
  bool follow = false;
  bool events = false;
  bool timestamps = false;
};

// "instance/0123456789abcdef" -> "01234567": enough to tell tasks apart.
std::string short_stream(const std::string& stream) {
  const size_t slash = stream.rfind('/');
  return stream.substr(slash == std::string::npos ? 0 : slash + 1, 8);
}

void print(const std::vector<TailedLine>& lines, const LogsOptions& options, bool json,
           std::set<std::string>& streams) {
  for (const TailedLine& line : lines) {
    if (json) {
      const boost::json::object object = {
          {"timestamp", line.at}, {"stream", line.stream}, {"message", line.text}};
      printf("%s\n", boost::json::serialize(object).c_str());
      continue;
    }
    streams.insert(line.stream);
    std::string prefix;
    if (options.timestamps) prefix += iso8601(Instant(Duration(line.at))) + " ";
    if (streams.size() > 1) prefix += short_stream(line.stream) + " | ";
    printf("%s%s\n", prefix.c_str(), printable(line.text).c_str());
  }
  fflush(stdout);
}

Async<Result<void>> logs(const Context& context, LogsOptions options) {
  HOB_CO_TRY(Api api, Api::open(context));
  HOB_CO_TRY(ServiceLine service, co_await find_service(api, options.service));
  LogTail tail(api, log_group(service, options.events ? LogKind::kEvents : LogKind::kApplication));
  int64_t since = 0;
  if (!options.since.empty()) {
    HOB_CO_TRY(const Duration age, parse_age(options.since));
    since = (SystemClock().now() - age).time_since_epoch().count();
  }
  HOB_CO_TRY(std::vector<TailedLine> lines, co_await tail.last(options.lines, since));
  std::set<std::string> streams;
  print(lines, options, context.json, streams);
  if (lines.empty() && !options.follow && !context.json) {
    const std::string when = options.since.empty() ? "yet" : "in the last " + options.since;
    fprintf(stderr, "%s has printed nothing %s\n", service.name.c_str(), when.c_str());
  }
  while (options.follow) {
    co_await sleep_for(kFollowInterval);
    lines = co_await tail.next();
    print(lines, options, context.json, streams);
  }
  co_return Result<void>{};
}

}  // namespace

void add_logs(CLI::App& program, Context& context) {
  auto options = std::make_shared<LogsOptions>();
  CLI::App* command = program.add_subcommand("logs", "Print what a service prints");
  command->add_option("service", options->service, "Its name")->required();
  command->add_flag("-f,--follow", options->follow, "Go on as lines come");
  command->add_option("-n,--lines", options->lines, "The last so many (100)")
      ->check(CLI::Range(1, 10'000));
  command->add_option("--since", options->since, "None older than this: 30s, 10m, 2h, 1d");
  command->add_flag("--events", options->events,
                    "What Hob did with it: deployments, health, restarts");
  command->add_flag("-t,--timestamps", options->timestamps, "With times");
  on_run(*command, context,
         [&context, options]() -> Async<Result<void>> { return logs(context, *options); });
}

}  // namespace hob::cli
