#include <algorithm>

#include "base/record.h"
#include "guest/protocol.h"

namespace hob::guest {

BOOST_DESCRIBE_ENUM(Condition, kStart, kComplete, kSuccess, kHealthy)
BOOST_DESCRIBE_STRUCT(Dependency, (), (container, condition))
BOOST_DESCRIBE_STRUCT(HealthCheck, (),
                      (command, interval_seconds, timeout_seconds, retries, start_period_seconds))
BOOST_DESCRIBE_STRUCT(Container, (),
                      (name, image_device, arguments, environment, user, working_directory,
                       memory_bytes, cpu, processes_max, open_files_max, depends_on, health))
BOOST_DESCRIBE_STRUCT(Network, (), (address, prefix_length, gateway))
BOOST_DESCRIBE_STRUCT(Start, (),
                      (host_name, hosts, name_servers, scratch_device, network, clock_nanoseconds,
                       containers))
BOOST_DESCRIBE_STRUCT(Signal, (), (container, number))
BOOST_DESCRIBE_STRUCT(Execute, (), (container, arguments, terminal, rows, columns))
BOOST_DESCRIBE_STRUCT(WindowSize, (), (rows, columns))
BOOST_DESCRIBE_STRUCT(Order, (), (start, signal, execute, window, clock_nanoseconds))
BOOST_DESCRIBE_ENUM(Event, kStarted, kFailed, kExited, kHealthy, kUnhealthy, kDone)
BOOST_DESCRIBE_STRUCT(Report, (), (event, container, exit_code, out_of_memory, invalid, reason))

std::string encode(const Order& order) { return record::encode(order); }

std::string encode(const Report& report) {
  Report bounded = report;
  // A control character takes six bytes of JSON.
  bounded.reason.resize(std::min(bounded.reason.size(), kReportBytesMax / 8));
  // What is left of a character cut in two, or was none, no reader would take.
  for (char& c : bounded.reason) {
    if (static_cast<unsigned char>(c) >= 0x80) c = '?';
  }
  return record::encode(bounded);
}

Result<Order> decode_order(std::string_view text) {
  if (text.size() > kOrderBytesMax)
    return fail(Code::kInvalid, "an order of over {} bytes", kOrderBytesMax);
  HOB_TRY(Order order, record::decode<Order>(text));
  const int given = order.start.has_value() + order.signal.has_value() + order.execute.has_value() +
                    order.window.has_value() + order.clock_nanoseconds.has_value();
  if (given != 1) return fail(Code::kInvalid, "an order says one thing; this one {}", given);
  if (order.start &&
      (order.start->containers.empty() || order.start->containers.size() > kContainersMax))
    return fail(Code::kInvalid, "{} containers; 1 to {}", order.start->containers.size(),
                kContainersMax);
  return order;
}

Result<Report> decode_report(std::string_view text) {
  if (text.size() > kReportBytesMax)
    return fail(Code::kInvalid, "a report of over {} bytes", kReportBytesMax);
  HOB_TRY(Report report, record::decode<Report>(text));
  if (report.container < 0 || static_cast<size_t>(report.container) >= kContainersMax)
    return fail(Code::kInvalid, "container {} of at most {}", report.container, kContainersMax);
  if (report.exit_code < 0 || report.exit_code > 255)
    return fail(Code::kInvalid, "an exit code of {}", report.exit_code);
  report.reason.resize(std::min(report.reason.size(), kReasonBytesMax));
  return report;
}

}  // namespace hob::guest
