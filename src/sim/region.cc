#include "sim/region.h"

#include <algorithm>
#include <utility>

#include "base/file.h"
#include "base/log.h"
#include "cluster/service_decision.h"
#include "cluster/task_state.h"

namespace hob::sim {

namespace {

constexpr int64_t kSecondUs = 1'000'000;
constexpr int64_t kStartUs = 1'000 * kSecondUs;
constexpr int kRoundsMax = 100'000;   // of polls at one instant: more is a loop that never waits
constexpr size_t kTraceMax = 20'000;  // lines kept; the oldest go
constexpr int64_t kLinkFreshUs = 5 * kSecondUs;
const std::string kLoopsEndlessly = "everything waits for something";
const std::string kNeverStops = "a process ends";
constexpr int64_t kHostReachedUs = 20 * kSecondUs;  // twice what a request waits

}  // namespace

Region::Region(RegionOptions options)
    : options_(std::move(options)),
      topology_(options_.seed, "topology"),
      fault_draws_(options_.seed, "faults"),
      store_draws_(options_.seed, "store"),
      link_draws_(options_.seed, "links"),
      machine_draws_(options_.seed, "machines"),
      edge_draws_(options_.seed, "edges"),
      operator_draws_(options_.seed, "operators"),
      visitor_draws_(options_.seed, "visitors"),
      process_draws_(options_.seed, "processes") {
  virtual_time::reset(kStartUs);
  loop_ = std::make_unique<boost::asio::io_context>(1);
  executor_ = loop_->get_executor();
  pool_ = std::make_unique<BlockingPool>(0);
  make_region();
}

Region::~Region() = default;

void Region::make_region() {
  (void)remove_tree(options_.directory);
  HOB_ASSERT(make_directories(options_.directory, 0700).has_value());
  faults_ = draw_faults(topology_, options_.without);
  if (options_.minutes == 0) options_.minutes = 2 + topology_.below(6);
  scope_ = std::make_unique<AsyncScope>(executor_);
  store_ = std::make_unique<SimStore>(executor_, store_draws_);
  store_->set_disk({.write_ms_max = faults_.disk_ms_max,
                    .fail_percent = faults_.disk_fail_percent,
                    .lose_commits = options_.mutation == Mutation::kLoseCommit});
  network_ = std::make_unique<Network>(executor_, link_draws_);
  network_->set_delay_max(1 + topology_.below(topology_.chance(30) ? 300 : 5));
  registry_ = std::make_unique<Registry>();
  for (const Behaviour behaviour : kBehaviours)
    registry_->push(repository_of(behaviour), "1", ++images_pushed_);
  observed_ = std::make_unique<Observed>(store_->durable(), executor_);
  observed_->start();
  const int hosts = 1 + topology_.below(4);
  for (int i = 0; i < hosts; ++i) {
    auto host = std::make_unique<HostProcess>();
    host->name = fmt::format("host{}", i);
    host->id = HostId{fmt::format("{:032x}", i + 1)};
    host->directory = options_.directory / host->name;
    host->capacity = {
        .cores = faults_.full_hosts ? 1 : 8,
        .memory_mib = faults_.full_hosts ? 1'024L * (1 + topology_.below(3)) : 16'384};
    host->machine = std::make_unique<Machine>(executor_, machine_draws_, host->directory);
    host->machine->set_faults(machine_faults());
    host->machine->set_mutation(options_.mutation);
    hosts_.push_back(std::move(host));
  }
  const int edges = 1 + topology_.below(2);
  for (int i = 0; i < edges; ++i) {
    auto edge = std::make_unique<EdgeProcess>();
    edge->name = fmt::format("edge{}", i);
    edge->id = EdgeId{fmt::format("{:032x}", 0xe0 + i)};
    edge->unlinked_since_us = kStartUs;
    edges_.push_back(std::move(edge));
  }
}

MachineFaults Region::machine_faults() const {
  return {.pull_fail_percent = healed_ ? 0 : faults_.pull_fail_percent,
          .start_ms_max = healed_ ? 300 : faults_.start_ms_max,
          .thaw_fail_percent = healed_ ? 0 : faults_.freeze_fail_percent,
          .freeze_fail_percent = healed_ ? 0 : faults_.freeze_fail_percent,
          .probe_fail_percent = healed_ ? 0 : faults_.probe_fail_percent};
}

// ---- time ----

void Region::settle() {
  for (int round = 0;; ++round) {
    if (round > kRoundsMax) {
      violate(kLoopsEndlessly, "the loop never became idle at this instant");
      return;
    }
    loop_->restart();
    size_t ran = loop_->poll();
    boost::system::error_code ignored;
    // Its threads' work is done here, in order.
    ran += boost::asio::use_service<boost::asio::detail::scheduler>(pool_->threads()).poll(ignored);
    const auto due = virtual_time::next_timer_us();
    if (ran == 0 && !(due && *due <= virtual_time::now_us())) return;
  }
}

void Region::step_to(int64_t at_us) {
  for (;;) {
    settle();
    if (violation_) return;
    check();
    ++totals_.steps;
    if (violation_) return;
    const auto due = virtual_time::next_timer_us();
    if (!due || *due > at_us) break;
    virtual_time::advance_to(std::max(*due, virtual_time::now_us()));
  }
  virtual_time::advance_to(at_us);
}

// To its end, while no time passes.
void Region::finish(Async<> work) {
  bool done = false;
  scope_->spawn("finish", [work = std::move(work), &done]() mutable -> Async<> {
    co_await std::move(work);
    done = true;
  });
  settle();
  if (!done && !violation_) violate(kNeverStops, "it did not when it was stopped");
}

void Region::note(std::string text) {
  std::string line =
      fmt::format("{:9.3f} {}", static_cast<double>(virtual_time::now_us() - kStartUs) / 1e6, text);
  for (const char c : line) hash_ = (hash_ ^ static_cast<uint64_t>(c)) * 1099511628211u;
  if (options_.trace) fmt::print("{}\n", line);
  trace_.push_back(std::move(line));
  if (trace_.size() > kTraceMax) trace_.erase(trace_.begin(), trace_.begin() + kTraceMax / 2);
}

void Region::violate(std::string invariant, std::string what) {
  if (violation_) return;
  // What a run cannot go on after ends it.
  if (!options_.only.empty() && invariant != options_.only && checking_ && !healed_ &&
      invariant != kLoopsEndlessly && invariant != kNeverStops)
    return;
  note(fmt::format("VIOLATION {}: {}", invariant, what));
  violation_ = Violation{std::move(invariant), std::move(what)};
}

// ---- processes ----

void Region::start_control() {
  note("control starts");
  store_->reopen();
  control_ =
      std::make_unique<ControlProcess>(*store_, executor_, *pool_, control_clock_, process_draws_,
                                       *registry_, options_.directory / "logs");
  control_->start();
}

void Region::crash_control() {
  note("control crashes");
  ++totals_.crashes;
  store_->crash();
  for (const auto& host : hosts_) network_->cut(host->name, "control");
  for (const auto& edge : edges_) network_->cut(edge->name, "control");
  finish(control_->stop());
  control_.reset();
  control_back_at_us_ = virtual_time::now_us() + kSecondUs * process_draws_.between(1, 30);
}

void Region::start_host(HostProcess& host) {
  note(host.name + " starts");
  host.metrics = std::make_unique<Metrics>();
  const bool double_of = options_.mutation == Mutation::kTwoHosts;
  host::AgentOptions options{.directory = host.directory,
                             .host = double_of ? hosts_.front()->id : host.id,
                             .zone = "us-east-1" + std::string(1, host.name.back() % 2 ? 'a' : 'b'),
                             .version = "1",
                             .machine = host.capacity,
                             .cpu_overcommit = 1,
                             .memory_overcommit = 1};
  options.connect = [this, name = host.name] { return connect_control(name, 0); };
  host::TaskPorts ports{.image = *host.machine,
                        .network = *host.machine,
                        .probe = *host.machine,
                        .sandbox = *host.machine,
                        .clock = host.clock,
                        .pool = *pool_};
  host.agent = std::make_unique<host::Agent>(executor_, std::move(options), ports, process_draws_,
                                             *host.metrics);
  host.edges = std::make_unique<AsyncScope>(executor_);
  host.up_since_us = virtual_time::now_us();
  finish([](Region& region, HostProcess& mine) -> Async<> {
    const auto started = co_await mine.agent->start();
    if (!started) region.violate("a host agent starts", started.error().message);
  }(*this, host));
}

void Region::crash_agent(HostProcess& host) {
  note(host.name + "'s agent crashes");
  ++totals_.crashes;
  network_->cut(host.name, "control");
  for (const auto& edge : edges_) network_->cut(host.name, edge->name);
  // What it would still write at an orderly end is not written by a crash.
  const std::filesystem::path aside = host.directory.string() + ".crash";
  std::filesystem::rename(host.directory, aside);
  finish([](HostProcess& mine) -> Async<> {
    mine.edges->cancel();
    co_await mine.edges->join();
    co_await mine.agent->stop(host::Agent::Tasks::kLeave);
  }(host));
  host.agent.reset();
  host.edges.reset();
  (void)remove_tree(host.directory);
  std::filesystem::rename(aside, host.directory);
  host.back_at_us = virtual_time::now_us() + kSecondUs * process_draws_.between(1, 90);
}

void Region::start_edge(EdgeProcess& edge) {
  note(edge.name + " starts");
  const auto index = static_cast<size_t>(
      std::ranges::find_if(edges_, [&](const auto& each) { return each.get() == &edge; }) -
      edges_.begin());
  EdgePorts ports{
      .control = [this, name = edge.name] { return connect_control(name, 1000); },
      .host = [this, name = edge.name](std::string host) { return connect_host(name, host); },
      .host_of = [this](const TaskId& task) -> std::optional<std::string> {
        const auto found = placed_.find(task);
        return found == placed_.end() ? std::nullopt : std::optional(found->second);
      },
      .request = [this, index](TaskId task, std::string address,
                               Duration time) { return request(index, task, address, time); },
      .waited_in_vain = [this, index](const std::vector<EdgePorts::Place>& places,
                                      int limit) { waited_in_vain(index, places, limit); },
      .strayed =
          [this, name = edge.name](const TaskId& own, const TaskId& other) {
            violate("a client returns to its target",
                    fmt::format("{} sent one of {} to {}", name, own.value.substr(0, 8),
                                other.value.substr(0, 8)));
          }};
  for (const auto& host : hosts_) ports.hosts.push_back(host->name);
  edge.edge = std::make_unique<SimEdge>(executor_, edge_draws_, edge.id, edge.disk,
                                        edge.unlinked_since_us, std::move(ports));
  if (options_.mutation == Mutation::kEdgeLies) edge.edge->lie();
  if (options_.mutation == Mutation::kForgetWake) edge.edge->forget_answers();
  if (options_.mutation == Mutation::kOverfill) edge.edge->overfill();
  if (options_.mutation == Mutation::kStray) edge.edge->stray();
  edge.edge->start();
}

void Region::crash_edge(EdgeProcess& edge) {
  note(edge.name + " crashes");
  ++totals_.crashes;
  edge.unlinked_since_us =
      edge.edge->linked() ? virtual_time::now_us() : edge.edge->unlinked_since_us();
  network_->cut(edge.name, "control");
  for (const auto& host : hosts_) network_->cut(host->name, edge.name);
  finish(edge.edge->stop());
  edge.edge.reset();
  edge.back_at_us = virtual_time::now_us() + kSecondUs * process_draws_.between(1, 90);
}

Async<Result<std::shared_ptr<link::Session>>> Region::connect_control(std::string name, uid_t uid) {
  if (!control_) co_return fail(Code::kUnavailable, "control is dead");
  auto pair = network_->connect(name, "control", uid);
  if (!pair) co_return fail(std::move(pair).error());
  control_->serve(pair->far);
  co_return pair->near;
}

Async<Result<std::shared_ptr<link::Session>>> Region::connect_host(std::string edge,
                                                                   std::string name) {
  const auto host =
      std::ranges::find_if(hosts_, [&](const auto& each) { return each->name == name; });
  if (host == hosts_.end() || !(*host)->agent)
    co_return fail(Code::kUnavailable, "{} is down", name);
  auto pair = network_->connect(edge, name, 1000);
  if (!pair) co_return fail(std::move(pair).error());
  (*host)->edges->spawn("host edge link", [agent = (*host)->agent.get(), far = pair->far] {
    return agent->serve_edge(far);
  });
  co_return pair->near;
}

// ---- requests ----

// Its service's tasks end one by one, after their requests: it is not paused or deleted.
bool Region::drains(const TaskId& task) const {
  const auto found = observed_->tasks().find(task);
  if (found == observed_->tasks().end()) return false;
  const auto* service = observed_->service(found->second.service);
  if (service == nullptr) return false;
  if (service->status == runner::ServiceStatus::kRunning) return true;
  const auto operation = observed_->operations().find(service->operation);
  return operation != observed_->operations().end() &&
         (operation->second.type == runner::OperationType::kStartDeployment ||
          operation->second.type == runner::OperationType::kUpdateService);
}

namespace {
class Held {
 public:
  explicit Held(int& count) : count_(count) { ++count_; }
  ~Held() { --count_; }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

