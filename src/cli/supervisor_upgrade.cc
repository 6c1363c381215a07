// The supervisor's upgrade: it is replaced by what hob on disk is now (supervisor_succession.h),
// then every daemon by what hobd is, or none.
//
// It goes first, for only the new one knows what new daemons are to be given.
// The edge's successor comes first, beside it: when the new hobd is no good, that shows there, and
// nobody has lost anything. Host and control are stopped and started; what comes for them meanwhile
// waits in their sockets, which are ours. Only then the old edge is told to hand over: it has to
// tell control that it leaves.
#include <signal.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/log.h"
#include "base/process.h"
#include "cli/supervisor.h"
#include "cli/supervisor_role.h"

namespace hob::cli {
namespace {

constexpr Duration kVersionWithin{10'000};
constexpr std::string_view kDrainField = "drain_ms=";

}  // namespace

Result<void> Supervisor::begin_upgrade(const std::string& query) {
  if (!started_) return fail(Code::kConflict, "Hob is still starting");
  if (upgrading_) return fail(Code::kConflict, "an upgrade is under way");
  if (ending_asked_.is_set()) return fail(Code::kConflict, "Hob is stopping");
  int64_t drain_ms = kDrainDefault.count();
  if (query.starts_with(kDrainField)) {
    std::from_chars(query.data() + kDrainField.size(), query.data() + query.size(), drain_ms);
  }
  const Duration drain = std::clamp(Duration(drain_ms), Duration(0), kDrainMax);
  upgrading_ = true;
  upgrade_error_.clear();
  upgrade_scope_.spawn("succession",
                       [this, drain]() -> Async<> { end_upgrade(co_await make_way(drain)); });
  return {};
}

// As the new program.
void Supervisor::go_on_upgrading(Duration drain) {
  upgrading_ = true;
  upgrade_scope_.spawn("upgrade",
                       [this, drain]() -> Async<> { end_upgrade(co_await upgrade(drain)); });
}

void Supervisor::end_upgrade(const Result<void>& done) {
  upgrading_ = false;
  if (done) return;
  upgrade_error_ = done.error().message;
  log::error("upgrade failed", {{"error", upgrade_error_}});
}

Async<Result<void>> Supervisor::upgrade(Duration limit) {
  HOB_CO_TRY(const Commands commands, make_commands());
  HOB_CO_CHECK(
      context(co_await run_ok({.argv = {commands.edge.argv.front(), "--version"}}, kVersionWithin),
              "trying the new hobd"));
  HOB_CO_TRY(const std::shared_ptr<Role> next, make_edge(commands.edge, edge_->log));
  next->first_time = {"--takes-over"};
  spawn(next);
  if (Result<void> ready = co_await await_ready(*next, false, 1); !ready) {
    co_await stop_role(*next);
    forget(next);
    co_return ready;
  }
  std::vector<std::pair<Role*, DaemonCommand>> replaced;
  for (const auto& [role, command] :
       {std::pair(host_.get(), commands.host), std::pair(control_.get(), commands.control)}) {
    replaced.emplace_back(role, role->command);
    Result<void> done = co_await replace(*role, command);
    if (done) continue;
    for (auto& [changed, before] : replaced) {
      if (Result<void> back = co_await replace(*changed, before); !back)
        log::error("an old daemon does not start again", {{"error", back.error().message}});
    }
    drain(next, limit);
    co_return done;
  }
  drain(std::exchange(edge_, next), limit);
  co_return Result<void>{};
}

// Returns when it is ready as `command`.
Async<Result<void>> Supervisor::replace(Role& role, DaemonCommand command) {
  role.command = std::move(command);
  role.replacing = role.pid > 0;  // else it is between two lives: the next is of the new command
  role.ready = role.prepared = false;
  role.failures = 0;
  const pid_t old = role.pid;
  const auto deadline = std::chrono::steady_clock::now() + kDaemonStopWithin;
  if (role.replacing) kill(old, SIGTERM);
  while (role.replacing) {
    role.changed.reset();
    co_await role.changed.wait_for(Duration(200));
    // Once it has been waited for, its number may be another's.
    if (role.replacing && role.pid == old && std::chrono::steady_clock::now() > deadline)
      kill(old, SIGKILL);
  }
  co_return co_await await_ready(role, false, 1);
}

// Tells an edge to hand over, and ends it when it has, or after `limit`.
void Supervisor::drain(const std::shared_ptr<Role>& edge, Duration limit) {
  edge->stopping = true;  // it is not started again
  edge->handing_over = true;
  edge->drain_until = std::chrono::steady_clock::now() + limit;
  if (edge->pid > 0) kill(edge->pid, SIGUSR1);
  end_when_drained(edge);
  if (std::ranges::count_if(roles_, [](const auto& role) { return role->handing_over; }) <=
      static_cast<std::ptrdiff_t>(kDrainingMax))
    return;
  const auto oldest = std::ranges::find_if(
      roles_, [](const auto& role) { return role->handing_over && !role->cut_short; });
  if (oldest == roles_.end()) return;
  (*oldest)->cut_short = true;
  if ((*oldest)->pid > 0) kill((*oldest)->pid, SIGTERM);
}

void Supervisor::end_when_drained(const std::shared_ptr<Role>& edge) {
  scope_.spawn("drain", [this, edge]() -> Async<> {
    const auto left =
        std::chrono::duration_cast<Duration>(edge->drain_until - std::chrono::steady_clock::now());
    if (!co_await edge->ended.wait_for(std::max(left, Duration(0)))) co_await stop_role(*edge);
    forget(edge);
  });
}

}  // namespace hob::cli
