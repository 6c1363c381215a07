// A whole region in one thread under virtual time: the real control (runner, cluster), real host
// agents, edges with the real balancer and awake controller, over simulated machines, links and
// disks, with operators and visitors. A seed draws everything.
//
// Phase one: operations, requests and faults at will, invariants after every step. Phase two:
// faults end, everything must settle within kSettleMax. Phase three: every service is deleted, and
// nothing may be left. Needs clock/virtual_time.cc; one region at a time.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/async.h"
#include "base/metrics.h"
#include "host/agent.h"
#include "sim/control_process.h"
#include "sim/faults.h"
#include "sim/machine.h"
#include "sim/observed.h"
#include "sim/sim_edge.h"
#include "sim/sim_link.h"
#include "sim/sim_store.h"

namespace hob::sim {

inline constexpr Duration kSettleMax = std::chrono::minutes(150);

struct RegionOptions {
  uint64_t seed = 1;
  std::set<std::string> without{};  // kinds of faults
  int minutes = 0;                  // of phase one; 0: drawn
  bool trace = false;               // print what happens while it does
  Mutation mutation = Mutation::kNone;
  // Not empty: other invariants may break, as what follows from a bug put in on purpose.
  std::string only{};
  std::filesystem::path directory{};  // for host agents' and logs' files; emptied
};

struct Violation {
  std::string invariant{};
  std::string what{};
};

struct HostProcess {
  std::string name{};
  HostId id{};
  SimClock clock{};
  host::Machine capacity{};
  std::unique_ptr<Machine> machine{};
  std::filesystem::path directory{};
  std::unique_ptr<Metrics> metrics{};
  std::unique_ptr<host::Agent> agent{};  // nullptr: crashed
  std::unique_ptr<AsyncScope> edges{};   // the links it serves
  int64_t up_since_us = 0;
  int64_t back_at_us = 0;
};

struct EdgeProcess {
  std::string name{};
  EdgeId id{};
  EdgeDisk disk{};
  std::unique_ptr<SimEdge> edge{};  // nullptr: crashed
  int64_t unlinked_since_us = 0;    // to control, when it crashed
  int64_t back_at_us = 0;
};

// What a client was told about a service.
struct ClientService {
  std::string arn{};
  std::string id{};
  std::string host_name{};
  std::vector<std::string> operations{};  // acknowledged
  std::string last_operation{};
  int last_value = 0;         // that the last acknowledged update set
  std::string last_update{};  // its operation
  std::string image{};
  std::array<std::shared_ptr<Cookie>, 4> cookies{};  // of its visitors
  bool delete_asked = false;                         // acknowledged or not
  bool delete_acknowledged = false;
};

class Region {
 public:
  explicit Region(RegionOptions options);
  ~Region();
  std::optional<Violation> run();
  // Of everything that happened: the same seed gives the same.
  uint64_t trace_hash() const { return hash_; }
  const std::vector<std::string>& trace() const { return trace_; }
  struct Totals {
    int operations = 0, requests = 0, answered = 0, crashes = 0, steps = 0;
    int64_t virtual_ms = 0;
  };
  const Totals& totals() const { return totals_; }

  // What invariants look at.
  const std::vector<std::unique_ptr<HostProcess>>& hosts() const { return hosts_; }
  const std::vector<std::unique_ptr<EdgeProcess>>& edges() const { return edges_; }
  const Observed& observed() const { return *observed_; }
  const std::vector<ClientService>& clients() const { return clients_; }
  const Faults& faults() const { return faults_; }
  const Network& network() const { return *network_; }
  bool control_up() const { return control_ != nullptr; }
  bool is_settled_phase() const { return healed_; }
  // What invariants over time remember, by service.
  std::map<std::string, int>& floors() { return floors_; }
  std::map<std::string, int64_t>& paused_since_us() { return paused_since_us_; }

 private:
  void note(std::string text);
  void violate(std::string invariant, std::string what);
  void step_to(int64_t at_us);
  void settle();
  void finish(Async<> work);
  void finish_all(Async<> work);
  void check();

