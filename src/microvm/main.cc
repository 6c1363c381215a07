// hob-vmm: one microVM, by Firecracker's API on a unix socket or from a configuration file.
#include <fmt/core.h>
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
    "  --version, --help\n";

struct Options {
  std::string socket = "/run/firecracker.socket";
  std::string id = "anonymous-instance";
  std::optional<std::string> configuration{};
  bool api = true;
  bool seccomp = true;
  size_t body_bytes_max = kHttpBodyBytesDefault;
};

// What a jailer tells of its own time, for metrics.
bool is_start_time(std::string_view name) {
  return name == "--start-time-us" || name == "--start-time-cpu-us" ||
         name == "--parent-cpu-time-us";
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
    // Firecracker's files are of its own compiler's format.
    if (name == "--seccomp-filter")
      return fail(Code::kInvalid,
                  "'--seccomp-filter' is not built in hob-vmm: its filters are fixed.");
    const bool known = name == "--api-sock" || name == "--id" || name == "--config-file" ||
                       name == "--http-api-max-payload-size" || is_start_time(name);
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
    if (name == "--http-api-max-payload-size") {
      const auto [end, error] =
          std::from_chars(value.data(), value.data() + value.size(), options.body_bytes_max);
      if (error != std::errc() || end != value.data() + value.size())
        return fail(Code::kInvalid, "'{}' is no number of bytes.", value);
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
  int exit_code = kExitOk;
  const auto on_end = [&](const VcpuEnd& end) {
    say(fmt::format("hob-vmm: {}", end.reason));
    exit_code = end.failed ? kExitGeneric : kExitOk;
    (*loop)->stop();
  };
  MicrovmApi api(options.id, **loop, on_end,
                 options.seccomp ? MicrovmApi::Filters::kSet : MicrovmApi::Filters::kNone);
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
  if (options.seccomp) {
    install_forbidden_handler();
    if (const auto installed = install_filter(ThreadKind::kApi); !installed) {
      say(installed.error().message);
      return kExitGeneric;
    }
  }
  if (options.configuration) {
    auto text = read_file(*options.configuration, kConfigurationBytesMax);
    auto started = text ? api.start_from(*text) : Result<void>(std::unexpected(text.error()));
    if (!started) {
      say(fmt::format("Configuration for VMM from one single json failed: {}",
                      started.error().message));
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
    return kExitArguments;
  }
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
