// The loop around decide_runner: watches runner's and cluster's records, and writes what is
// decided.
//
// Belongs to control's loop. Keeps nothing that is not in the store but which services to look at
// and when, and what edges told of their load, so that it may be killed at any instant: what it
// does again then, it does the same, and nothing is scaled in until load is known again (scaler.h).
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/async.h"
#include "base/ids.h"
#include "base/time.h"
#include "observe/logs.h"
#include "runner/builders.h"
#include "runner/decide.h"
#include "runner/images.h"
#include "runner/scaler.h"
#include "store/store.h"

namespace hob::runner {

class Controller {
 public:
  // All must outlive it. Without `builders` nothing is built: deployments of sources end by time.
  Controller(store::Store& store, Executor executor, Clock& clock, Random& random, Images& images,
             observe::Logs& logs, Builders* builders);
  void start();
  Async<> stop();
  // What an edge says of its load: services whose plan that changes are decided about at once.
  void edge_reported(const EdgeId& edge, const link::EdgeReport& report);
  // What a host says of a build.
  void build_reported(link::BuildReport report);

 private:
  using ServiceRef = std::pair<std::string, std::string>;  // account, id

  Async<> work();
  Async<> follow_services();
  Async<> follow_cluster_services();
  Async<> follow_tasks();
  Async<> follow_hosts();
  Async<> follow_images();
  // Calls `mark` for every record under the prefix and then for every change, for ever; nullptr: it
  // is removed.
  using Mark = std::function<void(const std::string& key, const std::string* value)>;
  Async<> follow(std::string prefix, Mark mark);
  void task_changed(const std::string& key, const std::string* value);
  Async<Result<void>> process(ServiceRef ref);
  // What a decision wants of the builders, once it is written.
  Async<> direct_builds(ServiceRef ref, const std::vector<RunnerAction>& actions);
  // Of the account.
  Async<Result<std::vector<cluster::Task>>> tasks_of(std::string account);
  Async<Result<bool>> tasks_left(ServiceRef ref, const std::vector<cluster::Task>& tasks);
  // Writes the lines, and sets the records' counts to what their streams then have. The caller
  // awaits it at once.
  Async<> write_log(const ServiceRef& ref, Service& service, Operation* operation, LogLines lines);
  Async<> write_stream(ServiceRef ref, std::string group, std::string stream,
                       std::vector<std::string> lines, int64_t& count);
  void mark(ServiceRef ref);
  void forget(const ServiceRef& ref);

  store::Store& store_;
  Clock& clock_;
  Random& random_;
  Images& images_;
  observe::Logs& logs_;
  Builders* builders_;
  AsyncScope scope_;
  Event dirty_event_;
  std::set<ServiceRef> dirty_{};
  std::map<ServiceRef, Instant> wake_at_{};
  Scaler scaler_{};
  std::map<std::string, ServiceRef> watched_{};  // by id, as edges name services
  // Whether it is healthy, of each task that has not ended, by key: plans hang on that, and most
  // changes of a record are something else.
  std::map<std::string, bool> healthy_{};
  std::map<std::string, ServiceRef> builds_{};           // that are waited for, by their names
  std::map<std::string, link::BuildReport> reported_{};  // the newest of each of these
  std::set<ServiceRef> waits_for_tasks_{};               // pausing
  std::set<ServiceRef> deploys_by_itself_{};             // running, with automatic deployments
  // By stream: lines that are in the log while no record counts them, since the transaction after
  // them failed. What is decided instead comes after them.
  std::map<ServiceRef, std::map<std::string, std::vector<std::string>>> uncounted_{};
};

}  // namespace hob::runner
