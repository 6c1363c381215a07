// The log, and the metrics: their operations, and what goes into them.
#include <fmt/core.h>

#include <algorithm>

#include "microvm/api/answers.h"
#include "microvm/api/api.h"

namespace hob::microvm {
namespace {

constexpr std::string_view kThread = "fc_api";  // as Firecracker's lines name who answers

int64_t utc_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::vector<Counter> counters_of(const Block::Counts& c) {
  return {{"activate_fails"},
          {"cfg_fails"},
          {"no_avail_buffer"},
          {"event_fails"},
          {"execute_fails", c.failures},
          {"invalid_reqs_count"},
          {"flush_count", c.flushes},
          {"queue_event_count", c.notices},
          {"rate_limiter_event_count", c.timer_events},
          {"update_count", c.updates},
          {"update_fails"},
          {"read_bytes", c.read_bytes},
          {"write_bytes", c.write_bytes},
          {"read_count", c.reads},
          {"write_count", c.writes},
          {"rate_limiter_throttled_events", c.throttled},
          {"io_engine_throttled_events"},
          {"remaining_reqs_count"}};
}

std::vector<Counter> counters_of(const Net::Counts& c) {
  return {{"activate_fails"},
          {"cfg_fails"},
          {"no_rx_avail_buffer", c.no_receive_buffers},
          {"no_tx_avail_buffer"},
          {"event_fails"},
          {"rx_queue_event_count", c.receive_notices},
          {"rx_event_rate_limiter_count", c.timer_events},
          {"rx_rate_limiter_throttled", c.receive_throttled},
          {"rx_tap_event_count", c.tap_events},
          {"rx_bytes_count", c.received_bytes},
          {"rx_packets_count", c.received_frames},
          {"rx_fails", c.receive_failures},
          {"rx_count", c.received_frames},
          {"tap_read_fails"},
          {"tap_write_fails", c.send_failures},
          {"tx_bytes_count", c.sent_bytes},
          {"tx_malformed_frames", c.malformed},
          {"tx_fails", c.send_failures},
          {"tx_count", c.sent_frames},
          {"tx_packets_count", c.sent_frames},
          {"tx_queue_event_count", c.send_notices},
          {"tx_rate_limiter_event_count", c.timer_events},
          {"tx_rate_limiter_throttled", c.send_throttled},
          {"tx_spoofed_mac_count", c.foreign_mac},
          {"tx_remaining_reqs_count", c.send_waits}};
}

std::vector<Counter> counters_of(const Pmem::Counts& c) {
  return {{"activate_fails"},
          {"cfg_fails"},
          {"event_fails", c.failures},
          {"queue_event_count", c.flushes + c.failures},
          {"rate_limiter_throttled_events", c.throttled},
          {"rate_limiter_event_count", c.timer_events}};
}

// One group for each device, and one with their sums.
template <class Named>
void append_devices(std::vector<CounterGroup>& groups, const std::string& kind,
                    const std::vector<Named>& devices) {
  CounterGroup sum{.name = kind, .counters = counters_of(decltype(Named::counts)())};
  std::vector<CounterGroup> each;
  for (const Named& device : devices) {
    each.push_back({.name = kind + "_" + device.id, .counters = counters_of(device.counts)});
    for (size_t i = 0; i < sum.counters.size(); ++i)
      sum.counters[i].value += each.back().counters[i].value;
  }
  groups.push_back(std::move(sum));
  std::ranges::move(each, std::back_inserter(groups));
}

CounterGroup mmds_counters(const std::vector<const MetadataStack*>& stacks,
                           const Metadata* metadata) {
  StackCounts sum;
  for (const MetadataStack* stack : stacks) {
    const StackCounts& counts = stack->counts();
    sum.accepted += counts.accepted;
    sum.unusual += counts.unusual;
    sum.bad += counts.bad;
    sum.frames_sent += counts.frames_sent;
    sum.bytes_sent += counts.bytes_sent;
    sum.connections_created += counts.connections_created;
    sum.connections_destroyed += counts.connections_destroyed;
  }
  const Metadata::Counts tokens = metadata != nullptr ? metadata->counts : Metadata::Counts();
  return {.name = "mmds",
          .counters = {{"rx_accepted", sum.accepted},
                       {"rx_accepted_err", sum.bad},
                       {"rx_accepted_unusual", sum.unusual},
                       {"rx_bad_eth"},
                       {"rx_invalid_token", tokens.invalid_token},
                       {"rx_no_token", tokens.no_token},
                       {"rx_count", sum.accepted},
                       {"tx_bytes", sum.bytes_sent},
                       {"tx_count", sum.frames_sent},
                       {"tx_errors"},
                       {"tx_frames", sum.frames_sent},
                       {"connections_created", sum.connections_created},
                       {"connections_destroyed", sum.connections_destroyed}}};
}

}  // namespace

std::vector<MicrovmApi::RequestCount> MicrovmApi::no_requests() {
  std::vector<RequestCount> requests;
  for (const auto& [path, name] :
       std::initializer_list<std::pair<std::string_view, std::string_view>>{
           {"/actions", "actions"},
           {"/boot-source", "boot_source"},
           {"/drives", "drive"},
           {"/logger", "logger"},
           {"/machine-config", "machine_cfg"},
           {"/cpu-config", "cpu_cfg"},
           {"/metrics", "metrics"},
           {"/network-interfaces", "network"},
           {"/mmds", "mmds"},
           {"/vsock", "vsock"},
           {"/pmem", "pmem"},
           {"/serial", "serial"},
           {"/hotplug/memory", "hotplug_memory"}})
    requests.push_back({.method = "PUT", .path = path, .name = name});
  for (const auto& [path, name] :
       std::initializer_list<std::pair<std::string_view, std::string_view>>{
           {"/drives", "drive"},
           {"/network-interfaces", "network"},
           {"/machine-config", "machine_cfg"},
           {"/mmds", "mmds"},
           {"/hotplug/memory", "hotplug_memory"}})
    requests.push_back({.method = "PATCH", .path = path, .name = name});
  for (const auto& [path, name] :
       std::initializer_list<std::pair<std::string_view, std::string_view>>{
           {"/machine-config", "machine_cfg"},
           {"/mmds", "mmds"},
           {"/version", "vmm_version"},
           {"/hotplug/memory", "hotplug_memory"},
           {"/", "instance_info"}})
    requests.push_back({.method = "GET", .path = path, .name = name});
  return requests;
}

void MicrovmApi::count_request(const HttpRequest& request, bool failed) {
  const auto found = std::ranges::find_if(requests_, [&](const RequestCount& one) {
    if (one.method != request.method || !request.path.starts_with(one.path)) return false;
    return request.path.size() == one.path.size() || request.path[one.path.size()] == '/';
  });
  if (found == requests_.end()) return;
  ++found->count;
  if (failed) ++found->failures;
}

std::vector<CounterGroup> MicrovmApi::counter_groups() const {
  const Machine::Counts counts = machine_ ? machine_->counts() : Machine::Counts();
  const auto requests = [&](std::string_view method, std::string name, bool failures) {
    CounterGroup group{.name = std::move(name)};
    for (const RequestCount& one : requests_) {
      if (one.method != method) continue;
      group.counters.push_back({fmt::format("{}_count", one.name), one.count});
      if (failures) group.counters.push_back({fmt::format("{}_fails", one.name), one.failures});
    }
    return group;
  };
  const auto took = [](std::string name, std::chrono::microseconds time) {
    return Counter{std::move(name), static_cast<uint64_t>(time.count()), true};
  };
  std::vector<CounterGroup> groups;
  groups.push_back({"balloon",
                    {{"activate_fails"},
                     {"inflate_count", counts.balloon.inflations},
                     {"stats_updates_count", counts.balloon.statistics},
                     {"stats_update_fails"},
                     {"deflate_count", counts.balloon.deflations},
                     {"event_fails", counts.balloon.failures},
                     {"free_page_report_count", counts.balloon.reports},
                     {"free_page_report_freed", counts.balloon.reported_bytes},
                     {"free_page_report_fails"},
                     {"free_page_hint_count", counts.balloon.hints},
                     {"free_page_hint_freed", counts.balloon.hinted_bytes},
                     {"free_page_hint_fails"}}});
  append_devices(groups, "block", counts.drives);
  groups.push_back({"deprecated_api", {{"deprecated_http_api_calls", deprecated_requests_}}});
  groups.push_back({"entropy",
                    {{"activate_fails"},
                     {"entropy_event_fails", counts.entropy.failures},
                     {"entropy_event_count", counts.entropy.requests},
                     {"entropy_bytes", counts.entropy.bytes},
                     {"host_rng_fails"},
                     {"entropy_rate_limiter_throttled", counts.entropy.throttled},
                     {"rate_limiter_event_count", counts.entropy.timer_events}}});
  groups.push_back(requests("GET", "get_api_requests", false));
  groups.push_back({"i8042",
                    {{"error_count"},
                     {"missed_read_count"},
                     {"missed_write_count"},
                     {"read_count", counts.keyboard.reads},
                     {"reset_count", counts.keyboard.resets},
                     {"write_count", counts.keyboard.writes}}});
  groups.push_back(
      {"interrupts",
       {{"triggers", counts.interrupts}, {"config_updates", counts.configuration_changes}}});
  groups.push_back(
      {"latencies_us",
       {took("full_create_snapshot", took_.full_snapshot),
        took("diff_create_snapshot", took_.diff_snapshot), took("load_snapshot", took_.load),
        took("pause_vm", took_.pause), took("resume_vm", took_.resume)}});
  groups.push_back({"logger",
                    {{"missed_metrics_count", metrics_.missed()},
                     {"metrics_fails"},
                     {"missed_log_count", logger_.missed()}}});
  groups.push_back({"memory_hotplug",
                    {{"activate_fails"},
                     {"queue_event_fails", counts.hot_plug.refused},
                     {"plug_count", counts.hot_plug.plugs},
                     {"unplug_count", counts.hot_plug.unplugs},
                     {"unplug_all_count", counts.hot_plug.unplugs_of_all},
                     {"state_count", counts.hot_plug.looks}}});
  groups.push_back(mmds_counters(stacks_, metadata_.get()));
  append_devices(groups, "net", counts.interfaces);
  groups.push_back(requests("PATCH", "patch_api_requests", true));
  append_devices(groups, "pmem", counts.pmems);
  groups.push_back(requests("PUT", "put_api_requests", true));
  groups.push_back({"uart",
                    {{"error_count"},
                     {"flush_count"},
                     {"missed_read_count", counts.serial.missed_reads},
                     {"missed_write_count", counts.serial.missed_writes},
                     {"read_count", counts.serial.reads},
                     {"write_count", counts.serial.writes}}});
  groups.push_back({"vcpu",
                    {{"exit_io_in", counts.exits.port_reads},
                     {"exit_io_out", counts.exits.port_writes},
                     {"exit_mmio_read", counts.exits.mmio_reads},
                     {"exit_mmio_write", counts.exits.mmio_writes},
                     {"failures"}}});
  groups.push_back({"vmm", {{"panic_count", 0, true}}});
  groups.push_back({"vsock",
                    {{"activate_fails"},
                     {"cfg_fails"},
                     {"rx_queue_event_fails"},
                     {"tx_queue_event_fails"},
                     {"ev_queue_event_fails"},
                     {"muxer_event_fails"},
                     {"conn_event_fails"},
                     {"rx_queue_event_count", counts.vsock.notices[0]},
                     {"tx_queue_event_count", counts.vsock.notices[1]},
                     {"rx_bytes_count", counts.vsock.received_bytes},
                     {"tx_bytes_count", counts.vsock.sent_bytes},
                     {"rx_packets_count", counts.vsock.received_packets},
                     {"tx_packets_count", counts.vsock.sent_packets},
                     {"conns_added", counts.vsock.begun},
                     {"conns_killed", counts.vsock.reset},
                     {"conns_removed", counts.vsock.ended},
                     {"killq_resync"},
                     {"tx_flush_fails"},
                     {"tx_write_fails"},
                     {"rx_read_fails"}}});
  return groups;
}

void MicrovmApi::write_metrics() {
  if (metrics_.started()) metrics_.write(counter_groups(), utc_ms());
}

Result<void> MicrovmApi::start_metrics(MetricsOptions options) {
  return metrics_.start(std::move(options));
}

Result<void> MicrovmApi::write_metrics_regularly() {
  if (!metrics_.started()) return {};
  write_metrics();
  HOB_TRY(Timer timer, Timer::create());
  metrics_timer_ = std::make_unique<Timer>(std::move(timer));
  metrics_timer_->arm(std::chrono::steady_clock::now() + kMetricsEvery);
  return loop_.watch(metrics_timer_->fd(), EPOLLIN, [this](uint32_t) {
    metrics_timer_->arm(std::chrono::steady_clock::now() + kMetricsEvery);
    // While it is paused nothing is counted, and nothing told.
    if (machine_->running()) write_metrics();
  });
}

MicrovmApi::Answer MicrovmApi::put_logger(const HttpRequest&, const Json& body) {
  HOB_TRY(const LoggerUpdate update, body_of(read_logger(body)));
  HOB_CHECK(prefixed(logger_.update(update), "Logger error"));
  return done();
}

MicrovmApi::Answer MicrovmApi::put_metrics(const HttpRequest&, const Json& body) {
  HOB_TRY(MetricsOptions options, body_of(read_metrics(body)));
  HOB_CHECK(prefixed(start_metrics(std::move(options)), "Metrics error"));
  return done();
}

void MicrovmApi::log_request(const HttpRequest& request) {
  if (!logger_.writes(LogLevel::kInfo)) return;
  // What the guest is told is the client's own affair.
  const bool secret = request.path == "/mmds" ||
                      (request.path == "/cpu-config" && !logger_.writes(LogLevel::kDebug));
  std::string method = request.method;
  std::ranges::transform(method.begin() + 1, method.end(), method.begin() + 1,
                         [](char c) { return static_cast<char>(c | 0x20); });
  std::string text =
      fmt::format("The API server received a {} request on \"{}\"", method, request.path);
  if (request.body && !secret) text += fmt::format(" with body \"{}\"", *request.body);
  logger_.log(LogLevel::kInfo, kThread, text + ".");
}

void MicrovmApi::log_outcome(const HttpResponse& response) {
  if (response.status < 400) {
    logger_.log(LogLevel::kInfo, kThread,
                fmt::format("The request was executed successfully. Status code: {}.",
                            response.status == 204 ? "204 No Content" : "200 OK"));
    return;
  }
  logger_.log(LogLevel::kError, kThread,
              fmt::format("Received Error. Status code: {}. Message: {}",
                          response.status == 413 ? "413 Payload Too Large" : "400 Bad Request",
                          response.body));
}

}  // namespace hob::microvm
