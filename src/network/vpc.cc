#include "network/vpc.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "network/egress.h"
#include "network/links.h"
#include "network/namespaces.h"
#include "network/subnets.h"

namespace hob::network {

namespace {

namespace fs = std::filesystem;

constexpr size_t kTaskIdLength = 32;
constexpr size_t kInterfaceDigits =
    14;  // of the task's id, after a "t": interface names have at most 15 characters
constexpr int kLockAttemptsMax = 1'000;
constexpr int kLoopback = 1;  // lo's index in every namespace

bool is_task_id(std::string_view text) {
  return text.size() == kTaskIdLength &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string interface_of(const std::string& task) { return "t" + task.substr(0, kInterfaceDigits); }
// The mark of a finished attach(), set last.
std::string mark_of(const TaskAddress& address) { return address.task + " " + address.address; }

// Held while instances of this machine must not set up at the same time. Whoever held it last may
// have taken the file away, and the directory: then there is a new one to lock.
Result<Fd> lock_machine(const fs::path& shared_directory) {
  const fs::path file = shared_directory / "lock";
  for (int attempt = 0; attempt < kLockAttemptsMax; ++attempt) {
    HOB_CHECK(make_directories(shared_directory, 0700));
    Fd lock(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!lock && errno == ENOENT) continue;
    if (!lock) return fail_errno(errno, "opening " + file.string());
    if (::flock(lock.get(), LOCK_EX) != 0) return fail_errno(errno, "locking " + file.string());
    struct stat locked {};
    struct stat present {};
    if (::fstat(lock.get(), &locked) == 0 && ::stat(file.c_str(), &present) == 0 &&
        locked.st_ino == present.st_ino && locked.st_dev == present.st_dev) {
      return lock;
    }
  }
  return fail(Code::kUnavailable, "{} goes away whenever it is locked", file.string());
}

Egress egress_of(const VpcOptions& options, const fs::path& handle) {
  return {.instance = options.instance,
          .vpc = handle,
          .run_directory = options.run_directory,
          .shared_directory = options.shared_directory};
}

// Runs inside the new router.
Result<void> configure_router() {
  // Without IPv6 before any interface is up, none gets a link-local address to be reached at.
  HOB_CHECK(set_sysctl("ipv6/conf/all/disable_ipv6", "1"));
  HOB_CHECK(set_sysctl("ipv6/conf/default/disable_ipv6", "1"));
  HOB_CHECK(set_sysctl("ipv4/ip_forward", "1"));
  // Strict: a packet is dropped unless its source would be answered through the link it came by.
  HOB_CHECK(set_sysctl("ipv4/conf/all/rp_filter", "1"));
  HOB_CHECK(set_sysctl("ipv4/conf/default/rp_filter", "1"));
  // Tasks have one way to send; there is nothing better to tell them of.
  HOB_CHECK(set_sysctl("ipv4/conf/default/send_redirects", "0"));
  HOB_CHECK(set_sysctl("ipv4/conf/all/send_redirects", "0"));
  // Every refusal is told at once, not one a second: a task that asks for what it may not have need
  // not wait.
  HOB_CHECK(set_sysctl("ipv4/icmp_ratelimit", "0"));
  // The edge connects to few addresses many times a second: the whole range of ports, reused at
  // once.
  HOB_CHECK(set_sysctl("ipv4/ip_local_port_range", "1024 65535"));
  HOB_TRY(Links links, Links::here());
  return links.set_up(kLoopback);
}

Result<void> add_router_addresses(const fs::path& handle) {
  HOB_TRY(Links links, Links::of(handle));
  HOB_TRY(const std::set<uint32_t> present, links.addresses());
  std::vector<std::string> wanted = {std::string(kVpcRouter), std::string(kVpcDns)};
  for (const char zone : kZoneLetters) {
    HOB_TRY(const Subnet subnet, subnet_of(std::string_view(&zone, 1)));
    wanted.push_back(subnet.gateway);
  }
  for (const std::string& address : wanted) {
    const auto number = parse_ipv4(address);
    if (present.contains(*number)) continue;
    HOB_CHECK(links.add_address(kLoopback, *number, 32));
  }
  return {};
}

// Runs inside a task's new namespace, before its interface is there.
Result<void> configure_task() {
  HOB_CHECK(set_sysctl("ipv6/conf/all/disable_ipv6", "1"));
  HOB_CHECK(set_sysctl("ipv6/conf/default/disable_ipv6", "1"));
  HOB_CHECK(set_sysctl("ipv4/ip_unprivileged_port_start", "0"));
  // Anyone in it may ping, as no one has CAP_NET_RAW over it: it belongs to the host's user
  // namespace.
  return set_sysctl("ipv4/ping_group_range", "0 2147483647");
}

}  // namespace

Vpc::Vpc(VpcOptions options) : options_(std::move(options)) {}

fs::path Vpc::handle() const { return options_.run_directory / "vpc"; }
fs::path Vpc::task_handle(const std::string& task) const {
  return options_.run_directory / "net" / task;
}

Result<void> Vpc::set_up() {
  HOB_CHECK(make_directories(options_.run_directory, 0711));
  HOB_CHECK(make_directories(options_.run_directory / "net", 0700));
  HOB_TRY(const Fd lock, lock_machine(options_.shared_directory));
  if (!is_namespace(handle())) HOB_CHECK(make_namespace(handle(), configure_router));
  HOB_CHECK(add_router_addresses(handle()));
  return context(open_egress(egress_of(options_, handle())), "opening the VPC's way out");
}

Result<void> Vpc::tear_down() {
  HOB_TRY(const Fd lock, lock_machine(options_.shared_directory));
  HOB_TRY(const std::vector<std::string> tasks, attached());
  for (const std::string& task : tasks) HOB_CHECK(detach(task));
  HOB_CHECK(context(close_egress(egress_of(options_, handle())), "closing the VPC's way out"));
  HOB_CHECK(remove_namespace(handle()));
  HOB_CHECK(remove_tree(options_.run_directory / "net"));
  // Goes only when it holds no other instance's claim. The lock file is taken away while it is
  // held; whoever waits for it makes another.
  std::error_code ignored;
  const bool alone =
      std::ranges::distance(fs::directory_iterator(options_.shared_directory, ignored)) <= 1;
  if (alone) HOB_CHECK(remove_tree(options_.shared_directory));
  fs::remove(options_.run_directory, ignored);  // unless others keep things there
  return {};
}

Result<fs::path> Vpc::attach(const TaskAddress& address) {
  const auto number = parse_ipv4(address.address);
  const auto gateway = parse_ipv4(address.gateway);
  if (!is_task_id(address.task)) return fail(Code::kInvalid, "'{}' is no task id", address.task);
  const auto router = parse_ipv4(kVpcRouter);
  if (!number || (*number >> 16) != (*router >> 16) || *number == *router) {
    return fail(Code::kInvalid, "'{}' is no address of {}", address.address, options_.cidr);
  }
  if (!gateway || address.prefix_length < 8 || address.prefix_length > 32) {
    return fail(Code::kInvalid, "{}/{} by way of '{}' is no route", address.address,
                address.prefix_length, address.gateway);
  }
  const fs::path path = task_handle(address.task);
  const std::string interface = interface_of(address.task);
  HOB_TRY(Links router_links, Links::of(handle()));
  if (is_namespace(path)) {
    HOB_TRY(const std::optional<Link> present, router_links.find(interface));
    if (present && present->alias == mark_of(address)) return path;
  }
  HOB_CHECK(detach(address.task));  // half-made, or another address

  HOB_CHECK(make_namespace(path, configure_task));
  const auto connect = [&]() -> Result<void> {
    const Fd task(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!task) return fail_errno(errno, "opening " + path.string());
    HOB_CHECK(router_links.add_veth(interface, "eth0", task.get()));
    HOB_TRY(Links task_links, Links::of(path));
    HOB_TRY(const std::optional<Link> inner, task_links.find("eth0"));
    HOB_TRY(const std::optional<Link> outer, router_links.find(interface));
    if (!inner || !outer) return fail(Code::kUnavailable, "the interface {} vanished", interface);
    HOB_CHECK(task_links.set_up(kLoopback));
    HOB_CHECK(task_links.add_address(inner->index, *number, address.prefix_length));
    HOB_CHECK(task_links.set_up(inner->index));
    HOB_CHECK(router_links.set_up(outer->index));
    HOB_CHECK(task_links.set_route({.gateway = *gateway, .index = inner->index}));
    HOB_CHECK(router_links.set_route(
        {.destination = *number, .prefix_length = 32, .source = *router, .index = outer->index}));
    HOB_CHECK(task_links.wait_running("eth0"));
    HOB_CHECK(router_links.wait_running(interface));
    return router_links.set_alias(outer->index, mark_of(address));
  };
  if (auto connected = connect(); !connected) {
    if (auto undone = detach(address.task); !undone)
      connected.error().message += "; " + undone.error().message;
    return fail(std::move(connected).error());
  }
  return path;
}

Result<void> Vpc::detach(const std::string& task) {
  if (!is_task_id(task)) return fail(Code::kInvalid, "'{}' is no task id", task);
  // The link goes first: the kernel takes a namespace apart at its leisure, and the route must be
  // gone now.
  if (is_namespace(handle())) {
    HOB_TRY(Links router_links, Links::of(handle()));
    HOB_CHECK(router_links.remove(interface_of(task)));
  }
  return remove_namespace(task_handle(task));
}

Result<std::vector<std::string>> Vpc::attached() const {
  std::vector<std::string> tasks;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(options_.run_directory / "net", error)) {
    std::string name = entry.path().filename().string();
    if (is_task_id(name)) tasks.push_back(std::move(name));
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    return fail(Code::kUnavailable, "reading {}/net: {}", options_.run_directory.string(),
                error.message());
  }
  std::ranges::sort(tasks);
  return tasks;
}

}  // namespace hob::network
