#include "network/vpc.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <fstream>
#include <thread>

#include "base/process.h"
#include "network/dns_forwarder.h"
#include "network/dns_message.h"
#include "network/namespaces.h"

namespace hob::network {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

std::string shell(const std::string& command) {
  const auto exit = run_blocking({.argv = {"/bin/sh", "-c", command}}, 20s);
  return exit ? exit->output + exit->errors : exit.error().message;
}

// Starts connecting and waits for what comes of it: "connected", "refused", "unreachable",
// "silence".
std::string connect_from(const fs::path& handle, const std::string& address, uint16_t port) {
  std::string outcome;
  const auto done = in_namespace(handle, [&]() -> Result<void> {
    const Fd made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const timeval patience{.tv_sec = 1, .tv_usec = 0};
    ::setsockopt(made.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    ::inet_pton(AF_INET, address.c_str(), &to.sin_addr);
    if (::connect(made.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0)
      outcome = "connected";
    else if (errno == ECONNREFUSED)
      outcome = "refused";
    else if (errno == EINPROGRESS || errno == ETIMEDOUT)
      outcome = "silence";
    else
      outcome = "unreachable";
    return {};
  });
  return done ? outcome : done.error().message;
}

// Listens at every address of a namespace.
Fd listen_in(const fs::path& handle, uint16_t port) {
  auto made = socket_in(handle, [&]() -> Result<Fd> {
    Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)) != 0 ||
        ::listen(socket.get(), 8) != 0) {
      return fail_errno(errno, "listening");
    }
    return socket;
  });
  EXPECT_TRUE(made.has_value());
  return made ? std::move(*made) : Fd();
}

class VpcTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    char name[] = "/tmp/hob-vpc-test-XXXXXX";
    directory_ = ::mkdtemp(name);
    before_ = machine_state();
    vpc_.emplace(options(0));
    const auto set_up = vpc_->set_up();
    ASSERT_TRUE(set_up.has_value()) << set_up.error().message;
  }
  void TearDown() override {
    if (!vpc_) return;
    EXPECT_TRUE(vpc_->tear_down().has_value());
    EXPECT_TRUE(vpc_->tear_down().has_value()) << "twice";
    EXPECT_EQ(machine_state(), before_);
    EXPECT_TRUE(remove_tree(directory_).has_value());
  }
  // All that names these instances on the machine: others may run there.
  std::string machine_state() const {
    return shell(
        "(ip -o link; ip -4 -o addr; ip route; nft list tables; cat /proc/self/mountinfo; find " +
        directory_.string() + ") 2>/dev/null | grep -E 'hob[-_](" + options(0).instance + "|" +
        options(1).instance + ")|hob-vpc-test'");
  }
  VpcOptions options(int number) const {
    return {.instance = fmt::format("{:05x}{}", ::getpid() & 0xfffff, number),
            .run_directory = directory_ / std::to_string(number),
            .shared_directory = directory_ / "shared"};
  }
  static TaskAddress address(int number) {
    return {.task = fmt::format("{:08x}{:024x}", number, ::getpid()),
            .address = fmt::format("198.18.0.{}", number),
            .gateway = "198.18.0.1"};
  }
  fs::path attach(int number) {
    const auto attached = vpc_->attach(address(number));
    EXPECT_TRUE(attached.has_value()) << attached.error().message;
    return attached.value_or(fs::path());
  }

  std::string before_;
  fs::path directory_;
  std::optional<Vpc> vpc_;
};

