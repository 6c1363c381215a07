#include "sim/observed.h"

#include "cluster/keys.h"
#include "runner/keys.h"

namespace hob::sim {

namespace {
template <class Id, class T, class Decode>
void keep(std::map<Id, T>& into, Id id, const store::Entry* entry, Decode decode) {
  if (entry == nullptr) {
    into.erase(id);
  } else if (auto value = decode(entry->value)) {
    into.insert_or_assign(std::move(id), std::move(*value));
  }
}
}  // namespace

Observed::Observed(store::Store& store, const Executor& executor)
    : cache_(store, executor,
             {std::string(cluster::kServicesPrefix), std::string(cluster::kTasksPrefix),
              std::string(runner::kServicesPrefix), std::string(runner::kOperationsPrefix),
              std::string(runner::kScalingPrefix), std::string(runner::kNamesPrefix),
              std::string(runner::kSubdomainsPrefix)},
             [this](const std::string& key, const store::Entry* entry) { changed(key, entry); }) {}

void Observed::changed(const std::string& key, const store::Entry* entry) {
  const std::string last = key.substr(key.rfind('/') + 1);
  if (key.starts_with(cluster::kTasksPrefix))
    keep(tasks_, TaskId{last}, entry, cluster::decode_task);
  else if (key.starts_with(cluster::kServicesPrefix))
    keep(clusters_, last, entry, cluster::decode_service);
  else if (key.starts_with(runner::kServicesPrefix))
    keep(services_, last, entry, runner::decode_service);
  else if (key.starts_with(runner::kOperationsPrefix))
    keep(operations_, last, entry, runner::decode_operation);
  else if (key.starts_with(runner::kScalingPrefix))
    keep(scalings_, last, entry, runner::decode_scaling);
}

const runner::Service* Observed::service(const std::string& id) const {
  const auto found = services_.find(id);
  return found == services_.end() ? nullptr : &found->second;
}
const cluster::Service* Observed::cluster_service(const std::string& id) const {
  const auto found = clusters_.find(id);
  return found == clusters_.end() ? nullptr : &found->second;
}

}  // namespace hob::sim
