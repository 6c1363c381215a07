// `hob up`: starts control, edge and host, keeps them running, and takes everything down again.
//
// It opens every listening socket itself and keeps them open, so that a daemon that dies and comes
// back loses no connection that waits (docs/decisions/listening-sockets.md). It also
// holds the local authority's key, which no daemon gets to see (local_certificate.h). It does
// nothing else that can fail: what Hob is doing is in the daemons. Answers on
// DATA/run/supervisor.sock (root only):
//   GET /status -> {"pid", "version", "roles": {"control": {"pid", "restarts", "ready",
//                   "version"}, …}, "draining": [{"pid", "version"}] (edges), "upgrading",
//                   "upgrade_error" (of the last)}
//   POST /upgrade?drain_ms=N -> answers at once; /status tells how it goes. 409: not now
//   POST /down  -> answers when everything is gone; the supervisor ends after it
// Belongs to the main thread and its one loop.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/async.h"
#include "base/file.h"
#include "base/http.h"
#include "base/result.h"
#include "cli/instance.h"
#include "cli/log_file.h"
#include "cli/spawn.h"
#include "cli/supervisor_state.h"

namespace hob::cli {

inline constexpr Duration kReadyWithin{60'000};       // a start slower than this has failed
inline constexpr Duration kDaemonStopWithin{15'000};  // from SIGTERM to SIGKILL
inline constexpr Duration kDrainDefault{600'000};     // of an edge that has handed over: then it is stopped
inline constexpr Duration kDrainMax{86'400'000};
inline constexpr size_t kDrainingMax = 4;  // edges; beyond: the one that has drained longest is stopped
inline constexpr int kStartsMax = 3;  // failures in a row before ready: `hob up` gives up

// Why the supervisor ends.
enum class Ending {
  kLeaveTasks,  // SIGTERM: the daemons end, tasks run on and are adopted by the next `hob up`
  kDown,        // `hob down`, Ctrl-C: nothing is left
};

class Supervisor {
 public:
  // `lock`: lock_instance()'s, held as long as this lives. `say` shows progress to whoever started
  // it, a line each.
  Supervisor(Executor executor, Instance instance, Fd lock,
             std::function<void(const std::string&)> say);
  ~Supervisor();
  // Starts everything; returns when API, edge and host answer. An error has been cleaned up after,
  // and says which daemon failed and its last words.
  Async<Result<void>> start();
  // Takes the place of the supervisor that this process was before it executed this program
  // (supervisor_succession.h), and goes on with its upgrade; or, if `why` says what was wrong with
  // the next one, is it again. An error: execute() the one before.
  Result<void> succeed(const SupervisorState& state, const std::string& why);
  // Waits until it is asked to end, by signal or socket.
  Async<Ending> wait();
  // Ends the daemons (the edge first, it finishes its requests), then what `ending` says.
  Async<Result<void>> stop(Ending ending);

 private:
  struct Role;
  struct Commands {
    DaemonCommand control{};
    DaemonCommand host{};
    DaemonCommand edge{};
  };
  // With hobd as it is on disk now.
  Result<Commands> make_commands() const;
  Result<void> open_files();
  Result<void> serve();
  Result<void> listen_to_people();
  Result<std::shared_ptr<Role>> make_edge(DaemonCommand command, std::shared_ptr<LogFile> log);
  void forget(const std::shared_ptr<Role>& edge);
  void remove_metrics_sockets() const;
  Async<Result<void>> start_all();
  Async<> answer(const http::Request& request, http::Responder& responder);
  Async<> wait_for_signal();
  Async<> keep_certificates();
  // Of one daemon (supervisor_role.cc).
  void spawn(const std::shared_ptr<Role>& role);
  Async<> keep(Role& role);
  void start_daemon(Role& role);
  Async<> outlive(Role& role);
  void listen_to(Role& role);
  Async<> listen_no_more(Role& role);
  Async<> pump_errors(Role& role, Fd errors);
  Async<> watch_ready(Role& role, Fd ready);
  Async<Result<void>> await_ready(Role& role, bool first_word, int starts_max);
  Async<> stop_role(Role& role);
  // Of an upgrade (supervisor_upgrade.cc). kConflict: another one runs, or it is starting or ending.
  Result<void> begin_upgrade(const std::string& query);
  void go_on_upgrading(Duration drain);
  void end_upgrade(const Result<void>& done);
  Async<Result<void>> upgrade(Duration drain);
  Async<Result<void>> replace(Role& role, DaemonCommand command);
  void drain(const std::shared_ptr<Role>& edge, Duration limit);
  void end_when_drained(const std::shared_ptr<Role>& edge);
  // Of the supervisor's own (supervisor_succession.cc).
  Async<Result<void>> make_way(Duration drain);
  SupervisorState state(Duration drain) const;
  void adopt(const SupervisorState& state);
  std::string status() const;

  Executor executor_;
  Instance instance_;
  std::function<void(const std::string&)> say_;
  Fd lock_;
  std::map<std::string, Fd> files_;  // listening sockets, logs: what daemons inherit, and our socket
  std::vector<std::shared_ptr<Role>> roles_;  // all that run: edges that drain, too
  std::shared_ptr<Role> host_, control_, edge_;
  AsyncScope scope_;
  AsyncScope upgrade_scope_;
  Event ending_asked_;
  Event finished_;
  Ending ending_ = Ending::kLeaveTasks;
  Result<void> outcome_{};
  bool started_ = false;
  bool upgrading_ = false;
  bool making_way_ = false;  // for another program: daemons' pipes are not read
  std::string upgrade_error_{};
  std::unique_ptr<http::Server> server_;
};

// The path of hobd: beside this program, or where `make install` puts it. kNotFound.
Result<std::string> find_hobd();

// Removes what the instance left on the machine: tasks, mounts, namespaces, interfaces, cgroups,
// nftables tables. For an instance whose daemons have ended. Idempotent.
Async<Result<void>> tear_down(Instance instance);

}  // namespace hob::cli