TEST_F(VpcTest, ConnectsTheRouterToTasksAndNothingElse) {
  const fs::path one = attach(16);
  const fs::path two = attach(17);
  const Fd first = listen_in(one, 80);
  const Fd second = listen_in(two, 80);
  const Fd router = listen_in(vpc_->handle(), 8080);
  const fs::path machine = "/proc/self/ns/net";
  const Fd machines = listen_in(machine, 0);
  sockaddr_in at{};
  socklen_t size = sizeof(at);
  ASSERT_EQ(::getsockname(machines.get(), reinterpret_cast<sockaddr*>(&at), &size), 0);
  const uint16_t machine_port = ntohs(at.sin_port);
  const std::string outside = shell("ip -4 -o addr show dev hob-" + options(0).instance +
                                    " | sed 's/.*inet \\([0-9.]*\\).*/\\1/' | tr -d '\\n'");
  EXPECT_EQ(connect_from(vpc_->handle(), "198.18.0.16", 80), "connected");
  EXPECT_EQ(connect_from(vpc_->handle(), "198.18.0.17", 80), "connected");
  EXPECT_EQ(connect_from(one, "198.18.0.16", 80), "connected") << "itself";
  EXPECT_EQ(connect_from(one, "198.18.0.17", 80), "refused") << "a neighbour";
  EXPECT_EQ(connect_from(one, "198.18.0.1", 8080), "refused") << "the router";
  EXPECT_EQ(connect_from(one, outside, machine_port), "refused") << "the machine, at " << outside;
  EXPECT_EQ(connect_from(one, "169.254.169.254", 80), "refused") << "the machine's cloud";
  const std::string uplink = shell(
      "ip -4 -o addr show dev $(ip route | sed -n 's/^default.* dev \\([^ ]*\\).*/\\1/p' |"
      " head -n1) 2>/dev/null | sed 's/.*inet \\([0-9.]*\\).*/\\1/' | head -n1 | tr -d '\\n'");
  if (uplink.find_first_not_of("0123456789.") == std::string::npos && !uplink.empty()) {
    EXPECT_EQ(connect_from(one, uplink, machine_port), "silence") << "the machine, at " << uplink;
  }
}

TEST_F(VpcTest, KeepsWhatIsThereAndMakesAnewWhatIsNot) {
  const fs::path one = attach(16);
  const Fd listening = listen_in(one, 80);
  ASSERT_TRUE(vpc_->set_up().has_value());
  EXPECT_EQ(attach(16), one);
  EXPECT_EQ(Vpc(options(0)).attached().value(), std::vector<std::string>{address(16).task});
  EXPECT_EQ(connect_from(vpc_->handle(), "198.18.0.16", 80), "connected")
      << "set_up and attach kept it";
  // Half-made: the link is gone.
  shell("nsenter --net=" + vpc_->handle().string() + " ip link del t" +
        address(16).task.substr(0, 14));
  attach(16);
  EXPECT_EQ(connect_from(vpc_->handle(), "198.18.0.16", 80), "refused")
      << "made anew, nobody listens";
  // Another address for the same task, and the old one for another.
  TaskAddress moved = address(16);
  moved.address = "198.18.0.99";
  ASSERT_TRUE(vpc_->attach(moved).has_value());
  EXPECT_EQ(connect_from(vpc_->handle(), "198.18.0.99", 80), "refused");
  ASSERT_TRUE(vpc_->detach(moved.task).has_value());
  ASSERT_TRUE(vpc_->detach(moved.task).has_value()) << "twice";
  EXPECT_TRUE(vpc_->attached()->empty());
}

TEST_F(VpcTest, TasksBindPort80AndHaveNoIpv6) {
  const fs::path one = attach(16);
  EXPECT_EQ(shell("nsenter --net=" + one.string() +
                  " sh -c 'cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ip -6 -o addr'"),
            "0\n");
}

TEST_F(VpcTest, RefusesWhatIsNoTaskOrAddress) {
  for (const auto& [task, at, gateway] :
       {std::tuple{"../x", "198.18.0.16", "198.18.0.1"},
        std::tuple{"", "198.18.0.16", "198.18.0.1"},
        std::tuple{"0123456789abcdef0123456789abcdef", "198.19.0.16", "198.18.0.1"},
        std::tuple{"0123456789abcdef0123456789abcdef", "198.18.0.1", "198.18.0.1"},
        std::tuple{"0123456789abcdef0123456789abcdef", "198.18.0.16", ""}}) {
    EXPECT_EQ(vpc_->attach({.task = task, .address = at, .gateway = gateway}).error().code,
              Code::kInvalid)
        << task << at;
  }
}

