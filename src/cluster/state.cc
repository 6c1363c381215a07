#include "cluster/state.h"

#include <utility>

#include "base/log.h"
#include "cluster/keys.h"

namespace hob::cluster {

namespace {
const std::set<std::string> kNone;

template <class Map>
void erase_from(Map& sets, const typename Map::key_type& from, const std::string& key) {
  const auto found = sets.find(from);
  if (found == sets.end()) return;
  found->second.erase(key);
  if (found->second.empty()) sets.erase(found);
}
}  // namespace

std::string key_of(const Service& service) {
  return service_key(service.account, service.cluster, service.name);
}
std::string key_of(const Task& task) { return task_key(task.account, task.cluster, task.id.value); }
std::string service_key_of(const Task& task) {
  return service_key(task.account, task.cluster, task.service);
}

std::string State::apply(const std::string& key, const store::Entry* entry) {
  unreadable_.erase(key);
  const auto read = [&](auto& items, auto decode) {
    if (entry == nullptr) {
      items.erase(key);
      return;
    }
    auto record = decode(entry->value);
    if (!record) {
      unreadable_.insert(key);  // what was read before, if anything, goes on being so
      log::error("record cannot be read", {{"key", key}, {"error", record.error().message}});
      return;
    }
    auto& item = items[key];
    item.record = std::move(*record);
    item.revision = entry->revision;
    item.json = entry->value;
  };
  if (key.starts_with(kServicesPrefix)) {
    read(services_, decode_service);
    return key;
  }
  if (key.starts_with(kHostsPrefix)) {
    read(hosts_, decode_host);
    return {};
  }
  if (key.starts_with(kEdgesPrefix)) {
    read(edges_, decode_edge);
    return {};
  }
  if (key.starts_with(kCertificatesPrefix)) {
    read(certificates_, decode_certificate);
    return {};
  }
  if (key.starts_with(kChallengesPrefix)) {
    read(challenges_, decode_challenge);
    return {};
  }
  if (!key.starts_with(kTasksPrefix)) return {};
  std::string service;
  if (const auto old = tasks_.find(key); old != tasks_.end()) {
    service = service_key_of(old->second.record);
    unindex(key, old->second.record);
  }
  read(tasks_, decode_task);
  if (const auto fresh = tasks_.find(key); fresh != tasks_.end()) {
    service = service_key_of(fresh->second.record);
    index(key, fresh->second.record);
  }
  return service;
}

void State::index(const std::string& key, const Task& task) {
  by_id_[task.id] = key;
  by_service_[service_key_of(task)].insert(key);
  if (!task.host.empty()) by_host_[task.host].insert(key);
}

void State::unindex(const std::string& key, const Task& task) {
  by_id_.erase(task.id);
  erase_from(by_service_, service_key_of(task), key);
  erase_from(by_host_, task.host, key);
}

const State::Item<Service>* State::service(const std::string& key) const {
  const auto found = services_.find(key);
  return found == services_.end() ? nullptr : &found->second;
}

const State::Item<Task>* State::task(const std::string& key) const {
  const auto found = tasks_.find(key);
  return found == tasks_.end() ? nullptr : &found->second;
}

const State::Item<Task>* State::task(const TaskId& id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : task(found->second);
}

const std::set<std::string>& State::tasks_of_service(const std::string& service_key) const {
  const auto found = by_service_.find(service_key);
  return found == by_service_.end() ? kNone : found->second;
}

const std::set<std::string>& State::tasks_of_host(const HostId& host) const {
  const auto found = by_host_.find(host);
  return found == by_host_.end() ? kNone : found->second;
}

}  // namespace hob::cluster
