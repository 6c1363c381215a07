// What a host and the init of its microVM (hob-guest) say to each other, over vsock.
//
// The guest connects to port kReportPort of the host and is told there what to run (`Start`); it
// answers with output and reports, until the host closes the connection: then it ends all and shuts
// down. The host connects to port kOrderPort of the guest for what comes later: a connection each
// for a signal, a command to execute, the clock; answered with a `Report` and closed.
//
// Frames (frame.h) carry records, or bytes of a stream. A guest is not trusted by its host: all
// that it sends is bounded here, and a record says what happened, never what to do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace hob::guest {

inline constexpr uint32_t kReportPort = 1024;  // of the host
inline constexpr uint32_t kOrderPort = 1024;   // of the guest
inline constexpr uint64_t kGuestCid = 3;       // every microVM has a host's socket of its own

inline constexpr size_t kContainersMax = 16;               // of one microVM
inline constexpr size_t kOrderBytesMax = 4 * 1024 * 1024;  // of one record to the guest
inline constexpr size_t kReportBytesMax = 64 * 1024;       // of one record to the host
inline constexpr size_t kDataBytesMax = 32 * 1024;         // of a stream, in one frame
inline constexpr size_t kReasonBytesMax = 16 * 1024;       // of a report's text

enum class Condition { kStart, kComplete, kSuccess, kHealthy };  // ECS's ContainerDependency
struct Dependency {
  std::string container{};
  Condition condition = Condition::kStart;
};

// ECS's HealthCheck: the command's exit code says whether it is well.
struct HealthCheck {
  std::vector<std::string> command{};
  int interval_seconds = 30;
  int timeout_seconds = 5;
  int retries = 3;
  int start_period_seconds = 0;
};

struct Container {
  std::string name{};
  std::string image_device{};  // "vdb": an EROFS of the image's files
  std::vector<std::string> arguments{};
  std::vector<std::string> environment{};  // "K=V"; HOME is added where it is missing
  std::string user{};                      // as an image says: "", "1000", "www-data:staff"
  std::string working_directory{};         // empty: /
  int64_t memory_bytes = 0;                // 0: no limit but the microVM's
  int cpu = 0;                             // 1/1024 CPU; 0: no limit
  int processes_max = 0;                   // 0: no limit
  int open_files_max = 1024;
  std::vector<Dependency> depends_on{};
  std::optional<HealthCheck> health{};
};

struct Network {
  std::string address{};  // IPv4
  int prefix_length = 0;
  std::string gateway{};
};

struct Start {
  std::string host_name{};
  std::string hosts{};           // the text of /etc/hosts
  std::string name_servers{};    // of /etc/resolv.conf
  std::string scratch_device{};  // "vda": an ext4 for what containers write
  std::optional<Network> network{};
  int64_t clock_nanoseconds = 0;  // since 1970
  std::vector<Container> containers{};
};

struct Signal {
  int container = 0;
  int number = 0;
};

struct Execute {
  int container = 0;
  std::vector<std::string> arguments{};
  bool terminal = false;
  int rows = 24, columns = 80;
};

struct WindowSize {
  int rows = 0, columns = 0;
};

// One of them.
struct Order {
  std::optional<Start> start{};
  std::optional<Signal> signal{};
  std::optional<Execute> execute{};
  std::optional<WindowSize> window{};          // of an executed command's terminal
  std::optional<int64_t> clock_nanoseconds{};  // after a resume
};

enum class Event {
  kStarted,  // a container's program was executed
  kFailed,   // a container, or an order, could not be started: `reason`
  kExited,   // all of a container has ended
  kHealthy,  // its health check says so, the first time or again
  kUnhealthy,
  kDone,  // an order was carried out
};
struct Report {
  Event event = Event::kDone;
  int container = 0;
  int exit_code = 0;  // 128 + signal when killed
  bool out_of_memory = false;
  bool invalid = false;  // of kFailed: the image's or the task's fault, not the machine's
  std::string reason{};
};

std::string encode(const Order& order);
std::string encode(const Report& report);
// kInvalid, kCorrupt: no such record, or one that breaks a limit; the message says which.
Result<Order> decode_order(std::string_view text);
Result<Report> decode_report(std::string_view text);

}  // namespace hob::guest
