// hob doctor: can this machine run Hob, and what to do where it cannot.
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netdb.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "base/process.h"
#include "cli/certificates.h"
#include "cli/commands.h"
#include "cli/kvm_probe.h"
#include "cli/microvms.h"
#include "cli/programs.h"
#include "cli/terminal.h"

namespace hob::cli {
namespace {

constexpr uint64_t kDiskWanted = 5ull * 1000 * 1000 * 1000;  // bytes: a few images and their layers
constexpr uint64_t kDiskNeeded = 1ull * 1000 * 1000 * 1000;

enum class Level { kOk, kWarn, kFail };

struct Finding {
  Level level = Level::kOk;
  std::string what{};
  std::string found{};
  std::string mend{};  // empty: nothing to do
};

const char* word_of(Level level) {
  switch (level) {
    case Level::kOk:
      return "ok";
    case Level::kWarn:
      return "warn";
    case Level::kFail:
      return "fail";
  }
  return "";
}

Finding check_root() {
  if (geteuid() == 0) return {Level::kOk, "user", "root"};
  return {Level::kFail, "user", "not root", "run it as root: sudo hob up"};
}

Finding check_kernel() {
  utsname name{};
  uname(&name);
  int major = 0;
  int minor = 0;
  sscanf(name.release, "%d.%d", &major, &minor);
  const std::string found = std::string("Linux ") + name.release + ", " + name.machine;
  if (std::string(name.machine) != "x86_64")
    return {Level::kFail, "kernel", found, "Hob runs on x86_64 alone"};
  if (major > 6 || (major == 6 && minor >= 1)) return {Level::kOk, "kernel", found};
  if (major == 6 || (major == 5 && minor >= 14)) {
    return {Level::kWarn, "kernel", found, "Debian 12's 6.1 is what Hob is tested with"};
  }
  return {Level::kFail, "kernel", found, "needs 5.14 or newer: apt-get install linux-image-amd64"};
}

Finding check_cgroups() {
  const Result<std::string> mounts = read_file("/proc/self/mounts", 16 * 1024 * 1024);
  const bool v2_alone = mounts && mounts->find(" /sys/fs/cgroup cgroup2 ") != std::string::npos;
  if (v2_alone) {
    const Result<std::string> controllers = read_file("/sys/fs/cgroup/cgroup.controllers", 4096);
    for (const char* wanted : {"cpu", "memory", "pids"}) {
      if (!controllers || controllers->find(wanted) == std::string::npos) {
        return {Level::kFail, "cgroups", std::string("version 2 without ") + wanted,
                "boot without cgroup_disable, and with cgroup_enable=memory"};
      }
    }
    return {Level::kOk, "cgroups", "version 2"};
  }
  std::string missing;
  for (const char* wanted : {"cpu", "memory", "pids", "freezer"}) {
    if (access((std::string("/sys/fs/cgroup/") + wanted).c_str(), F_OK) != 0)
      missing += std::string(" ") + wanted;
  }
  if (missing.empty()) return {Level::kOk, "cgroups", "version 1 (hybrid)"};
  return {Level::kFail, "cgroups", "version 1 without" + missing,
          "boot with systemd.unified_cgroup_hierarchy=1, or mount them in /sys/fs/cgroup"};
}

Finding check_port(uint16_t port, const char* what, const char* flag) {
  const std::string name = std::string("port ") + std::to_string(port);
  const Result<Fd> fd = http::listen_tcp("127.0.0.1", port);
  if (fd) return {Level::kOk, name, std::string("free, for ") + what};
  if (fd.error().code == Code::kExists) {
    return {Level::kFail, name, "taken by another program",
            fmt::format("find it with: ss -ltnp 'sport = :{}'; or choose another with hob up {}",
                        port, flag)};
  }
  return {Level::kFail, name, fd.error().message,
          "choose another with hob up " + std::string(flag)};
}

Finding check_disk(const std::filesystem::path& data) {
  std::filesystem::path place = data;
  while (!std::filesystem::exists(place) && place.has_relative_path()) place = place.parent_path();
  struct statvfs disk {};
  if (statvfs(place.c_str(), &disk) != 0)
    return {Level::kFail, "disk", place.string() + " cannot be read"};
  const uint64_t free_bytes = uint64_t{disk.f_bavail} * disk.f_frsize;
  const std::string found =
      fmt::format("{:.1f} GB free for {}", static_cast<double>(free_bytes) / 1e9, data.string());
  const std::string mend = "make room, or choose another disk with --data";
  if (free_bytes < kDiskNeeded) return {Level::kFail, "disk", found, mend};
  if (free_bytes < kDiskWanted) return {Level::kWarn, "disk", found, mend};
  return {Level::kOk, "disk", found};
}

Finding check_packages() {
  std::string missing;
  constexpr std::array<std::pair<const char*, const char*>, 3> kPrograms = {
      {{"crun", "crun"}, {"nft", "nftables"}, {"mkfs.ext4", "e2fsprogs"}}};
  for (const auto& [program, package] : kPrograms) {
    if (find_program(program).empty()) missing += std::string(" ") + package;
  }
  if (missing.empty()) return {Level::kOk, "packages", "crun, nftables, e2fsprogs"};
  return {Level::kFail, "packages", "missing:" + missing, "apt-get install" + missing};
}

// What some commands alone need.
Finding check_tools() {
  struct Tool {
    const char* program;
    const char* package;
    const char* use;
  };
  constexpr std::array<Tool, 2> kTools = {
      {{"mmdebstrap", "mmdebstrap", "to build from source folders"},
       {"git", "git", "to deploy from a repository"}}};
  std::string missing;
  std::string packages;
  for (const auto& [program, package, use] : kTools) {
    if (!find_program(program).empty()) continue;
    missing += fmt::format("{}{} {}", missing.empty() ? "missing: " : ", ", package, use);
    packages += std::string(" ") + package;
  }
  if (missing.empty()) return {Level::kOk, "tools", "mmdebstrap, git"};
  return {Level::kWarn, "tools", missing, "apt-get install --no-install-recommends" + packages};
}

Finding check_nftables() {
  const std::string nft = find_program("nft");
  if (nft.empty()) return {Level::kFail, "nftables", "no nft program", "apt-get install nftables"};
  const Result<Exit> listed = run_blocking({.argv = {nft, "list", "tables"}}, Duration(5000));
  if (listed && listed->status == 0) return {Level::kOk, "nftables", "works"};
  return {Level::kFail, "nftables", "nft list tables fails", "modprobe nf_tables; as root"};
}

Finding check_uring() {
  io_uring_params parameters{};
  const Fd ring(static_cast<int>(syscall(SYS_io_uring_setup, 4, &parameters)));
  if (ring) return {Level::kOk, "io_uring", "works: the edge uses it"};
  return {Level::kWarn, "io_uring", "not allowed: the edge uses epoll, which is slower",
          "sysctl kernel.io_uring_disabled=0"};
}

Finding check_name_resolution() {
  addrinfo hints{};
  hints.ai_family = AF_INET;
  addrinfo* found = nullptr;
  const int error = getaddrinfo("hello.us-east-1.hob.localhost", "80", &hints, &found);
  if (error == 0) {
    freeaddrinfo(found);
    return {Level::kOk, "name resolution", "*.localhost is this machine, for every program"};
  }
  return {Level::kWarn, "name resolution",
          "browsers and curl find *.localhost by themselves, other programs (glibc) do not",
          "apt-get install libnss-myhostname, or send the name in the Host header"};
}

// Overlay mounts over layers whose ids are mapped: what lets tasks' user namespaces share layers.
Finding check_overlay() {
  const Fd context(static_cast<int>(syscall(SYS_fsopen, "overlay", 0)));
  if (!context) {
    return {Level::kFail, "overlayfs",
            errno == EPERM ? "not allowed" : "the kernel does not have it", "modprobe overlay"};
  }
  return {Level::kOk, "overlayfs", "there"};
}

Finding check_namespaces() {
  const Result<std::string> limit = read_file("/proc/sys/user/max_user_namespaces", 64);
  if (limit && atol(limit->c_str()) == 0) {
    return {Level::kFail, "namespaces", "user namespaces are switched off",
            "sysctl user.max_user_namespaces=10000"};
  }
  if (access("/proc/self/ns/net", F_OK) != 0 || access("/proc/self/ns/user", F_OK) != 0) {
    return {Level::kFail, "namespaces", "the kernel lacks network or user namespaces",
            "use Debian's kernel"};
  }
  return {Level::kOk, "namespaces", "user and network"};
}

std::vector<Finding> examine(const Context& context) {
  const std::filesystem::path data = std::filesystem::absolute(context.data).lexically_normal();
  const Result<Instance> known = load_instance(data);
  const Instance instance = known ? *known : Instance{.data = data};
  std::vector<Finding> findings = {check_root(),       check_kernel(),         check_cgroups(),
                                   check_namespaces(), check_overlay(),        check_packages(),
                                   check_tools(),      check_nftables(),       check_uring(),
                                   check_disk(data),   check_name_resolution()};
  if (known && is_running(instance)) {
    findings.push_back(
        {Level::kOk, "ports",
         fmt::format("Hob is running on {} and {}", instance.api_port, instance.http_port)});
  } else {
    findings.push_back(check_port(instance.api_port, "the API and the registry", "--api-port N"));
    findings.push_back(check_port(instance.http_port, "services", "--http-port N"));
    findings.push_back(check_port(instance.https_port, "services by TLS", "--https-port N"));
  }
  const Result<std::string> kvm = probe_kvm();
  if (kvm) {
    findings.push_back({Level::kOk, "KVM", *kvm});
    const bool installed = access(instance.kernel().c_str(), R_OK) == 0;
    if (!installed)
      findings.push_back({Level::kWarn, "microVM kernel", "none is installed",
                          "tasks run in containers until there is one: hob kernel install"});
    if (const Result<void> tools = check_image_tools(); !tools)
      findings.push_back({Level::kWarn, "microVM images", tools.error().message,
                          "tasks run in containers until it is there"});
  } else {
    findings.push_back({Level::kWarn, "KVM", kvm.error().message,
                        "containers do without; microVMs need hardware virtualisation (or nested, "
                        "of the cloud's kind)"});
  }
  return findings;
}

// Of a Hob that runs, as far as it tells us (root alone has its keys).
Async<std::vector<Finding>> check_certificates(const Context& context) {
  std::vector<Finding> findings;
  const Result<Api> api = Api::open(context);
  if (!api || !is_running(api->instance())) co_return findings;
  const auto lines = co_await list_certificates(*api);
  if (!lines) co_return findings;
  for (const std::string& warning : certificate_warnings(*lines, SystemClock().now()))
    findings.push_back({Level::kWarn, "certificates", warning});
  if (findings.empty())
    findings.push_back({Level::kOk, "certificates",
                        fmt::format("{} for domains, none near its end", lines->size())});
  co_return findings;
}

Async<Result<void>> doctor(const Context& context, int& exit_code) {
  std::vector<Finding> findings = examine(context);
  std::vector<Finding> certificates = co_await check_certificates(context);
  std::ranges::move(certificates, std::back_inserter(findings));
  bool failed = false;
  for (const Finding& finding : findings) failed = failed || finding.level == Level::kFail;
  const std::filesystem::path data = std::filesystem::absolute(context.data).lexically_normal();
  const Instance instance = load_instance(data).value_or(Instance{.data = data});
  const bool microvms =
      runs_microvms(instance.isolation, check_microvms(instance.kernel()).has_value());
  const std::string isolation = microvms ? "microvm" : "container";
  if (context.json) {
    boost::json::array list;
    for (const Finding& finding : findings) {
      list.push_back({{"check", finding.what},
                      {"level", word_of(finding.level)},
                      {"found", finding.found},
                      {"mend", finding.mend}});
    }
    printf("%s\n",
           boost::json::serialize(
               boost::json::object{{"checks", list}, {"isolation", isolation}, {"ok", !failed}})
               .c_str());
  } else {
    for (const Finding& finding : findings) {
      printf("%-4s  %-16s %s\n", word_of(finding.level), finding.what.c_str(),
             finding.found.c_str());
      if (finding.level != Level::kOk && !finding.mend.empty())
        printf("      %-16s -> %s\n", "", finding.mend.c_str());
    }
    printf("\nTasks would run in: %s\n", isolation.c_str());
    if (failed) printf("Hob cannot run here until what says fail is mended.\n");
  }
  exit_code = failed ? 1 : 0;
  co_return Result<void>{};
}

}  // namespace

void add_doctor(CLI::App& program, Context& context) {
  CLI::App* command =
      program.add_subcommand("doctor", "Check this machine, and say how to mend it");
  on_run(*command, context,
         [&context]() -> Async<Result<void>> { return doctor(context, context.exit_code); });
}

}  // namespace hob::cli
