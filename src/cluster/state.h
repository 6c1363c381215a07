// Cluster's records, decoded once and kept current from the store's cache. Belongs to control's
// loop.
//
// A record that cannot be read is logged and left alone: it is `unreadable`, never taken for
// absent.
#pragma once

#include <map>
#include <set>
#include <string>

#include "cluster/records.h"
#include "store/store.h"

namespace hob::cluster {

class State {
 public:
  template <class T>
  struct Item {
    T record{};
    store::Revision revision = 0;
    std::string json{};  // as read: what encode_over() keeps unknown fields of
  };

  // A change under cluster's prefixes; nullptr: removed. Answers the key of the service concerned;
  // empty: none.
  std::string apply(const std::string& key, const store::Entry* entry);

  const std::map<std::string, Item<Service>>& services() const { return services_; }
  const std::map<std::string, Item<Task>>& tasks() const { return tasks_; }
  const std::map<std::string, Item<Host>>& hosts() const { return hosts_; }
  const std::map<std::string, Item<Edge>>& edges() const { return edges_; }
  const std::map<std::string, Item<Certificate>>& certificates() const { return certificates_; }
  const std::map<std::string, Item<Challenge>>& challenges() const { return challenges_; }
  const Item<Service>* service(const std::string& key) const;
  const Item<Task>* task(const std::string& key) const;
  const Item<Task>* task(const TaskId& id) const;
  // Keys of tasks, in order.
  const std::set<std::string>& tasks_of_service(const std::string& service_key) const;
  const std::set<std::string>& tasks_of_host(const HostId& host) const;
  // Keys of services that tasks name, whether or not there is such a record.
  const std::map<std::string, std::set<std::string>>& by_service() const { return by_service_; }
  bool unreadable(const std::string& key) const { return unreadable_.contains(key); }

 private:
  void index(const std::string& key, const Task& task);
  void unindex(const std::string& key, const Task& task);

  std::map<std::string, Item<Service>> services_;
  std::map<std::string, Item<Task>> tasks_;
  std::map<std::string, Item<Host>> hosts_;
  std::map<std::string, Item<Edge>> edges_;
  std::map<std::string, Item<Certificate>> certificates_;
  std::map<std::string, Item<Challenge>> challenges_;
  std::map<TaskId, std::string> by_id_;
  std::map<std::string, std::set<std::string>> by_service_;
  std::map<HostId, std::set<std::string>> by_host_;
  std::set<std::string> unreadable_;
};

// The keys of a record.
std::string key_of(const Service& service);
std::string key_of(const Task& task);
std::string service_key_of(const Task& task);  // of the service it belongs to

}  // namespace hob::cluster
