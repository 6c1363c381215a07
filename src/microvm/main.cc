// hob-vmm: one microVM, by Firecracker's API on a unix socket or from a configuration file.
#include <fmt/core.h>
#include <malloc.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/version.h"
#include "microvm/api/api.h"
#include "microvm/api/server.h"
#include "microvm/jail/filter.h"
#include "microvm/snapshot/state_file.h"

namespace hob::microvm {
namespace {

// Firecracker's exit codes.
constexpr int kExitOk = 0;
constexpr int kExitGeneric = 1;
constexpr int kExitArguments = 153;
constexpr int kExitLevel = 152;  // the log's

constexpr size_t kConfigurationBytesMax = 1 << 20;
constexpr size_t kIdBytesMax = 64;
// A vCPU's thread calls nothing that goes deep; glibc's 8 MiB would be huge pages where those are
// always on.
constexpr size_t kThreadStackBytes = 64 << 10;

constexpr std::string_view kHelp =
    "hob-vmm: a microVM, with Firecracker's API\n"
    "\n"
    "  --api-sock PATH      the API's unix socket, made here (default /run/firecracker.socket)\n"
    "  --id ID              1 to 64 letters, digits, '-' (default anonymous-instance)\n"
    "  --config-file PATH   start from this JSON file at once\n"
    "  --no-api             no socket; needs --config-file\n"
    "  --http-api-max-payload-size N   largest request body, bytes (default 51200)\n"
    "  --no-seccomp         no filter on system calls\n"
    "  --snapshot-version   the version of the snapshots that this program takes\n"
    "  --describe-snapshot PATH   the version of that snapshot's state file\n"
    "  --log-path PATH, --level Error|Warning|Info|Debug|Trace|Off, --show-level,\n"
    "  --show-log-origin, --module M, --metrics-path PATH\n"
    "                       as PUT /logger and PUT /metrics\n"
    "  --metadata PATH      JSON: what the guest learns of itself (MMDS) at first\n"
    "  --mmds-size-limit N  largest such JSON, bytes (default as the request body's)\n"
    "  --version, --help\n";

struct Options {
  std::string socket = "/run/firecracker.socket";
  std::string id = "anonymous-instance";
  std::optional<std::string> configuration{};
  bool api = true;
  bool seccomp = true;
  size_t body_bytes_max = kHttpBodyBytesDefault;
  LoggerUpdate log{};
  std::optional<std::string> metrics{};
  std::optional<std::string> metadata{};
  std::optional<size_t> mmds_bytes_max{};  // none: as the body's
};

// What a jailer tells of its own time, for metrics.
bool is_start_time(std::string_view name) {
  return name == "--start-time-us" || name == "--start-time-cpu-us" ||
         name == "--parent-cpu-time-us";
}

// nullopt: no number.
std::optional<size_t> number_of(std::string_view text) {
  size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

Result<Options> read_options(const std::vector<std::string_view>& arguments) {
  Options options;
  std::vector<std::string_view> seen;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view name = arguments[i];
    if (name == "--") break;
    if (std::ranges::find(seen, name) != seen.end())
      return fail(Code::kInvalid, "The argument '{}' was provided more than once.", name);
    seen.push_back(name);
    if (name == "--no-api" || name == "--no-seccomp") {
      (name == "--no-api" ? options.api : options.seccomp) = false;
      continue;
    }
    if (name == "--show-level" || name == "--show-log-origin") {
      (name == "--show-level" ? options.log.show_level : options.log.show_origin) = true;
      continue;
    }
    // Firecracker's files are of its own compiler's format.
    if (name == "--seccomp-filter")
      return fail(Code::kInvalid,
                  "'--seccomp-filter' is not built in hob-vmm: its filters are fixed.");
    const bool known = name == "--api-sock" || name == "--id" || name == "--config-file" ||
                       name == "--http-api-max-payload-size" || name == "--metadata" ||
                       name == "--log-path" || name == "--level" || name == "--module" ||
                       name == "--metrics-path" || name == "--mmds-size-limit" ||
                       is_start_time(name);
    if (!known)
      return fail(Code::kInvalid,
                  "Found argument '{}' which wasn't expected, or isn't valid in this context.",
                  name);
    if (i + 1 == arguments.size())
      return fail(Code::kInvalid, "The argument '{}' requires a value, but none was supplied.",
                  name);
    const std::string_view value = arguments[++i];
    if (name == "--api-sock") options.socket = value;
    if (name == "--id") options.id = value;
    if (name == "--config-file") options.configuration = value;
    if (name == "--metadata") options.metadata = value;
    if (name == "--log-path") options.log.path = value;
    if (name == "--metrics-path") options.metrics = value;
    if (name == "--level") {
      options.log.level = parse_level(value);
      if (!options.log.level)
        return fail(Code::kNotFound, "Invalid value for log level: {}", value);
    }
    if (name == "--http-api-max-payload-size" || name == "--mmds-size-limit") {
      const std::optional<size_t> bytes = number_of(value);
      if (!bytes) return fail(Code::kInvalid, "'{}' is no number of bytes.", value);
      if (name == "--mmds-size-limit")
        options.mmds_bytes_max = bytes;
      else
        options.body_bytes_max = *bytes;
    }
  }
  const bool plain = std::ranges::all_of(options.id, [](char c) {
    return c == '-' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  });
  if (options.id.empty() || options.id.size() > kIdBytesMax || !plain)
    return fail(Code::kInvalid, "Invalid instance ID: 1 to {} letters, digits and '-'.",
                kIdBytesMax);
  if (!options.api && !options.configuration)
    return fail(Code::kInvalid, "The argument '--no-api' requires '--config-file'.");
  return options;
}

void say(std::string_view text) { fmt::print(stderr, "{}\n", text); }

int run(const Options& options) {
  auto loop = Loop::create();
  if (!loop) {
    say(loop.error().message);
    return kExitGeneric;
  }
  // Begun before anything else where it will be needed at once, and else when the API is ready.
  KvmAhead kvm;
  if (options.configuration) kvm.begin();
  int exit_code = kExitOk;
  MicrovmApi* started = nullptr;
  const auto on_end = [&](const VcpuEnd& end) {
    started->logger().log(end.failed ? LogLevel::kError : LogLevel::kInfo, "main", end.reason);
    say(fmt::format("hob-vmm: {}", end.reason));
    exit_code = end.failed ? kExitGeneric : kExitOk;
    (*loop)->stop();
  };
  MicrovmApi api(
      options.id, **loop, on_end,
      {.filters = options.seccomp ? MicrovmApi::Filters::kSet : MicrovmApi::Filters::kNone,
       .mmds_bytes_max = options.mmds_bytes_max.value_or(options.body_bytes_max),
       .kvm = &kvm});
  started = &api;
  if (const auto logging = api.logger().update(options.log); !logging) {
    say(fmt::format("Could not initialize logger: {}", logging.error().message));
    return kExitGeneric;
  }
  if (options.metrics) {
    if (const auto opened = api.start_metrics({.path = *options.metrics}); !opened) {
      say(fmt::format("Could not initialize metrics: {}", opened.error().message));
      return kExitGeneric;
    }
  }
  if (options.metadata) {
    auto text = read_file(*options.metadata, kConfigurationBytesMax);
    auto set = text ? api.set_metadata(*text) : Result<void>(std::unexpected(text.error()));
    if (!set) {
      say(fmt::format("Metadata from {} refused: {}", *options.metadata, set.error().message));
      return kExitGeneric;
    }
  }
  std::unique_ptr<ApiServer> server;
  if (options.api) {
    auto listening =
        ApiServer::listen(**loop, options.socket, options.body_bytes_max,
                          [&](const HttpRequest& request) { return api.handle(request); });
    if (!listening) {
      say(fmt::format(
          "Failed to open the API socket at: {}. Check that it is not already used. ({})",
          options.socket, listening.error().message));
      return kExitGeneric;
    }
    server = *std::move(listening);
  }
  if (!options.configuration) kvm.begin();
  if (options.seccomp) {
    install_forbidden_handler();
    if (const auto installed = install_filter(ThreadKind::kApi); !installed) {
      say(installed.error().message);
      return kExitGeneric;
    }
  }
  if (options.configuration) {
    auto text = read_file(*options.configuration, kConfigurationBytesMax);
    auto booted = text ? api.start_from(*text) : Result<void>(std::unexpected(text.error()));
    if (!booted) {
      say(fmt::format("Configuration for VMM from one single json failed: {}",
                      booted.error().message));
      return kExitGeneric;
    }
  }
  (*loop)->run();
  if (server) server->flush();
  return exit_code;
}

int describe_snapshot(const std::string& path) {
  const auto file = read_file(path, kStateBytesMax);
  const auto version =
      file ? read_version(*file) : Result<SnapshotVersion>(std::unexpected(file.error()));
  if (!version) {
    say(fmt::format("Snapshot state file {}: {}", path, version.error().message));
    return kExitGeneric;
  }
  fmt::print("{}\n", version->text());
  return kExitOk;
}

int start(const std::vector<std::string_view>& arguments) {
  const auto asked = [&](std::string_view name) {
    return std::ranges::find(arguments, name) != arguments.end();
  };
  if (asked("--help") || asked("-h")) {
    fmt::print("{}", kHelp);
    return kExitOk;
  }
  if (asked("--version")) {
    fmt::print("Firecracker v{}\n\nhob-vmm {}\n", kFirecrackerVersion, kVersion);
    return kExitOk;
  }
  if (asked("--snapshot-version")) {
    fmt::print("{}\n", kSnapshotVersion.text());
    return kExitOk;
  }
  if (const auto at = std::ranges::find(arguments, "--describe-snapshot"); at != arguments.end())
    return describe_snapshot(at + 1 == arguments.end() ? "" : std::string(*(at + 1)));
  const auto options = read_options(arguments);
  if (!options) {
    say(fmt::format("Arguments parsing error: {}", options.error().message));
    return options.error().code == Code::kNotFound ? kExitLevel : kExitArguments;
  }
  // Threads other than the loop's hardly allocate: an arena each would be a page or more each.
  mallopt(M_ARENA_MAX, 1);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kThreadStackBytes);
  pthread_setattr_default_np(&attributes);
  pthread_attr_destroy(&attributes);
  return run(*options);
}

}  // namespace
}  // namespace hob::microvm

int main(int argc, char** argv) {
  return hob::microvm::start(std::vector<std::string_view>(argv + 1, argv + argc));
}
