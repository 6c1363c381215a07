#include "guest/machine.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "base/file.h"
#include "guest/cgroup.h"

namespace hob::guest {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModules = "/modules";
constexpr const char* kNewRoot = "/new";
constexpr unsigned long kPlain = MS_NOSUID | MS_NODEV | MS_NOEXEC;
constexpr int64_t kNanoseconds = 1'000'000'000;
// Less is not set right: a step is felt by what measures with the wall clock, and on its way the
// time gets older, too.
constexpr int64_t kClockOffMin = 20'000'000;

Result<void> mount_at(const char* type, const char* target, unsigned long flags,
                      const char* options = nullptr) {
  if (::mkdir(target, 0755) != 0 && errno != EEXIST)
    return fail_errno(errno, std::string("making ") + target);
  // The kernel may have mounted /dev by itself.
  if (::mount(type, target, type, flags, options) != 0 && errno != EBUSY)
    return fail_errno(errno, std::string("mounting ") + target);
  return {};
}

Result<void> load_modules() {
  std::vector<fs::path> modules;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(kModules, ignored))
    modules.push_back(entry.path());
  std::ranges::sort(modules);
  for (const fs::path& module : modules) {
    const Fd file(::open(module.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file || (::syscall(SYS_finit_module, file.get(), "", 0) != 0 && errno != EEXIST))
      return fail_errno(errno, "loading " + module.string());
    ::unlink(module.c_str());
  }
  return {};
}

// A root that can be left again: what the kernel unpacked the RAM disk into cannot be, and
// containers change theirs.
Result<void> move_to_own_root() {
  HOB_CHECK(mount_at("tmpfs", kNewRoot, MS_NOSUID | MS_NODEV, "mode=755"));
  for (const char* name : {"proc", "sys", "dev", "run"}) {
    const fs::path target = fs::path(kNewRoot) / name;
    if (::mkdir(target.c_str(), 0755) != 0) return fail_errno(errno, "making " + target.string());
    if (std::string_view(name) == "run") continue;
    if (::mount((fs::path("/") / name).c_str(), target.c_str(), nullptr, MS_MOVE, nullptr) != 0)
      return fail_errno(errno, "moving " + target.string());
  }
  ::unlink("/init");  // its memory; it runs on
  if (::chdir(kNewRoot) != 0 || ::mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 ||
      ::chroot(".") != 0 || ::chdir("/") != 0)
    return fail_errno(errno, "moving to a root in memory");
  return {};
}

Result<void> put(const char* path, std::string_view text) {
  const Fd file(::open(path, O_WRONLY | O_CLOEXEC));
  if (!file || ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return fail_errno(errno, std::string("writing ") + path);
  return {};
}

Result<sockaddr> address(const std::string& text) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  if (::inet_pton(AF_INET, text.c_str(), &in.sin_addr) != 1)
    return fail(Code::kInvalid, "'{}' is no IPv4 address", text);
  sockaddr any{};
  std::memcpy(&any, &in, sizeof in);
  return any;
}

Result<sockaddr> mask(int prefix_length) {
  if (prefix_length < 1 || prefix_length > 32)
    return fail(Code::kInvalid, "a prefix of {} bits", prefix_length);
  const uint32_t bits = htonl(~uint32_t{0} << (32 - prefix_length));
  char text[INET_ADDRSTRLEN];
  return address(::inet_ntop(AF_INET, &bits, text, sizeof text));
}

ifreq interface(const char* name) {
  ifreq request{};
  std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  return request;
}

Result<void> bring_up(const Fd& any, const char* name) {
  ifreq request = interface(name);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (::ioctl(any.get(), SIOCSIFFLAGS, &request) != 0)
    return fail_errno(errno, std::string("bringing up ") + name);
  return {};
}

}  // namespace

Result<void> set_up_machine() {
  HOB_CHECK(mount_at("devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC));
  HOB_CHECK(mount_at("proc", "/proc", kPlain));
  HOB_CHECK(mount_at("sysfs", "/sys", kPlain));
  HOB_CHECK(load_modules());
  HOB_CHECK(move_to_own_root());
  return mount_cgroups();
}

Result<void> set_up_network(const std::optional<Network>& network) {
  const Fd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!any) return fail_errno(errno, "making a socket");
  // As network::Vpc has it in a container's namespace: no IPv6, any port and ping for any user.
  for (const char* version : {"all", "default"}) {
    const std::string path = fmt::format("/proc/sys/net/ipv6/conf/{}/disable_ipv6", version);
    if (::access(path.c_str(), F_OK) == 0) HOB_CHECK(put(path.c_str(), "1"));
  }
  HOB_CHECK(put("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"));
  HOB_CHECK(put("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"));
  HOB_CHECK(bring_up(any, "lo"));
  if (!network) return {};
  ifreq request = interface("eth0");
  HOB_TRY(request.ifr_addr, address(network->address));
  if (::ioctl(any.get(), SIOCSIFADDR, &request) != 0)
    return fail_errno(errno, "setting the address");
  HOB_TRY(request.ifr_netmask, mask(network->prefix_length));
  if (::ioctl(any.get(), SIOCSIFNETMASK, &request) != 0)
    return fail_errno(errno, "setting the network's mask");
  HOB_CHECK(bring_up(any, "eth0"));
  // The gateway is reached directly, whatever the prefix says; so nothing else is.
  rtentry direct{};
  HOB_TRY(direct.rt_dst, address(network->gateway));
  HOB_TRY(direct.rt_genmask, mask(32));
  direct.rt_flags = RTF_UP | RTF_HOST;
  char device[] = "eth0";
  direct.rt_dev = device;
  if (::ioctl(any.get(), SIOCADDRT, &direct) != 0)
    return fail_errno(errno, "routing to the gateway");
  rtentry route{};
  HOB_TRY(route.rt_dst, address("0.0.0.0"));
  route.rt_genmask = route.rt_dst;
  HOB_TRY(route.rt_gateway, address(network->gateway));
  route.rt_flags = RTF_UP | RTF_GATEWAY;
  if (::ioctl(any.get(), SIOCADDRT, &route) != 0) return fail_errno(errno, "setting the route");
  return {};
}

Result<void> set_clock(int64_t nanoseconds_since_1970) {
  if (nanoseconds_since_1970 < 0) return fail(Code::kInvalid, "a time before 1970");
  const int64_t off =
      nanoseconds_since_1970 -
      std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count();
  if (std::abs(off) < kClockOffMin) return {};
  const timespec time{.tv_sec = nanoseconds_since_1970 / kNanoseconds,
                      .tv_nsec = nanoseconds_since_1970 % kNanoseconds};
  if (::clock_settime(CLOCK_REALTIME, &time) != 0) return fail_errno(errno, "setting the clock");
  return {};
}

void end_machine() {
  // Without a sync: what the disks hold dies with the machine.
  ::reboot(RB_AUTOBOOT);
  while (true) ::pause();
}

}  // namespace hob::guest
