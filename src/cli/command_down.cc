// hob down: stops an instance with its tasks; what a crashed one left, too.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <boost/json.hpp>
#include <cstdio>

#include "cli/commands.h"
#include "cli/source_build.h"
#include "cli/supervisor.h"
#include "cli/terminal.h"

namespace hob::cli {
namespace {

constexpr Duration kDownWithin{180'000};
constexpr Duration kLockWithin{10'000};  // from the supervisor's last word to its end

// No file of the data may be a mount when it is removed: that would empty what is mounted.
Result<void> check_no_mount_in(const std::filesystem::path& data) {
  HOB_TRY(const std::string mounts, read_file("/proc/self/mountinfo", 16 * 1024 * 1024));
  const std::string wanted = " " + data.string() + "/";
  if (mounts.find(wanted) == std::string::npos) return {};
  return fail(Code::kConflict, "something is still mounted in {}; see /proc/self/mountinfo",
              data.string());
}

Async<Result<void>> stop_running(Instance instance) {
  http::Request request{.method = "POST", .target = "/down", .path = "/down"};
  const http::Endpoint endpoint{.host = (instance.run() / "supervisor.sock").string()};
  HOB_CO_TRY(http::Response response,
             context(co_await http::fetch(endpoint, std::move(request), "", kDownWithin, 64 * 1024),
                     "asking the supervisor to stop"));
  if (response.status != 200) {
    boost::system::error_code error;
    const boost::json::value value = boost::json::parse(response.body, error);
    const std::string why =
        !error && value.is_object() ? text_at(value.as_object(), "error") : response.body;
    co_return fail(Code::kUnavailable, "{}", why);
  }
  for (Duration waited{0}; is_running(instance); waited += Duration(20)) {
    if (waited > kLockWithin) co_return fail(Code::kTimeout, "the supervisor does not end");
    co_await sleep_for(Duration(20));
  }
  co_return Result<void>{};
}

Async<Result<void>> down(const Context& options, bool purge) {
  if (geteuid() != 0) co_return fail(Code::kDenied, "hob down needs root: sudo hob down");
  HOB_CO_TRY(Instance instance, options.instance());
  Progress progress(options.json);
  progress.now("stopping, with all tasks: each has 10 s from SIGTERM to its end");
  if (is_running(instance)) {
    HOB_CO_CHECK(co_await stop_running(instance));
  } else {
    // Nobody supervises; tasks and namespaces may still be there. Held, so that no `hob up` comes
    // between.
    HOB_CO_TRY(Fd lock, lock_instance(instance));
    HOB_CO_CHECK(co_await tear_down(instance));
  }
  if (purge) {
    progress.now(fmt::format("removing {}: records, images, logs, keys", instance.data.string()));
    HOB_CO_CHECK(co_await clear_builds(options));
    HOB_CO_CHECK(check_no_mount_in(instance.data));
    HOB_CO_CHECK(remove_tree(instance.data));
  }
  progress.clear();
  if (options.json) {
    printf("{\"stopped\":true,\"purged\":%s}\n", purge ? "true" : "false");
  } else if (purge) {
    printf("stopped; %s is gone\n", instance.data.c_str());
  } else {
    printf("stopped; its data is kept in %s (hob down --purge removes it)\n",
           instance.data.c_str());
  }
  co_return Result<void>{};
}

}  // namespace

void add_down(CLI::App& program, Context& context) {
  auto purge = std::make_shared<bool>(false);
  CLI::App* command = program.add_subcommand("down", "Stop Hob and its tasks");
  command->add_flag("--purge", *purge, "Remove its data too");
  on_run(*command, context,
         [&context, purge]() -> Async<Result<void>> { return down(context, *purge); });
}

}  // namespace hob::cli
