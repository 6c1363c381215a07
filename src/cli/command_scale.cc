// hob scale: how many instances a service may have, and when they sleep.
//
// Sizes are an auto scaling configuration's, as App Runner has them: a changed one is a new
// revision under the service's name. What App Runner has no field for is a tag
// (docs/extensions.md).
#include <CLI/App.hpp>
#include <boost/json.hpp>
#include <charconv>
#include <cstdio>
#include <optional>

#include "cli/commands.h"
#include "cli/services.h"

namespace hob::cli {
namespace {

// The service model's, and ours of sizes: what is beyond is refused before anything is asked.
constexpr int kSizeMax = 1'000;
constexpr int kConcurrencyMax = 200;

namespace json = boost::json;

constexpr size_t kScalingNameMax = 32;

struct ScaleOptions {
  std::string service{};
  std::optional<int> min{};
  std::optional<int> max{};
  std::optional<int> concurrency{};
  std::string sleep_after{};
  std::string stop_after{};
  std::string schedule{};  // "none": no more
  std::string strategy{};
  std::string keep_previous{};
  std::string sticky{};
};

// What a service is scaled by now.
struct Scaling {
  int min = 1;
  int max = 25;
  int concurrency = 100;
  std::map<std::string, std::string> tags{};
};

int number_at(const json::object& object, std::string_view name, int otherwise) {
  const json::value* value = object.if_contains(name);
  return value != nullptr && value->is_int64() ? static_cast<int>(value->as_int64()) : otherwise;
}

Result<json::object> member(json::object answer, std::string_view name) {
  json::value* value = answer.if_contains(name);
  if (value == nullptr || !value->is_object())
    return fail(Code::kCorrupt, "the answer has no {}", name);
  return std::move(value->as_object());
}

Async<Result<Scaling>> read_scaling(Api api, std::string service_arn) {
  HOB_CO_TRY(json::object described, co_await call_on_service(api, "DescribeService", service_arn));
  HOB_CO_TRY(json::object service, member(std::move(described), "Service"));
  HOB_CO_TRY(json::object summary, member(std::move(service), "AutoScalingConfigurationSummary"));
  json::object ask = {
      {"AutoScalingConfigurationArn", text_at(summary, "AutoScalingConfigurationArn")}};
  HOB_CO_TRY(
      json::object answer,
      co_await api.call("apprunner", "AppRunner.DescribeAutoScalingConfiguration", std::move(ask)));
  HOB_CO_TRY(json::object configuration, member(std::move(answer), "AutoScalingConfiguration"));
  Scaling scaling{.min = number_at(configuration, "MinSize", 1),
                  .max = number_at(configuration, "MaxSize", 25),
                  .concurrency = number_at(configuration, "MaxConcurrency", 100)};
  json::object resource = {{"ResourceArn", service_arn}};
  HOB_CO_TRY(json::object tags,
             co_await api.call("apprunner", "AppRunner.ListTagsForResource", std::move(resource)));
  const json::value* list = tags.if_contains("Tags");
  if (list != nullptr && list->is_array()) {
    for (const json::value& tag : list->as_array()) {
      if (tag.is_object())
        scaling.tags[text_at(tag.as_object(), "Key")] = text_at(tag.as_object(), "Value");
    }
  }
  co_return scaling;
}

// Gives the service a new revision with these sizes, and waits until it has it.
Async<Result<void>> change_sizes(Api api, ServiceLine service, Scaling wanted, Progress& progress) {
  json::object make = {{"AutoScalingConfigurationName", service.name.substr(0, kScalingNameMax)},
                       {"MinSize", wanted.min},
                       {"MaxSize", wanted.max},
                       {"MaxConcurrency", wanted.concurrency}};
  HOB_CO_TRY(
      json::object made,
      co_await api.call("apprunner", "AppRunner.CreateAutoScalingConfiguration", std::move(make)));
  HOB_CO_TRY(json::object configuration, member(std::move(made), "AutoScalingConfiguration"));
  json::object update = {
      {"ServiceArn", service.arn},
      {"AutoScalingConfigurationArn", text_at(configuration, "AutoScalingConfigurationArn")}};
  HOB_CO_TRY(json::object answer,
             co_await api.call("apprunner", "AppRunner.UpdateService", std::move(update)));
  const std::string operation = text_at(answer, "OperationId");
  if (operation.empty()) co_return Result<void>{};
  co_return co_await follow_operation(api, service, operation, "scaling", progress);
}

// The tags that are to be set: [{Key, Value}].
json::array settings_of(const ScaleOptions& options) {
  json::array set;
  const auto put = [&set](const char* key, const std::string& value) {
    if (!value.empty()) set.push_back({{"Key", key}, {"Value", value}});
  };
  if (options.min == 0) put("hob:min-size", "0");
  put("hob:sleep-after", options.sleep_after);
  put("hob:stop-after", options.stop_after);
  put("hob:strategy", options.strategy);
  put("hob:keep-previous", options.keep_previous);
  put("hob:sticky", options.sticky);
  if (options.schedule != "none") put("hob:min-size-schedule", options.schedule);
  return set;
}

Async<Result<void>> change_tags(Api api, std::string arn, ScaleOptions options, Scaling known) {
  json::array set = settings_of(options);
  json::array unset;
  if (options.min.value_or(0) > 0 && known.tags.contains("hob:min-size"))
    unset.emplace_back("hob:min-size");
  if (options.schedule == "none") unset.emplace_back("hob:min-size-schedule");
  if (!set.empty()) {
    json::object input = {{"ResourceArn", arn}, {"Tags", std::move(set)}};
    HOB_CO_CHECK(co_await api.call("apprunner", "AppRunner.TagResource", std::move(input)));
  }
  if (!unset.empty()) {
    json::object input = {{"ResourceArn", arn}, {"TagKeys", std::move(unset)}};
    HOB_CO_CHECK(co_await api.call("apprunner", "AppRunner.UntagResource", std::move(input)));
  }
  co_return Result<void>{};
}

void print(const ServiceLine& service, const Scaling& scaling, bool as_json) {
  const auto tag = [&scaling](const char* key) {
    const auto found = scaling.tags.find(key);
    return found == scaling.tags.end() ? std::string() : found->second;
  };
  const std::string minimum = tag("hob:min-size");
  const std::string min = minimum.empty() ? std::to_string(scaling.min) : minimum;
  const std::string sleep_after = tag("hob:sleep-after");
  const std::string stop_after = tag("hob:stop-after");
  const std::string schedule = tag("hob:min-size-schedule");
  if (as_json) {
    int count = scaling.min;
    if (!minimum.empty()) std::from_chars(min.data(), min.data() + min.size(), count);
    const json::object object = {{"Name", service.name},
                                 {"MinSize", count},
                                 {"MaxSize", scaling.max},
                                 {"MaxConcurrency", scaling.concurrency},
                                 {"SleepAfter", sleep_after},
                                 {"StopAfter", stop_after},
                                 {"MinSizeSchedule", schedule},
                                 {"Strategy", tag("hob:strategy")},
                                 {"KeepPrevious", tag("hob:keep-previous")},
                                 {"Sticky", tag("hob:sticky")}};
    printf("%s\n", json::serialize(object).c_str());
    return;
  }
  std::vector<std::vector<std::string>> rows = {
      {"instances", fmt::format("{} to {}", min, scaling.max)},
      {"requests at once", fmt::format("{} an instance", scaling.concurrency)}};
  if (!schedule.empty()) rows.push_back({"minimum", printable(schedule) + " (UTC)"});
  rows.push_back({"sleep after", sleep_after.empty() ? (min == "0" ? "60s" : "never the last one")
                                                     : printable(sleep_after)});
  if (min == "0")
    rows.push_back({"stopped after", stop_after.empty() ? "15m" : printable(stop_after)});
  const std::string strategy = tag("hob:strategy");
  const std::string keep = tag("hob:keep-previous");
  rows.push_back({"deployments", strategy.empty() ? "rolling" : printable(strategy)});
  rows.push_back(
      {"the version before",
       keep == "off" ? "goes at once" : "is kept for " + (keep.empty() ? "15m" : printable(keep))});
  if (const std::string sticky = tag("hob:sticky"); !sticky.empty() && sticky != "off")
    rows.push_back({"visitors", "return to their instance for " + printable(sticky)});
  printf("%s", table(rows).c_str());
}

Async<Result<void>> scale(const Context& context, ScaleOptions options) {
  HOB_CO_TRY(Api api, Api::open(context));
  HOB_CO_TRY(ServiceLine service, co_await find_service(api, options.service));
  HOB_CO_TRY(Scaling scaling, co_await read_scaling(api, service.arn));
  Scaling wanted = scaling;
  wanted.max = options.max.value_or(wanted.max);
  wanted.concurrency = options.concurrency.value_or(wanted.concurrency);
  // App Runner's minimum is 1 at least: 0 is the tag's.
  wanted.min = std::max(1, options.min.value_or(wanted.min));
  if (!options.min) wanted.min = std::min(wanted.min, std::max(1, wanted.max));
  const bool same = wanted.min == scaling.min && wanted.max == scaling.max &&
                    wanted.concurrency == scaling.concurrency;
  const bool only_zero = options.min == 0 && !options.max && !options.concurrency;
  // Before anything is changed: half of what was asked for is nobody's wish.
  HOB_CO_CHECK(co_await check_settings(api, settings_of(options)));
  Progress progress(context.json);
  if (!same && !only_zero) HOB_CO_CHECK(co_await change_sizes(api, service, wanted, progress));
  HOB_CO_CHECK(co_await change_tags(api, service.arn, options, scaling));
  HOB_CO_TRY(scaling, co_await read_scaling(api, service.arn));
  print(service, scaling, context.json);
  co_return Result<void>{};
}

}  // namespace

void add_scale(CLI::App& program, Context& context) {
  auto options = std::make_shared<ScaleOptions>();
  CLI::App* command = program.add_subcommand(
      "scale", "Show or set how many instances a service has, and when they sleep");
  command->add_option("service", options->service, "Its name")->required();
  command
      ->add_option("--min-size", options->min,
                   "Instances kept for visitors; 0: none, a request starts one")
      ->check(CLI::Range(0, kSizeMax));
  command->add_option("--max-size", options->max, "Instances at most")
      ->check(CLI::Range(1, kSizeMax));
  command
      ->add_option("--concurrency", options->concurrency, "Requests that an instance takes at once")
      ->check(CLI::Range(1, kConcurrencyMax));
  command->add_option("--sleep-after", options->sleep_after,
                      "Without visitors all instances sleep after 30s, 5m; off: none ever does");
  command->add_option("--stop-after", options->stop_after,
                      "With --min-size 0 all are stopped after 15m, 2h without visitors");
  command->add_option("--strategy", options->strategy,
                      "How versions follow each other: rolling, 'blue-green bake=10m', 'canary 10% "
                      "5m, 50% 5m', 'linear 10% 1m'");
  command->add_option("--keep-previous", options->keep_previous,
                      "For how long the version before is kept asleep: 30m; off: not at all");
  command->add_option("--min-size-schedule", options->schedule,
                      "A higher minimum at times: 'Mon-Fri 08:00-18:00 2', in UTC; none: no more");
  command->add_option("--sticky", options->sticky,
                      "Visitors return to their instance, by cookie, for 1h, 1d; off: they do not");
  refuse_empty_values(*command);
  on_run(*command, context,
         [&context, options]() -> Async<Result<void>> { return scale(context, *options); });
}

}  // namespace hob::cli
