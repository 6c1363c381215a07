#include "runner/controller.h"

#include <algorithm>

#include "base/log.h"
#include "cluster/keys.h"
#include "cluster/records.h"
#include "cluster/task_state.h"
#include "runner/cluster_service.h"
#include "runner/keys.h"
#include "runner/operations.h"

namespace hob::runner {

namespace {

constexpr std::string_view kCluster = "apprunner";  // cluster::Service's default
constexpr Duration kRetryDelay{1'000};              // after the store failed
constexpr Duration kIdleWait = std::chrono::hours(1);
constexpr size_t kUncountedLinesMax = 100;  // of a stream; beyond: not logged

template <class T>
T* find(std::vector<RunnerAction>& actions) {
  for (RunnerAction& action : actions) {
    if (T* found = std::get_if<T>(&action)) return found;
  }
  return nullptr;
}

// Reads one record; nullopt when there is none. `entry` keeps what was read, for expectations and
// encode_over.
template <class T, class Decode>
Async<Result<std::optional<T>>> read(store::Store& store, std::string key, Decode decode,
                                     std::optional<store::Entry>* entry) {
  HOB_CO_TRY(*entry, co_await store.get(key));
  if (!*entry) co_return std::nullopt;
  auto value = context(decode((*entry)->value), "record {}", key);
  if (!value) co_return fail(std::move(value).error());
  co_return std::optional<T>(std::move(*value));
}

// No request reaches it: what load it had means nothing later.
bool rests(ServiceStatus status) {
  switch (status) {
    case ServiceStatus::kOperationInProgress:
    case ServiceStatus::kRunning:
      return false;
    case ServiceStatus::kCreateFailed:
    case ServiceStatus::kPaused:
    case ServiceStatus::kDeleted:
    case ServiceStatus::kDeleteFailed:
      return true;
  }
  return true;
}

store::Revision revision_of(const std::optional<store::Entry>& entry) {
  return entry ? entry->revision : store::kAbsent;
}

template <class T>
std::string encode_onto(const T& value, const std::optional<store::Entry>& entry) {
  return entry ? encode_over(value, entry->value) : encode(value);
}

}  // namespace

Controller::Controller(store::Store& store, Executor executor, Clock& clock, Random& random,
                       Images& images, observe::Logs& logs, Builders* builders)
    : store_(store),
      clock_(clock),
      random_(random),
      images_(images),
      logs_(logs),
      builders_(builders),
      scope_(executor),
      dirty_event_(executor) {}

void Controller::start() {
  scope_.spawn("runner: services", follow_services());
  scope_.spawn("runner: cluster services", follow_cluster_services());
  scope_.spawn("runner: tasks", follow_tasks());
  scope_.spawn("runner: hosts", follow_hosts());
  scope_.spawn("runner: images", follow_images());
  scope_.spawn("runner: controller", work());
}

Async<> Controller::stop() {
  scope_.cancel();
  co_await scope_.join();
}

void Controller::mark(ServiceRef ref) {
  dirty_.insert(std::move(ref));
  dirty_event_.set();
}

void Controller::forget(const ServiceRef& ref) {
  wake_at_.erase(ref);
  waits_for_tasks_.erase(ref);
  deploys_by_itself_.erase(ref);
  uncounted_.erase(ref);
  watched_.erase(ref.second);
  scaler_.forget(ref.second);
}

void Controller::edge_reported(const EdgeId& edge, const link::EdgeReport& report) {
  for (const std::string& id : scaler_.reported(edge, report, clock_.now())) {
    if (const auto found = watched_.find(id); found != watched_.end()) mark(found->second);
  }
}

void Controller::build_reported(link::BuildReport report) {
  const auto waits = builds_.find(report.build);
  if (waits == builds_.end()) {
    if (builders_ != nullptr) builders_->end(report.build);
    return;
  }
  mark(waits->second);
  const std::string build = report.build;
  reported_.insert_or_assign(build, std::move(report));
}

Async<> Controller::follow(std::string prefix, Mark mark_key) {
  for (;;) {
    auto listing = co_await store_.list(prefix);
    if (!listing) {
      log::warn("runner: reading the store failed", {{"error", listing.error().message}});
      co_await sleep_for(kRetryDelay);
      continue;
    }
    for (const store::Entry& entry : listing->entries) mark_key(entry.key, &entry.value);
    const std::unique_ptr<store::Watch> watch = store_.watch(prefix, listing->revision);
    for (;;) {
      const auto changes = co_await watch->next();
      if (!changes) break;  // too far behind: list again
      for (const store::Change& change : *changes)
        mark_key(change.key, change.value ? &*change.value : nullptr);
    }
  }
}

Async<> Controller::follow_services() {
  return follow(std::string(kServicesPrefix), [this](const std::string& key, const std::string*) {
    if (auto ref = parse_service_key(kServicesPrefix, key)) mark(std::move(*ref));
  });
}

Async<> Controller::follow_cluster_services() {
  const auto changed = [this](const std::string& key, const std::string*) {
    auto cluster_ref = parse_service_key(cluster::kServicesPrefix, key);  // account, cluster
    if (!cluster_ref || cluster_ref->second != kCluster) return;
    mark({std::move(cluster_ref->first), key.substr(key.rfind('/') + 1)});
  };
  return follow(std::string(cluster::kServicesPrefix), changed);
}

Async<> Controller::follow_tasks() {
  const auto changed = [this](const std::string& key, const std::string* value) {
    task_changed(key, value);
  };
  return follow(std::string(cluster::kTasksPrefix), changed);
}

void Controller::task_changed(const std::string& key, const std::string* value) {
  for (const ServiceRef& ref : waits_for_tasks_) mark(ref);
  const auto task =
      value != nullptr ? cluster::decode_task(*value) : Result<cluster::Task>(cluster::Task{});
  if (!task || task->cluster != kCluster || task->service.empty()) {
    healthy_.erase(key);
    return;
  }
  if (!cluster::is_present(*task)) {
    healthy_.erase(key);
  } else {
    const bool healthy = cluster::is_healthy(*task);
    const auto [known, fresh] = healthy_.try_emplace(key, healthy);
    if (!fresh && known->second == healthy) return;
    known->second = healthy;
  }
  mark({task->account, task->service});
}

Async<> Controller::follow_hosts() {
  return follow(std::string(cluster::kHostsPrefix), [this](const std::string&, const std::string*) {
    for (const ServiceRef& ref : waits_for_tasks_) mark(ref);
    for (const auto& [build, ref] : builds_) mark(ref);  // who did it may be gone, or back
  });
}

Async<> Controller::follow_images() {
  for (;;) {
    const auto changed = co_await images_.changed();
    if (!changed) co_await sleep_for(kRetryDelay);
    for (const ServiceRef& ref : deploys_by_itself_) mark(ref);
  }
}

Async<> Controller::work() {
  for (;;) {
    const Instant now = clock_.now();
    Duration wait = kIdleWait;
    for (const auto& [ref, at] : wake_at_) {
      if (at <= now)
        dirty_.insert(ref);
      else
        wait = std::min(wait, at - now);
    }
    if (dirty_.empty()) {
      dirty_event_.reset();
      co_await dirty_event_.wait_for(wait);
      continue;
    }
    const ServiceRef ref = *dirty_.begin();
    dirty_.erase(dirty_.begin());
    wake_at_.erase(ref);
    const auto done = co_await process(ref);
    if (!done && done.error().code == Code::kConflict) {
      mark(ref);  // somebody wrote meanwhile: decide on what is there now
    } else if (!done) {
      log::warn("runner: service not moved on",
                {{"service", ref.second}, {"error", done.error().message}});
      if (done.error().code != Code::kCorrupt) wake_at_[ref] = clock_.now() + kRetryDelay;
    }
  }
}

Async<> Controller::write_log(const ServiceRef& ref, Service& service, Operation* operation,
                              LogLines lines) {
  const std::string group = service_log_group(service);
  co_await write_stream(ref, group, "events", std::move(lines.events), service.events_logged);
  if (operation == nullptr) co_return;
  co_await write_stream(ref, group, "deployment/" + operation->id, std::move(lines.deployment),
                        operation->lines_logged);
}

Async<> Controller::write_stream(ServiceRef ref, std::string group, std::string stream,
                                 std::vector<std::string> lines, int64_t& count) {
  if (lines.empty()) co_return;
  const int64_t counted = count - static_cast<int64_t>(lines.size());
  std::vector<std::string>& written = uncounted_[ref][stream];
  const auto fresh = std::ranges::mismatch(lines, written).in1;
  std::vector<link::LogLine> batch;
  for (auto line = fresh; line != lines.end() && written.size() < kUncountedLinesMax; ++line) {
    written.push_back(*line);
    batch.push_back({.at = clock_.now(), .text = *line});
  }
  count = counted + static_cast<int64_t>(written.size());
  if (batch.empty()) co_return;
  const auto stored = co_await logs_.append({ref.first, group, stream}, std::move(batch), count);
  if (!stored) {
    log::warn("runner: log not written", {{"stream", stream}, {"error", stored.error().message}});
  }
}

Async<Result<std::vector<cluster::Task>>> Controller::tasks_of(std::string account) {
  HOB_CO_TRY(const store::Listing listing,
             co_await store_.list(cluster::task_key(account, kCluster, "")));
  std::vector<cluster::Task> tasks;
  for (const store::Entry& entry : listing.entries) {
    // One that cannot be read is cluster's to tell of.
    if (auto task = cluster::decode_task(entry.value)) tasks.push_back(std::move(*task));
  }
  co_return tasks;
}

Async<Result<bool>> Controller::tasks_left(ServiceRef ref,
                                           const std::vector<cluster::Task>& tasks) {
  for (const cluster::Task& task : tasks) {
    if (task.service != ref.second || task.status == link::TaskStatus::kStopped) continue;
    if (task.desired == link::DesiredStatus::kRunning) co_return true;
    // A host that is away stops it when it comes back; nobody waits for that.
    HOB_CO_TRY(const auto host_entry, co_await store_.get(cluster::host_key(task.host.value)));
    const auto host = host_entry ? cluster::decode_host(host_entry->value)
                                 : Result<cluster::Host>(cluster::Host{});
    if (host && host->connected) co_return true;
  }
  co_return false;
}

Async<Result<void>> Controller::process(ServiceRef ref) {
  const auto& [account, id] = ref;
  std::optional<store::Entry> service_entry;
  const std::string service_path = service_key(account, id);
  HOB_CO_TRY(auto service,
             co_await read<Service>(store_, service_path, decode_service, &service_entry));
  if (!service) {
    forget(ref);
    co_return Result<void>();
  }
  RunnerView view{.service = std::move(*service)};

  std::optional<store::Entry> operation_entry;
  if (!view.service.operation.empty()) {
    const std::string path = operation_key(account, id, view.service.operation);
    HOB_CO_TRY(view.operation,
               co_await read<Operation>(store_, path, decode_operation, &operation_entry));
  }
  std::optional<store::Entry> cluster_entry;
  const std::string cluster_path = cluster::service_key(account, kCluster, id);
  HOB_CO_TRY(view.cluster, co_await read<cluster::Service>(
                               store_, cluster_path, cluster::decode_service, &cluster_entry));
  const ScalingReference scaling = view.service.configuration.scaling;
  std::optional<store::Entry> scaling_entry;
  const std::string scaling_path = scaling_key(account, scaling.name, scaling.revision, scaling.id);
  HOB_CO_TRY(view.scaling, co_await read<AutoScalingConfiguration>(store_, scaling_path,
                                                                   decode_scaling, &scaling_entry));

  if (view.cluster) {
    HOB_CO_TRY(view.tasks, co_await tasks_of(account));
  }
  if (view.operation && view.operation->type == OperationType::kPauseService) {
    waits_for_tasks_.insert(ref);
    HOB_CO_TRY(view.tasks_left, co_await tasks_left(ref, view.tasks));
  } else {
    waits_for_tasks_.erase(ref);
  }
  if (view.service.configuration.auto_deployments.value_or(false))
    deploys_by_itself_.insert(ref);
  else
    deploys_by_itself_.erase(ref);

  if (view.operation && view.service.configuration.code && builders_ != nullptr) {
    const std::string build = build_of(*view.operation);
    if (const auto found = reported_.find(build); found != reported_.end()) {
      view.build = found->second;
    }
    view.build_image = builders_->image_name(id, build);
  }
  view.operation_id = random_uuid(random_);
  const Instant now = clock_.now();
  view.load = scaler_.load(id, now);
  std::vector<RunnerAction> actions = decide_runner(view, now);
  if (find<ResolveImage>(actions) != nullptr) {
    std::string wanted = view.service.configuration.image;
    // Once it is applied, what matters is what the tag means.
    if (view.operation && !view.operation->applied && !view.operation->digest.empty()) {
      HOB_CO_TRY(wanted, images_.at_digest(wanted, view.operation->digest));
    }
    view.image = co_await images_.resolve(account, std::move(wanted));
    actions = decide_runner(view, now);
  }

  auto* service_after = find<PutService>(actions);
  auto* operation_after = find<PutOperation>(actions);
  if (const auto* lines = find<LogLines>(actions); lines != nullptr && service_after != nullptr) {
    // Before the transaction: written twice it is there once (see LogLines), written after it could
    // be lost.
    co_await write_log(ref, service_after->service,
                       operation_after ? &operation_after->operation : nullptr, *lines);
  }
  if (const auto* wake = find<WakeAt>(actions)) wake_at_[ref] = wake->at;
  if (const auto* watch = find<WatchLoad>(actions)) {
    watched_[id] = ref;
    scaler_.watch(id, watch->limits, watch->fleet, watch->start_time, watch->plan);
  } else if (rests(view.service.status)) {
    watched_.erase(id);
    scaler_.forget(id);
  }

  store::Transaction transaction;
  transaction.expect[service_path] = revision_of(service_entry);
  if (service_after)
    transaction.put[service_path] = encode_onto(service_after->service, service_entry);
  if (operation_after) {
    const std::string path = operation_key(account, id, operation_after->operation.id);
    transaction.expect[path] = revision_of(operation_entry);
    if (!operation_entry)
      HOB_CO_CHECK(co_await drop_old_operations(store_, account, id, transaction));
    transaction.put[path] = encode_onto(operation_after->operation, operation_entry);
  }
  if (const auto* put = find<PutCluster>(actions)) {
    transaction.expect[cluster_path] = revision_of(cluster_entry);
    transaction.put[cluster_path] = encode_onto(put->service, cluster_entry);
  }
  if (const auto* put = find<PutRevision>(actions)) {
    transaction.put[revision_key(account, id, put->revision.number)] = encode(put->revision);
    const int serves = service_after ? service_after->service.revision : view.service.revision;
    HOB_CO_CHECK(co_await drop_old_revisions(store_, account, id, serves, put->revision.number,
                                             transaction));
  }
  if (const auto* amend = find<AmendRevision>(actions)) {
    const std::string path = revision_key(account, id, amend->number);
    std::optional<store::Entry> entry;
    HOB_CO_TRY(auto revision, co_await read<Revision>(store_, path, decode_revision, &entry));
    if (revision) {
      revision->settings = amend->settings;
      transaction.expect[path] = entry->revision;
      transaction.put[path] = encode_over(*revision, entry->value);
    }
  }
  if (find<ReleaseName>(actions) != nullptr) {
    transaction.remove.push_back(name_key(account, view.service.name));
    transaction.remove.push_back(subdomain_key(view.service.subdomain));
  }
  if (find<Forget>(actions) != nullptr) {
    HOB_CO_TRY(const store::Listing operations, co_await store_.list(operations_of(account, id)));
    for (const store::Entry& entry : operations.entries) transaction.remove.push_back(entry.key);
    HOB_CO_TRY(const store::Listing revisions, co_await store_.list(revisions_of(account, id)));
    for (const store::Entry& entry : revisions.entries) transaction.remove.push_back(entry.key);
    transaction.remove.push_back(service_path);
  }
  if (transaction.put.empty() && transaction.remove.empty()) {
    co_await direct_builds(ref, actions);
    co_return Result<void>();
  }
  HOB_CO_CHECK(co_await store_.commit(std::move(transaction)));
  co_await direct_builds(ref, actions);
  if (service_after) uncounted_.erase(ref);
  if (service_after && service_after->service.status != view.service.status) {
    log::info("service status", {{"service", id},
                                 {"name", view.service.name},
                                 {"status", word(service_after->service.status)}});
  }
  co_return Result<void>();
}

Async<> Controller::direct_builds(ServiceRef ref, const std::vector<RunnerAction>& actions) {
  if (builders_ == nullptr) co_return;
  for (const RunnerAction& action : actions) {
    if (const auto* ends = std::get_if<EndBuild>(&action)) {
      builds_.erase(ends->build);
      reported_.erase(ends->build);
      builders_->end(ends->build);
    } else if (const auto* orders = std::get_if<OrderBuild>(&action)) {
      builds_.insert_or_assign(orders->order.build, ref);
      const Result<void> ordered = co_await builders_->order(orders->order);
      if (!ordered) {  // the decision asks again in a while
        log::warn("build not ordered", {{"service", ref.second},
                                        {"build", orders->order.build},
                                        {"error", ordered.error().message}});
      }
    }
  }
}

}  // namespace hob::runner
