// hob upgrade: the running daemons are replaced by those installed now, without loss.
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Validators.hpp>
#include <boost/json.hpp>
#include <cstdio>

#include "cli/commands.h"
#include "cli/supervisor.h"
#include "cli/supervisor_client.h"

namespace hob::cli {
namespace {

namespace json = boost::json;

constexpr Duration kUpgradeWithin{400'000};  // above what three starts and stops, twice, take
constexpr Duration kLookEvery{100};

Async<Result<void>> upgrade(const Context& options, int64_t drain_seconds) {
  if (geteuid() != 0) co_return fail(Code::kDenied, "hob upgrade needs root: sudo hob upgrade");
  HOB_CO_TRY(Instance instance, options.instance());
  HOB_CO_CHECK(co_await ask_supervisor(instance, "POST", "/upgrade",
                                       "drain_ms=" + std::to_string(drain_seconds * 1'000)));
  json::object state;
  for (Duration waited{0};; waited += kLookEvery) {
    HOB_CO_TRY(state, co_await ask_supervisor(instance, "GET", "/status"));
    const json::value* running = state.if_contains("upgrading");
    if (running == nullptr || !running->is_bool() || !running->as_bool()) break;
    if (waited > kUpgradeWithin)
      co_return fail(Code::kTimeout, "the upgrade does not end; hob status shows how it stands");
    co_await sleep_for(kLookEvery);
  }
  if (const std::string error = text_at(state, "upgrade_error"); !error.empty()) {
    co_return fail(Code::kUnavailable, "what ran before runs on: {}", error);
  }
  if (options.json) {
    printf("%s\n", json::serialize(state).c_str());
    co_return Result<void>{};
  }
  if (const json::value* roles = state.if_contains("roles"); roles != nullptr && roles->is_object()) {
    for (const auto& [name, role] : roles->as_object()) {
      if (role.is_object())
        printf("%s runs %s\n", std::string(name).c_str(),
               text_at(role.as_object(), "version").c_str());
    }
  }
  co_return Result<void>{};
}

}  // namespace

void add_upgrade(CLI::App& program, Context& context) {
  auto drain = std::make_shared<int64_t>(kDrainDefault.count() / 1'000);
  CLI::App* command =
      program.add_subcommand("upgrade", "Run the Hob that is installed now, without losing a request");
  command
      ->add_option("--drain-timeout", *drain,
                   "Seconds that connections of the old edge may last, WebSockets among them")
      ->check(CLI::Range(int64_t{0}, int64_t{kDrainMax.count() / 1'000}))
      ->capture_default_str();
  on_run(*command, context,
         [&context, drain]() -> Async<Result<void>> { return upgrade(context, *drain); });
}

}  // namespace hob::cli
