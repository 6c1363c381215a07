// hob open, pause, resume, restart, rm: one service, one step.
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <boost/json.hpp>
#include <cstdio>
#include <cstdlib>

#include "base/process.h"
#include "cli/commands.h"
#include "cli/services.h"

namespace hob::cli {
namespace {

namespace json = boost::json;

struct StepOptions {
  std::vector<std::string> services{};
  bool no_wait = false;
};

struct Step {
  const char* command;  // "pause"
  const char* about;
  const char* operation;  // App Runner's
  const char* verb;       // "pausing"
  const char* done;       // "paused"
};

Async<Result<void>> open_service(const Context& options, std::string wanted) {
  HOB_CO_TRY(Api api, Api::open(options));
  HOB_CO_TRY(ServiceLine service, co_await find_service(api, std::move(wanted)));
  if (options.json) {
    printf("%s\n", json::serialize(json::object{{"Url", service.url}}).c_str());
    co_return Result<void>{};
  }
  printf("%s\n", service.url.c_str());
  const bool has_desktop = getenv("DISPLAY") != nullptr || getenv("WAYLAND_DISPLAY") != nullptr;
  if (!has_desktop) co_return Result<void>{};
  Command browser{.argv = {"xdg-open", service.url}};
  Result<Exit> opened = co_await run(std::move(browser), Duration(10'000));
  // The URL is printed: without xdg-open a person opens it.
  if (!opened && opened.error().code != Code::kNotFound) co_return fail(std::move(opened).error());
  co_return Result<void>{};
}

Async<Result<json::object>> take_step(const Context& context, Api api, ServiceLine service,
                                      Step step, bool no_wait) {
  HOB_CO_TRY(json::object answer, co_await call_on_service(api, step.operation, service.arn));
  const std::string operation = text_at(answer, "OperationId");
  if (!no_wait && !operation.empty()) {
    Progress progress(context.json);
    if (std::string_view(step.operation) == "StartDeployment") {
      HOB_CO_TRY(const std::string strategy, co_await strategy_of(api, service.arn));
      say_strategy(service, strategy, false, progress);
    }
    Result<void> followed = co_await follow_operation(api, service, operation, step.verb, progress);
    HOB_CO_CHECK(std::move(followed));
  }
  if (!context.json) printf("%s %s\n", service.name.c_str(), no_wait ? step.verb : step.done);
  co_return json::object{{"Name", service.name}, {"Arn", service.arn}, {"OperationId", operation}};
}

Async<Result<void>> take_steps(const Context& context, Step step, StepOptions options) {
  HOB_CO_TRY(Api api, Api::open(context));
  // All names first: a mistyped one leaves everything as it is.
  std::vector<ServiceLine> services;
  for (const std::string& wanted : options.services) {
    HOB_CO_TRY(ServiceLine service, co_await find_service(api, wanted));
    services.push_back(std::move(service));
  }
  json::array done;
  for (const ServiceLine& service : services) {
    HOB_CO_TRY(json::object one, co_await take_step(context, api, service, step, options.no_wait));
    done.push_back(std::move(one));
  }
  if (context.json) {
    const json::value shown =
        done.size() == 1 ? done.front() : json::value(json::object{{"Services", done}});
    printf("%s\n", json::serialize(shown).c_str());
  }
  co_return Result<void>{};
}

void add_step(CLI::App& program, Context& context, Step step) {
  auto options = std::make_shared<StepOptions>();
  CLI::App* command = program.add_subcommand(step.command, step.about);
  command->add_option("service", options->services, "Its name; several, one after the other")
      ->required();
  command->add_flag("--no-wait", options->no_wait, "Return at once");
  on_run(*command, context, [&context, step, options]() -> Async<Result<void>> {
    return take_steps(context, step, *options);
  });
}

}  // namespace

void add_open(CLI::App& program, Context& context) {
  auto wanted = std::make_shared<std::string>();
  CLI::App* command =
      program.add_subcommand("open", "Print a service's URL, and open it where there is a desktop");
  command->add_option("service", *wanted, "Its name")->required();
  on_run(*command, context,
         [&context, wanted]() -> Async<Result<void>> { return open_service(context, *wanted); });
}

void add_pause(CLI::App& program, Context& context) {
  add_step(
      program, context,
      {"pause", "Stop a service's tasks, keep the service", "PauseService", "pausing", "paused"});
}

void add_resume(CLI::App& program, Context& context) {
  add_step(program, context,
           {"resume", "Start a paused service", "ResumeService", "resuming", "runs again"});
}

void add_restart(CLI::App& program, Context& context) {
  add_step(program, context,
           {"restart", "Deploy a service again: new tasks, of what its image's tag means now",
            "StartDeployment", "restarting", "was deployed again"});
}

void add_rm(CLI::App& program, Context& context) {
  add_step(program, context, {"rm", "Delete a service", "DeleteService", "deleting", "is gone"});
}

}  // namespace hob::cli