  void make_region();
  void start_control();
  void crash_control();
  void start_host(HostProcess& host);
  void crash_agent(HostProcess& host);
  void start_edge(EdgeProcess& edge);
  void crash_edge(EdgeProcess& edge);
  void fault_second();
  void heal();
  // Why it is not so yet; nullopt: it is.
  std::optional<Violation> not_quiet() const;
  std::optional<Violation> not_gone() const;
  bool wait_until(std::optional<Violation> (Region::*why_not)() const);
  MachineFaults machine_faults() const;
  Async<> visit(size_t edge);
  Async<Result<std::shared_ptr<link::Session>>> connect_control(std::string name, uid_t uid);
  Async<Result<std::shared_ptr<link::Session>>> connect_host(std::string edge, std::string host);
  Async<Served> request(size_t edge, TaskId task, std::string address, Duration service_time);
  bool drains(const TaskId& task) const;
  // One more request of the edge for the task.
  void check_places(size_t edge, const TaskId& task);
  void waited_in_vain(size_t edge, const std::vector<EdgePorts::Place>& places, int limit);

  // In operator.cc.
  template <class T>
  Async<std::optional<Result<T>>> call(std::function<Async<Result<T>>(runner::Api&)> ask);
  template <class Response>
  void acknowledged(size_t which, const char* name, const std::optional<Result<Response>>& answer,
                    const std::string& operation);
  Behaviour draw_behaviour();
  Async<> operate();
  Async<> operate_once(size_t which);
  Async<> make_scalings();
  Async<> create(size_t which);
  Async<> update(size_t which);
  Async<> remove(size_t which);
  Async<> delete_all();

  RegionOptions options_;
  SeededRandom topology_, fault_draws_, store_draws_, link_draws_, machine_draws_, edge_draws_,
      operator_draws_, visitor_draws_, process_draws_;
  Faults faults_;
  std::unique_ptr<boost::asio::io_context> loop_;
  Executor executor_;
  std::unique_ptr<BlockingPool> pool_;  // without threads: settle() runs what is given to it
  std::unique_ptr<SimStore> store_;
  std::unique_ptr<Network> network_;
  std::unique_ptr<Registry> registry_;
  std::unique_ptr<Observed> observed_;
  std::unique_ptr<AsyncScope> scope_;
  SimClock control_clock_;
  std::unique_ptr<ControlProcess> control_;
  int64_t control_back_at_us_ = 0;
  std::vector<std::unique_ptr<HostProcess>> hosts_;
  std::vector<std::unique_ptr<EdgeProcess>> edges_;
  std::vector<ClientService> clients_;
  std::map<TaskId, std::string> placed_;           // which host was seen to have it
  std::map<std::pair<size_t, TaskId>, int> held_;  // requests, by edge
  std::map<std::string, int> floors_;              // that serve, see rollouts_keep_what_is_promised
  std::map<std::string, int64_t> paused_since_us_;
  std::vector<std::string> scalings_;  // ARNs
  int images_pushed_ = 0;
  int values_ = 0;  // given to updates, each once
  bool healed_ = false;
  bool operating_ = true;
  bool checking_ = true;
  std::optional<Violation> violation_;
  std::vector<std::string> trace_;
  uint64_t hash_ = 1469598103934665603u;
  Totals totals_;
};

// Named functions over the region, a sentence each; in invariants.cc.
std::optional<Violation> no_task_on_two_hosts(const Region& region);
std::optional<Violation> no_two_tasks_with_one_address(const Region& region);
std::optional<Violation> paused_services_have_no_tasks(Region& region);
std::optional<Violation> sizes_are_within_their_limits(const Region& region);
std::optional<Violation> rollouts_keep_what_is_promised(Region& region);
std::optional<Violation> no_acknowledged_record_is_lost(const Region& region);
std::optional<Violation> no_acknowledged_update_is_lost(const Region& region);

}  // namespace hob::sim
