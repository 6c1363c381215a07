// One daemon of the supervisor's: what it is started with, and how it is. Of the room alone.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/async.h"
#include "cli/log_file.h"
#include "cli/spawn.h"
#include "cli/supervisor.h"

namespace hob::cli {

inline constexpr int kReadyFd = 3;  // where a daemon finds it

struct Supervisor::Role {
  Role(const Executor& executor, std::string role_name, std::shared_ptr<LogFile> log_file,
       DaemonCommand started_with)
      : name(std::move(role_name)),
        log(std::move(log_file)),
        command(std::move(started_with)),
        changed(executor),
        ended(executor) {}
  std::string name;
  std::shared_ptr<LogFile> log;  // an edge's is its successor's, too
  std::string partial;           // of a line of it
  DaemonCommand command;
  std::vector<std::string> first_time{};  // arguments of the next start alone
  pid_t pid = -1;
  Fd pidfd{};
  Fd errors{}, words{};  // the reading ends of its pipes; `readers` read copies of them
  std::shared_ptr<AsyncScope> readers{};
  Fd metrics_socket{};  // an edge's own
  std::filesystem::path metrics_path{};
  std::string version{};  // as it says; empty: not yet
  bool prepared = false;  // said "prepared": what others need of it is there (the host's VPC)
  bool ready = false;
  bool stopping = false;
  bool replacing = false;     // its end is wanted: the next start is of another command
  bool handing_over = false;  // an edge whose successor serves
  bool cut_short = false;     // and was told to stop, for others drain, too
  std::chrono::steady_clock::time_point drain_until{};
  int restarts = 0;
  int failures = 0;  // in a row, before it was ready
  Event changed;     // prepared, ready or failures changed
  Event ended;       // keep() has returned
  bool kept = false;
};

}  // namespace hob::cli
