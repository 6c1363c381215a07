#include "cluster/host_gateway.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "cluster/keys.h"
#include "cluster/task_state.h"

namespace hob::cluster {

// A host's place among the links, given up on every way out of serve(), cancelled too.
class HostGateway::Registration {
 public:
  Registration(HostGateway& gateway, std::shared_ptr<link::Session> session,
               const link::HostHello& hello)
      : gateway_(gateway), host_(hello.host), session_(std::move(session)) {
    Link& link = gateway_.links_[host_];
    if (link.session)
      link.session->close();  // its serve() finds that the place is not its own any more
    link = Link{.session = session_, .hello = hello};
    gateway_.left_at_.erase(host_);
  }
  ~Registration() {
    if (!mine()) return;
    gateway_.links_.erase(host_);
    gateway_.left_at_[host_] = gateway_.clock_.now();
    gateway_.changed_();
  }
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;
  bool mine() const {
    const auto found = gateway_.links_.find(host_);
    return found != gateway_.links_.end() && found->second.session == session_;
  }

 private:
  HostGateway& gateway_;
  HostId host_;
  std::shared_ptr<link::Session> session_;
};

HostGateway::HostGateway(const State& state, const ClusterPorts& ports, const Clock& clock,
                         AsyncScope& scope, Instant started_at, std::function<void()> changed)
    : state_(state),
      ports_(ports),
      clock_(clock),
      scope_(scope),
      started_at_(started_at),
      changed_(std::move(changed)) {}

Async<> HostGateway::serve(std::shared_ptr<link::Session> session, link::HostHello hello) {
  const Registration registration(*this, session, hello);
  log::info("host connected",
            {{"host", hello.host.value}, {"zone", hello.zone}, {"version", hello.version}});
  welcome(links_[hello.host]);
  changed_();
  const auto batches =
      std::make_shared<Channel<link::LogBatch>>(scope_.executor(), kLogBatchesWaitingMax);
  const std::shared_ptr<void> closes(nullptr, [batches](void*) { batches->close(); });
  scope_.spawn("host logs", store_logs(ports_, session, batches));
  for (;;) {
    Result<link::Message> message = co_await session->receive();
    if (!message || !registration.mine()) break;
    Result<void> taken;
    if (message->type == "TaskReport") {
      link::TaskReport report;
      taken = decode(*message, report);
      if (taken) accept(hello.host, std::move(report));
      if (reports_.size() > kReportsWaitingMax)
        taken = fail(Code::kLimit, "too many reports wait for the store");
    } else if (message->type == "BuildReport") {
      link::BuildReport report;
      taken = decode(*message, report);
      if (taken) accept(hello.host, std::move(report));
    } else if (message->type == "LogBatch") {
      link::LogBatch batch;
      taken = decode(*message, batch);
      if (taken && !batches->try_push(std::move(batch)))
        taken = fail(Code::kLimit, "too many log batches at once");
    } else {
      taken = fail(Code::kInvalid, "a {} from a host", message->type);
    }
    if (!taken) {
      // It connects again, and everything is told anew.
      log::error("host link ended", {{"host", hello.host.value}, {"error", taken.error().message}});
      session->close();
      break;
    }
  }
  log::info("host disconnected", {{"host", hello.host.value}});
}

link::Assignment HostGateway::assignment(const Task& task) const {
  const auto* service = state_.service(service_key_of(task));
  link::Assignment made = assignment_of(task, service == nullptr ? nullptr : &service->record);
  if (ports_.credentials && made.desired == link::DesiredStatus::kRunning) {
    for (link::Container& container : made.containers) {
      container.image = ports_.credentials(task.account, std::move(container.image));
    }
  }
  return made;
}

void HostGateway::welcome(Link& link) {
  link::HostWelcome welcome;
  for (const std::string& key : state_.tasks_of_host(link.hello.host)) {
    const Task& task = state_.task(key)->record;
    if (!is_present(task)) continue;
    link.told[task.id] = task.desired;
    if (welcome.assignments.size() == kAssignmentsPerMessage) {
      welcome.more = true;
      send(link, encode(welcome));
      welcome = {};
    }
    welcome.assignments.push_back(assignment(task));
  }
  send(link, encode(welcome));
}

// A message that cannot be sent would leave the host believing something else than we do: better no
// link, and a welcome anew.
void HostGateway::send(Link& link, link::Message message) {
  if (const Result<void> sent = link.session->send(std::move(message)); !sent) {
    log::error("host link ended",
               {{"host", link.hello.host.value}, {"error", sent.error().message}});
    link.session->close();
  }
}

void HostGateway::sync() {
  for (auto& [host, link] : links_) sync(link);
}

void HostGateway::sync(Link& link) {
  link::AssignmentChange change;
  std::map<TaskId, link::DesiredStatus> now;
  for (const std::string& key : state_.tasks_of_host(link.hello.host)) {
    const Task& task = state_.task(key)->record;
    if (!is_present(task)) continue;
    now[task.id] = task.desired;
    const auto told = link.told.find(task.id);
    if (told == link.told.end() || told->second != task.desired)
      change.put.push_back(assignment(task));
    if (change.put.size() == kAssignmentsPerMessage) {
      send(link, encode(change));
      change = {};
    }
  }
  for (const auto& [task, desired] : link.told) {
    if (!now.contains(task)) change.remove.push_back(task);
  }
  link.told = std::move(now);
  if (change.put.empty() && change.remove.empty()) return;
  send(link, encode(change));
}

void HostGateway::close() {
  for (auto& [host, link] : links_) link.session->close();
}

void HostGateway::accept(const HostId& host, link::TaskReport report) {
  const auto* task = state_.task(report.task);
  if (task == nullptr) {
    // Not ours, or long forgotten: it is not to run.
    send(links_[host], encode(link::AssignmentChange{.remove = {report.task}}));
    return;
  }
  if (task->record.host != host) {
    log::error("report for another host's task",
               {{"host", host.value}, {"task", report.task.value}});
    return;
  }
  const TaskId id = report.task;
  reports_.insert_or_assign(id, std::move(report));
  changed_();
}

void HostGateway::accept(const HostId& host, link::BuildReport report) {
  const auto place = builds_.find(report.build);
  if (place == builds_.end() || place->second.host != host) {
    send(links_[host], encode(link::BuildEnd{.build = report.build}));
    return;
  }
  if (ports_.build_report) ports_.build_report(std::move(report));
}

HostGateway::Link* HostGateway::roomiest() {
  std::map<HostId, int> taken;
  for (const auto& [build, place] : builds_) taken[place.host] += kBuildMemoryMib;
  Link* best = nullptr;
  int most = 0;
  for (auto& [host, link] : links_) {
    int left = link.hello.memory_mib - taken[host];
    for (const std::string& key : state_.tasks_of_host(host)) {
      const Task& task = state_.task(key)->record;
      if (is_present(task)) left -= task.memory_mib;
    }
    if (best != nullptr && left <= most) continue;
    best = &link;
    most = left;
  }
  return best;
}

Result<void> HostGateway::order_build(link::BuildOrder order) {
  const auto known = builds_.find(order.build);
  const auto linked = known == builds_.end() ? links_.end() : links_.find(known->second.host);
  Link* link = linked == links_.end() ? roomiest() : &linked->second;
  if (link == nullptr) return fail(Code::kUnavailable, "no host is there to build on");
  BuildPlace& place = builds_[order.build];
  if (place.host == link->hello.host && place.session.lock() == link->session &&
      place.lines_taken == order.lines_taken) {
    return {};
  }
  place = {.host = link->hello.host, .session = link->session, .lines_taken = order.lines_taken};
  send(*link, encode(order));
  return {};
}

void HostGateway::end_build(const std::string& build) {
  const auto place = builds_.extract(build);
  if (!place) return;
  const auto linked = links_.find(place.mapped().host);
  if (linked != links_.end()) send(linked->second, encode(link::BuildEnd{.build = build}));
}

std::vector<link::TaskReport> HostGateway::take_reports(size_t count) {
  std::vector<link::TaskReport> taken;
  while (!reports_.empty() && taken.size() < count) {
    taken.push_back(std::move(reports_.begin()->second));
    reports_.erase(reports_.begin());
  }
  return taken;
}

void HostGateway::give_back(link::TaskReport report) {
  const TaskId id = report.task;
  reports_.try_emplace(id, std::move(report));
}

std::vector<HostView> HostGateway::hosts() const {
  std::vector<HostView> views;
  const auto linked = [](const Link& link, Instant now) {
    return Host{.id = link.hello.host,
                .zone = link.hello.zone,
                .version = link.hello.version,
                .cpu = link.hello.cpu,
                .memory_mib = link.hello.memory_mib,
                .microvm = link.hello.microvm,
                .can_microvm = link.hello.can_microvm,
                .connected = true,
                .last_seen = now};
  };
  const Instant now = clock_.now();
  for (const auto& [host, link] : links_) views.push_back({.host = linked(link, now)});
  for (const auto& [key, item] : state_.hosts()) {
    if (links_.contains(item.record.id)) continue;
    const auto left = left_at_.find(item.record.id);
    const Instant seen = left != left_at_.end() ? left->second : item.record.last_seen;
    views.push_back({.host = item.record, .away_since = std::max(seen, started_at_)});
    views.back().host.connected = false;
  }
  return views;
}

std::vector<Host> HostGateway::stale_records() const {
  std::vector<Host> stale;
  for (const HostView& view : hosts()) {
    const auto record = state_.hosts().find(host_key(view.host.id.value));
    const auto same = [](const Host& a, const Host& b) {
      return a.zone == b.zone && a.version == b.version && a.cpu == b.cpu &&
             a.memory_mib == b.memory_mib && a.microvm == b.microvm &&
             a.can_microvm == b.can_microvm && a.connected == b.connected;
    };
    if (record != state_.hosts().end() && same(record->second.record, view.host)) continue;
    stale.push_back(view.host);
    if (view.away_since) stale.back().last_seen = *view.away_since;
  }
  return stale;
}

Async<> HostGateway::store_logs(const ClusterPorts& ports, std::shared_ptr<link::Session> session,
                                std::shared_ptr<Channel<link::LogBatch>> batches) {
  Backoff backoff;
  for (;;) {
    const std::optional<link::LogBatch> batch = co_await batches->pop();
    if (!batch) co_return;
    for (;;) {
      Result<void> stored;
      if (ports.store_logs) stored = co_await ports.store_logs(*batch);
      if (stored) break;
      if (batches->closed()) co_return;
      log::warn("logs not stored", {{"group", batch->group}, {"error", stored.error().message}});
      co_await sleep_for(backoff.next(0.5));
    }
    backoff.reset();
    (void)session->send(encode(
        link::LogAck{.group = batch->group, .stream = batch->stream, .position = batch->position}));
  }
}

}  // namespace hob::cluster
