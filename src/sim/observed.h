// What the store has, as invariants look at it: decoded as it changes. Sees what is durable,
// whether control lives or not. One loop.
#pragma once

#include <map>
#include <string>

#include "cluster/records.h"
#include "runner/records.h"
#include "store/cache.h"

namespace hob::sim {

class Observed {
 public:
  Observed(store::Store& store, const Executor& executor);
  void start() { cache_.start(); }
  Async<> stop() { return cache_.stop(); }

  const std::map<TaskId, cluster::Task>& tasks() const { return tasks_; }
  const std::map<std::string, cluster::Service>& cluster_services() const { return clusters_; }
  const std::map<std::string, runner::Service>& services() const { return services_; }
  // By id, with dashes.
  const std::map<std::string, runner::Operation>& operations() const { return operations_; }
  const std::map<std::string, runner::AutoScalingConfiguration>& scalings() const {
    return scalings_;
  }
  const std::map<std::string, store::Entry>& entries() const { return cache_.entries(); }
  const runner::Service* service(const std::string& id) const;
  const cluster::Service* cluster_service(const std::string& id) const;

 private:
  void changed(const std::string& key, const store::Entry* entry);
  std::map<TaskId, cluster::Task> tasks_;
  std::map<std::string, cluster::Service> clusters_;
  std::map<std::string, runner::Service> services_;
  std::map<std::string, runner::Operation> operations_;
  std::map<std::string, runner::AutoScalingConfiguration> scalings_;
  store::Cache cache_;
};

}  // namespace hob::sim
