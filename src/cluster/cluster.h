// Cluster: keeps the store's services running on the hosts it is linked to, and the edges routing
// to them.
//
// One loop, one object: it follows cluster's records, asks the pure decisions what to do, writes
// that under optimistic concurrency, and tells hosts and edges what concerns them. Whoever wants
// something writes a Service record (records.h) and reads it back; nothing else is called.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/async.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "link/link.h"
#include "link/messages.h"
#include "store/store.h"

namespace hob::cluster {

// The rooms beside and above, given in by daemon/. Called on the loop; empty functions are left
// out.
struct ClusterPorts {
  // The source with what is needed to pull it now (username, password), for a task of `account`
  // that is about to be sent to its host. Called each time, so that tokens are fresh.
  std::function<link::ImageSource(const std::string& account, link::ImageSource source)>
      credentials{};
  // Keeps a batch of log lines durably. A failure is retried for as long as the host is linked;
  // repeats are normal.
  std::function<Async<Result<void>>(link::LogBatch batch)> store_logs{};
  // What an edge says of its load, for scaling.
  std::function<void(const EdgeId& edge, const link::EdgeReport& report)> load{};
  // What a host says of a build it was ordered.
  std::function<void(link::BuildReport report)> build_report{};
};

class Cluster {
 public:
  // All of them must outlive it.
  Cluster(store::Store& store, Executor executor, const Clock& clock, Random& random,
          ClusterPorts ports);
  ~Cluster();
  void start();
  // Ends the links it serves and waits for what runs. Tasks go on. Every serve() must have returned
  // before this object goes.
  Async<> stop();
  // Serves one link, a host's or an edge's as its first message says, until it ends; for
  // link::Listener.
  Async<> serve(std::shared_ptr<link::Session> session);
  // Some linked host does that build, or goes on with it, and has been told so: the one that was
  // told before, as long as it is linked. kUnavailable: none is.
  Result<void> order_build(link::BuildOrder order);
  // Nobody waits for it any more.
  void end_build(const std::string& build);
  // Whether there are edges, and all of them do that now: what was written is there where it is
  // seen.
  bool edges_answer(const link::AcmeChallenge& challenge) const;
  bool edges_show(const std::string& account, const std::string& certificate,
                  const std::string& host_name) const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace hob::cluster