TEST_F(VpcTest, TwoInstancesHaveTheSameAddresses) {
  Vpc other(options(1));
  ASSERT_TRUE(other.set_up().has_value());
  const fs::path mine = attach(16);
  const auto theirs = other.attach(address(16));
  ASSERT_TRUE(theirs.has_value());
  const Fd listening = listen_in(*theirs, 80);
  EXPECT_EQ(connect_from(vpc_->handle(), "198.18.0.16", 80), "refused");
  EXPECT_EQ(connect_from(other.handle(), "198.18.0.16", 80), "connected");
  ASSERT_TRUE(other.tear_down().has_value());
  EXPECT_EQ(connect_from(vpc_->handle(), "198.18.0.16", 80), "refused") << "mine is still there";
}

// The last to go takes the shared directory away while another comes.
TEST_F(VpcTest, InstancesComeAndGoAtOnce) {
  ASSERT_TRUE(vpc_->tear_down().has_value());
  const auto come_and_go = [this](int number) {
    Vpc vpc(options(number));
    for (int i = 0; i < 10; ++i) {
      const auto up = vpc.set_up();
      EXPECT_TRUE(up.has_value()) << up.error().message;
      const auto down = vpc.tear_down();
      EXPECT_TRUE(down.has_value()) << down.error().message;
    }
  };
  std::thread other([&] { come_and_go(1); });
  come_and_go(0);
  other.join();
}

// A resolver of the machine that answers every question with its own bytes, once it is let.
class VpcDnsTest : public VpcTest {};

TEST_F(VpcDnsTest, ForwardsToTheMachinesResolversAndFailsClearly) {
  namespace asio = boost::asio;
  const fs::path one = attach(16);
  asio::io_context loop;
  asio::ip::udp::socket resolver(loop, {asio::ip::make_address("127.0.0.1"), 0});
  const fs::path conf = directory_ / "resolv.conf";
  DnsForwarder forwarder({.vpc = vpc_->handle(),
                          .resolv_conf = conf,
                          .resolver_port = resolver.local_endpoint().port()},
                         loop.get_executor());
  ASSERT_TRUE(forwarder.start().has_value());
  AsyncScope scope(loop.get_executor());
  scope.spawn("resolver", [&resolver]() -> Async<> {
    std::string buffer(2048, '\0');
    while (true) {
      asio::ip::udp::endpoint from;
      const size_t size =
          co_await resolver.async_receive_from(asio::buffer(buffer), from, asio::use_awaitable);
      std::string answer = buffer.substr(0, size) + "the answer";
      answer[2] = static_cast<char>(answer[2] | '\x80');
      co_await resolver.async_send_to(asio::buffer(answer), from, asio::use_awaitable);
    }
  });
  std::thread serving([&loop] { loop.run(); });
  using namespace std::string_literals;
  const std::string query =
      "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01x\x00\x00\x01\x00\x01"s;
  const auto ask = [&] {
    std::string answer(2048, '\0');
    const auto asked = in_namespace(one, [&]() -> Result<void> {
      const Fd made(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      const timeval patience{.tv_sec = 10, .tv_usec = 0};
      ::setsockopt(made.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
      sockaddr_in to{};
      to.sin_family = AF_INET;
      to.sin_port = htons(53);
      ::inet_pton(AF_INET, "198.18.0.2", &to.sin_addr);
      if (::connect(made.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0)
        return fail_errno(errno, "connect");
      for (const std::string& message : {"nonsense"s, query}) {
        if (::send(made.get(), message.data(), message.size(), 0) < 0)
          return fail_errno(errno, "send");
      }
      const ssize_t got = ::recv(made.get(), answer.data(), answer.size(), 0);
      if (got < 0) return fail_errno(errno, "recv");
      answer.resize(static_cast<size_t>(got));
      return {};
    });
    return asked ? answer : asked.error().message;
  };
  const std::string without_resolver = ask();
  EXPECT_TRUE(answers_dns(query, without_resolver));
  EXPECT_EQ(without_resolver, dns_servfail(query));
  std::ofstream(conf) << "nameserver 127.0.0.1\n";
  const std::string answer = ask();
  EXPECT_TRUE(answers_dns(query, answer));
  EXPECT_TRUE(answer.ends_with("the answer")) << answer;
  asio::post(loop, [&] { scope.cancel(); });
  asio::co_spawn(loop, forwarder.stop(), asio::detached);
  serving.join();
  fs::remove(conf);
}

}  // namespace
}  // namespace hob::network