 private:
  int& count_;
};
}  // namespace

void Region::check_places(size_t edge_index, const TaskId& task) {
  const int held = held_[{edge_index, task}];
  const EdgeProcess& edge = *edges_[edge_index];
  for (const link::Route& route : edge.edge->table().routes) {
    if (std::ranges::find(route.targets, task, &link::Target::task) == route.targets.end())
      continue;
    if (held < route.max_concurrency) continue;
    violate("an edge gives a task no more than its max concurrency",
            fmt::format("{} gives {} one more than {}", edge.name, task.value.substr(0, 8), held));
  }
}

Async<Served> Region::request(size_t edge_index, TaskId task, std::string address,
                              Duration service_time) {
  const auto find = [&]() -> std::pair<HostProcess*, std::shared_ptr<Machine::Container>> {
    for (const auto& host : hosts_) {
      for (const auto& [id, container] : host->machine->containers()) {
        if (container->address == address && container->runs()) return {host.get(), container};
      }
    }
    return {};
  };
  const auto [host, container] = find();
  const EdgeProcess& edge = *edges_[edge_index];
  check_places(edge_index, task);
  const Held held(held_[{edge_index, task}]);
  const int64_t now = virtual_time::now_us();
  // Control waits for an edge that is away for a minute, and a jump of its clock makes that less.
  const bool waited_for =
      edge.edge->unlinked_since_us() == 0 || now - edge.edge->unlinked_since_us() < 50 * kSecondUs;
  if (container && container->told_to_stop_us && now > *container->told_to_stop_us && waited_for &&
      faults_.clock_jump == 0 && drains(task)) {
    violate("no request is sent to a task that was told to stop",
            fmt::format("{} sent one to {} on {}", edge.name, task.value.substr(0, 8), host->name));
  }
  if (!container || now < container->listens_at_us || container->behaviour == Behaviour::kMute)
    co_return Served::kRefused;
  const auto cut_by_stop = [&](int64_t began_us) {
    // A drain has an end; a service that is paused or deleted does not wait; and a task that fell
    // ill is out of the routes before it is drained.
    const bool ill = faults_.power_cut + faults_.task_crash > 0 || faults_.probe_fail_percent > 0;
    const bool was_told = container->told_to_stop_us && *container->told_to_stop_us > began_us;
    if (was_told && waited_for && faults_.clock_jump == 0 && drains(task) && !healed_ &&
        faults_.control_crash == 0 && faults_.partition == 0 && !ill) {
      violate("a task ends after its requests",
              fmt::format("one of {} was cut off on {}", task.value.substr(0, 8), host->name));
    }
  };
  // A frozen process answers when it is thawed.
  const int64_t give_up_us = now + 120 * kSecondUs;
  while (container->frozen) {
    const bool sure =
        edge.edge->holds_link_to(host->name) &&
        now - edge.edge->host_linked_since_us(host->name) > kLinkFreshUs && host->agent &&
        now - host->up_since_us > kLinkFreshUs && !network_->parted(edge.name, host->name) &&
        now - network_->mended_us(edge.name, host->name) > kLinkFreshUs && faults_.clock_jump == 0;
    if (sure) {
      violate("no request is sent to a task that sleeps",
              fmt::format("{} sent one to {}", edge.name, task.value.substr(0, 8)));
    }
    co_await sleep_for(Duration(100));
    if (virtual_time::now_us() > give_up_us || !container->runs()) co_return Served::kCut;
  }
  const bool ended = co_await container->ended.wait_for(service_time);
  if (ended) {
    cut_by_stop(now);
    co_return Served::kCut;
  }
  co_return Served::kAnswered;
}

void Region::waited_in_vain(size_t edge_index, const std::vector<EdgePorts::Place>& places,
                            int limit) {
  const EdgeProcess& edge = *edges_[edge_index];
  const int64_t now = virtual_time::now_us();
  const auto host_of = [&](const TaskId& task) -> const HostProcess* {
    const auto placed = placed_.find(task);
    const auto host = std::ranges::find_if(hosts_, [&](const auto& each) {
      return placed != placed_.end() && each->name == placed->second;
    });
    return host == hosts_.end() ? nullptr : host->get();
  };
  const auto container_of = [&](const TaskId& task) -> const Machine::Container* {
    const HostProcess* host = host_of(task);
    if (host == nullptr) return nullptr;
    const auto found = host->machine->containers().find(task.value);
    const bool runs = found != host->machine->containers().end() && found->second->runs();
    return runs ? found->second.get() : nullptr;
  };
  const auto reached_for_us = [&](const HostProcess* host) {
    if (host == nullptr || !host->agent || network_->parted(edge.name, host->name))
      return int64_t{0};
    return now - std::max({host->up_since_us, edge.edge->host_linked_since_us(host->name),
                           network_->mended_us(edge.name, host->name)});
  };
  // An edge that has asked one host for a task does not ask another in its stead: it knows of one
  // host so far. So this is promised while all are there.
  const bool all_reached = std::ranges::all_of(places, [&](const auto& place) {
    return reached_for_us(host_of(place.target->task)) > kHostReachedUs;
  });
  const auto shown = [&] {
    std::string all;
    for (const auto& [target, ejected] : places) {
      const Machine::Container* container = container_of(target->task);
      all += fmt::format("; {} {}{}{}{}, {} in flight", target->task.value.substr(0, 8),
                         target->closed() ? "closed" : "open", ejected ? ", ejected" : "",
                         target->failing.load() ? ", failing" : "",
                         container == nullptr ? ", gone"
                         : container->frozen  ? ", frozen"
                                              : "",
                         target->in_flight());
    }
    return all;
  };
  for (const auto& [target, ejected] : places) {
    const Machine::Container* container = container_of(target->task);
    if (container == nullptr) continue;
    // Not one that woke at this very moment, its host having been away.
    const bool free = !target->closed() && !ejected && target->in_flight() < limit &&
                      reached_for_us(host_of(target->task)) > kLinkFreshUs;
    const bool could_wake =
        target->closed() && container->frozen && all_reached && faults_.freeze_fail_percent == 0;
    if (free || could_wake) {
      violate("a request is answered where it has a place to go",
              fmt::format("{} let one wait while {} was {}{}", edge.name,
                          target->task.value.substr(0, 8), free ? "free" : "asleep", shown()));
    }
  }
}

Async<> Region::visit(size_t index) {
  // Bursts and lulls.
  for (;;) {
    const bool busy = visitor_draws_.chance(60);
    const int gap_ms = busy ? 20 + visitor_draws_.below(600) : 5'000;
    const int64_t until = virtual_time::now_us() + kSecondUs * visitor_draws_.between(2, 40);
    const bool long_ones = visitor_draws_.chance(10);
    while (virtual_time::now_us() < until) {
      co_await sleep_for(Duration(1 + visitor_draws_.below(2 * gap_ms)));
      if (!busy || clients_.empty() || !operating_) continue;
      const size_t which = visitor_draws_.bits() % clients_.size();
      const int time_ms = 5 + visitor_draws_.below(long_ones ? 15'000 : 800);
      SimEdge* edge = edges_[index]->edge.get();
      if (edge == nullptr || clients_[which].host_name.empty()) continue;
      ++totals_.requests;
      Ask ask{.host_name = clients_[which].host_name,
              .service_time = Duration(time_ms),
              .idempotent = visitor_draws_.chance(70)};
      auto& cookie =
          clients_[which].cookies[visitor_draws_.bits() % clients_[which].cookies.size()];
      if (cookie == nullptr) cookie = std::make_shared<Cookie>();
      ask.cookie = cookie;
      edge->send(ask, [this](Visit visit) {
        if (visit == Visit::kAnswered) ++totals_.answered;
      });
    }
  }
}

// ---- faults ----

void Region::fault_second() {
  const auto strikes = [&](int per_mille) { return fault_draws_.below(1'000) < per_mille; };
  const int64_t now = virtual_time::now_us();
  if (control_ && strikes(faults_.control_crash)) crash_control();
  if (!control_ && now >= control_back_at_us_) start_control();
  if (strikes(faults_.clock_jump)) {
    const Duration by{1'000 * fault_draws_.between(-180, 180)};
    const int which = fault_draws_.below(static_cast<int>(hosts_.size()) + 1);
    SimClock& clock = which == 0 ? control_clock_ : hosts_[static_cast<size_t>(which - 1)]->clock;
    clock.offset += by;
    note(fmt::format("the clock of {} jumps by {} s",
                     which == 0 ? "control" : hosts_[static_cast<size_t>(which - 1)]->name,
                     by.count() / 1000));
  }
  for (const auto& host : hosts_) {
    if (host->agent && strikes(faults_.agent_crash)) crash_agent(*host);
    if (strikes(faults_.power_cut)) {
      if (host->agent) crash_agent(*host);
      note(host->name + " loses power");
      host->machine->power_cut();
    }
    if (!host->agent && now >= host->back_at_us) start_host(*host);
    if (options_.mutation == Mutation::kEndTask && fault_draws_.chance(5)) {
      for (const auto& [task, container] : host->machine->containers()) host->machine->end(task, 1);
    }
    if (strikes(faults_.task_crash) && !host->machine->containers().empty()) {
      const auto& containers = host->machine->containers();
      const auto victim =
          std::next(containers.begin(), fault_draws_.below(static_cast<int>(containers.size())));
      note(fmt::format("task {} crashes", victim->first.substr(0, 8)));
      host->machine->end(victim->first, 1);
    }
  }
  for (const auto& edge : edges_) {
    if (edge->edge && strikes(faults_.edge_crash)) crash_edge(*edge);
    if (!edge->edge && now >= edge->back_at_us) start_edge(*edge);
  }
  std::vector<std::pair<std::string, std::string>> ways;
  for (const auto& host : hosts_) {
    ways.emplace_back(host->name, "control");
    for (const auto& edge : edges_) ways.emplace_back(edge->name, host->name);
  }
  for (const auto& edge : edges_) ways.emplace_back(edge->name, "control");
  for (const auto& [one, other] : ways) {
    if (network_->parted(one, other)) {
      if (fault_draws_.chance(3)) {
        note(fmt::format("{} and {} hear each other again", one, other));
        network_->mend(one, other);
      }
    } else if (strikes(faults_.partition / 2)) {
      note(fmt::format("{} and {} are parted", one, other));
      network_->part(one, other);
    }
    if (strikes(faults_.cut / 2)) {
      note(fmt::format("the link of {} and {} breaks", one, other));
      network_->cut(one, other);
    }
  }
}

void Region::heal() {
  note("faults end");
  healed_ = true;
  operating_ = false;
  network_->mend_all();
  store_->set_disk({.lose_commits = options_.mutation == Mutation::kLoseCommit});
  if (!control_) start_control();
  for (const auto& host : hosts_) {
    host->machine->set_faults(machine_faults());
    if (!host->agent) start_host(*host);
  }
  for (const auto& edge : edges_) {
    if (!edge->edge) start_edge(*edge);
  }
}

// ---- the run ----

std::optional<Violation> Region::run() {
  start_control();
  for (const auto& host : hosts_) start_host(*host);
  for (const auto& edge : edges_) start_edge(*edge);
  scope_->spawn("operators", [this] { return operate(); });
  for (size_t i = 0; i < edges_.size(); ++i)
    scope_->spawn("visitors", [this, i] { return visit(i); });
  for (int second = 0; second < options_.minutes * 60 && !violation_; ++second) {
    step_to(virtual_time::now_us() + kSecondUs);
    if (!violation_) fault_second();
  }
  if (!violation_) heal();
  if (wait_until(&Region::not_quiet)) {
    if (auto lost = no_acknowledged_update_is_lost(*this)) violate(lost->invariant, lost->what);
    note("settled");
  }
  if (!violation_) {
    scope_->spawn("delete all", [this] { return delete_all(); });
    if (wait_until(&Region::not_gone)) note("all gone");
  }
  totals_.virtual_ms = (virtual_time::now_us() - kStartUs) / 1'000;
  checking_ = false;
  // In the order in which they hang on one another; a run that failed ends here, too.
  const std::optional<Violation> found = violation_;
  violation_.reset();
  scope_->cancel();
  if (control_) {
    store_->crash();
    finish_all(control_->stop());
    control_.reset();
  }
  for (const auto& edge : edges_) {
    if (edge->edge) finish_all(edge->edge->stop());
    edge->edge.reset();
  }
  for (const auto& host : hosts_) {
    if (!host->agent) continue;
    finish_all([](HostProcess& mine) -> Async<> {
      mine.edges->cancel();
      co_await mine.edges->join();
      co_await mine.agent->stop(host::Agent::Tasks::kLeave);
    }(*host));
    host->agent.reset();
    host->edges.reset();
  }
  finish_all(observed_->stop());
  finish_all(store_->stop());
  finish_all(scope_->join());
  observed_.reset();
  return found;
}

// As finish(), when the scope has ended.
void Region::finish_all(Async<> work) {
  AsyncScope scope(executor_);
  scope.spawn("end", std::move(work));
  settle();
  HOB_ASSERT(scope.size() == 0);
}

bool Region::wait_until(std::optional<Violation> (Region::*why_not)() const) {
  if (violation_) return false;
  const int64_t limit = virtual_time::now_us() + std::chrono::microseconds(kSettleMax).count();
  while (!violation_) {
    const auto missing = (this->*why_not)();
    if (!missing) return true;
    if (virtual_time::now_us() > limit)
      violate(missing->invariant, missing->what);
    else
      step_to(virtual_time::now_us() + kSecondUs);
  }
  return false;
}

void Region::check() {
  if (!checking_) return;
  for (const auto& host : hosts_) {
    for (const std::string& task : host->machine->networks()) placed_[TaskId{task}] = host->name;
  }
  const auto look = [&](const std::optional<Violation>& found) {
    if (found) violate(found->invariant, found->what);
  };
  for (const auto invariant : {no_task_on_two_hosts, no_two_tasks_with_one_address,
                               sizes_are_within_their_limits, no_acknowledged_record_is_lost})
    look(invariant(*this));
  for (const auto invariant : {rollouts_keep_what_is_promised, paused_services_have_no_tasks})
    look(invariant(*this));
}

}  // namespace hob::sim
