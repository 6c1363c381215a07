// What every sandbox driver is tested with: an agent, a VPC, an image. The tests are in
// sandbox_suite_life.h and sandbox_suite_sleep.h (what it promises) and sandbox_suite_hostile.h
// (what a task may try). A driver's test file includes them and names its factory:
//
//   INSTANTIATE_TEST_SUITE_P(Container, SandboxSuite, testing::Values(Driver{"Container", make}));
//
// Needs root, busybox-static, and a network namespace for every task, so it makes a VPC of its own.
// Each test compares the machine before and after.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/process.h"
#include "network/vpc.h"
#include "sandbox/sandbox.h"

namespace hob::sandbox {

struct SandboxPlace {
  std::filesystem::path directory{};
  std::filesystem::path shared_directory{};
  std::string instance{};
};

struct Driver {
  const char* name = "";
  std::function<std::unique_ptr<Sandbox>(const SandboxPlace&, const Executor&, BlockingPool&)>
      make{};
  std::function<bool()> here = [] { return true; };  // whether this machine can run it
};

// An agent: a loop with a sandbox. Destroyed, its tasks run on.
class Agent {
 public:
  Agent(const Driver& driver, const SandboxPlace& place)
      : pool_(4), sandbox_(driver.make(place, loop_.get_executor(), pool_)) {}
  ~Agent() { pool_.join(); }
  Sandbox& sandbox() { return *sandbox_; }

  // Runs the loop until `work` is done.
  template <class T>
  T run(Async<T> work) {
    std::optional<T> result;
    boost::asio::co_spawn(loop_, std::move(work), [&](std::exception_ptr failed, T value) {
      if (failed) std::rethrow_exception(failed);
      result = std::move(value);
    });
    loop_.restart();
    loop_.run();
    return std::move(*result);
  }
  Result<void> open() { return run(sandbox_->open()); }
  Result<void> start(TaskSpec spec) { return run(sandbox_->start(std::move(spec))); }
  Result<TaskExit> wait(const std::string& task) { return run(sandbox_->wait(task)); }
  Result<void> signal(const std::string& task, int number) {
    return run(sandbox_->signal(task, number));
  }
  Result<void> remove(const std::string& task) { return run(sandbox_->remove(task)); }
  Result<void> freeze(const std::string& task) { return run(sandbox_->freeze(task)); }
  Result<void> thaw(const std::string& task) { return run(sandbox_->thaw(task)); }
  void catch_up(const std::string& task) {
    run([](Sandbox& sandbox, std::string of) -> Async<bool> {
      co_await sandbox.catch_up(std::move(of));
      co_return true;
    }(*sandbox_, task));
  }
  Result<std::vector<AdoptedTask>> adopt() { return run(sandbox_->adopt()); }

 private:
  boost::asio::io_context loop_;
  BlockingPool pool_;
  std::unique_ptr<Sandbox> sandbox_;
};

class SandboxSuite : public testing::TestWithParam<Driver> {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    if (!GetParam().here()) GTEST_SKIP() << "not on this machine";
    before_ = machine_state();
    char name[] = "/tmp/hob-sandbox-test-XXXXXX";
    directory_ = ::mkdtemp(name);
    place_ = {.directory = directory_ / "data",
              .shared_directory = directory_ / "shared",
              .instance = instance()};
    vpc_.emplace(network::VpcOptions{.instance = instance(),
                                     .run_directory = directory_ / "run",
                                     .shared_directory = directory_ / "shared"});
    const auto set_up = vpc_->set_up();
    ASSERT_TRUE(set_up.has_value()) << set_up.error().message;
    make_layer();
    ASSERT_NO_FATAL_FAILURE(restart_agent());
  }
  void TearDown() override {
    if (!vpc_) return;
    for (const std::string& task : used_) {
      const auto removed = agent_->remove(task);
      EXPECT_TRUE(removed.has_value()) << removed.error().message;
    }
    agent_.reset();
    EXPECT_TRUE(vpc_->tear_down().has_value());
    EXPECT_TRUE(remove_tree(directory_).has_value());
    EXPECT_EQ(machine_state(), before_);
  }

  static std::string instance() { return fmt::format("{:05x}f", ::getpid() & 0xfffff); }
  static std::string shell(const std::string& command) {
    const auto exit = run_blocking({.argv = {"/bin/sh", "-c", command}}, std::chrono::seconds(30));
    return exit ? exit->output + exit->errors : exit.error().message;
  }
  // What a task must not leave behind: mounts, loop devices in use, cgroups, namespaces, processes,
  // files in /run. Only what names this test's instance or place: others may run on the machine.
  static std::string machine_state() {
    return shell(
        "(cat /proc/self/mountinfo; losetup -a; find /sys/fs/cgroup -name 'hob-*'; ls -d "
        "/run/hob*; ip -o link;"
        " nft list tables; ps -eo args) 2>/dev/null | grep -v grep | grep -E 'hob[-_]" +
        instance() + "|hob-sandbox-test'");
  }

  // The smallest image: busybox with its applets, as a layer owned by root.
  void make_layer() {
    const std::string root = (directory_ / "layer").string();
    const std::string made =
        shell("set -e; mkdir -p " + root + "; cd " + root +
              "; mkdir -p bin etc tmp root var/www; chmod 1777 tmp; cp /bin/busybox bin/;"
              " for a in sh cat ls id httpd sleep true false echo mount dd kill yes head wc ps "
              "hostname tail touch chmod"
              " ln mkdir env test stat df sync seq nc printf expr ulimit cut grep readlink mknod; "
              "do ln -s busybox"
              " bin/$a; done;"
              " echo root:x:0:0:root:/root:/bin/sh > etc/passwd; echo "
              "app:x:1000:1000:app:/home/app:/bin/sh >> etc/passwd;"
              " printf 'root:x:0:\\napp:x:1000:\\nstaff:x:50:app\\n' > etc/group; echo hello > "
              "var/www/index.html");
    ASSERT_EQ(made, "");
  }
  void restart_agent() {
    agent_.emplace(GetParam(), place_);
    const auto opened = agent_->open();
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
  }

  // A task that runs a shell line, with an address of its own.
  TaskSpec task(std::vector<std::string> command) {
    const int number = static_cast<int>(used_.size()) + 10;
    TaskSpec spec;
    spec.task = fmt::format("{:08x}{:024x}", number, ::getpid());
    used_.push_back(spec.task);
    spec.address = fmt::format("198.18.0.{}", number);
    const auto attached =
        vpc_->attach({.task = spec.task, .address = spec.address, .gateway = "198.18.0.1"});
    EXPECT_TRUE(attached.has_value()) << attached.error().message;
    if (attached) spec.network_namespace = *attached;
    spec.name_server = "198.18.0.2";
    spec.host_name = fmt::format("ip-198-18-0-{}", number);
    spec.image.layers = {directory_ / "layer"};
    spec.command = std::move(command);
    spec.memory_mib = 64;
    spec.storage_mib = 64;
    spec.processes_max = 64;
    return spec;
  }
  TaskSpec script(const std::string& line) { return task({"/bin/sh", "-c", line}); }

  struct Ended {
    TaskExit exit{};
    std::string output{};
  };
  // Starts, waits for the end, and reads what it printed.
  Ended run(TaskSpec spec) {
    const std::string id = spec.task;
    const auto started = agent_->start(std::move(spec));
    EXPECT_TRUE(started.has_value()) << started.error().message;
    if (!started) return {};
    const auto exit = agent_->wait(id);
    EXPECT_TRUE(exit.has_value()) << exit.error().message;
    return {.exit = exit.value_or(TaskExit{}), .output = output(id)};
  }
  // The text of the task's log, its prefixes taken off.
  std::string output(const std::string& id) {
    const auto log = read_file(agent_->sandbox().log_path(id), 64 * 1024 * 1024);
    std::string text;
    for (size_t at = 0; log && at < log->size();) {
      const size_t end = std::min(log->find('\n', at), log->size());
      const std::string line = log->substr(at, end - at);
      size_t start = 0;
      for (int field = 0; field < 3 && start != std::string::npos; ++field) {
        start = line.find(' ', start);
        if (start != std::string::npos) ++start;
      }
      if (start != std::string::npos) text += line.substr(start) + "\n";
      at = end + 1;
    }
    return text;
  }
  // What an HTTP/1.0 server at that address answers to GET /, connected to from the VPC; retried
  // until it listens.
  std::string fetch(const std::string& address, uint16_t port) {
    for (int attempt = 0; attempt < 500; ++attempt) {
      if (const auto asked = ask(address, port)) {
        if (std::string answer = answer_on(*asked); !answer.empty()) return answer;
      }
      ::usleep(5'000);
    }
    return "nothing listens";
  }
  // A connection from the VPC, begun: one to a machine that stands still is made when it goes on,
  // and asks then.
  struct Asked {
    Fd connection{};
    bool sent = false;
  };
  Result<Asked> ask(const std::string& address, uint16_t port) {
    Asked asked;
    HOB_TRY(asked.connection, network::socket_in(vpc_->handle(), [&]() -> Result<Fd> {
              Fd made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
              sockaddr_in to{};
              to.sin_family = AF_INET;
              to.sin_port = htons(port);
              ::inet_pton(AF_INET, address.c_str(), &to.sin_addr);
              if (::connect(made.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0 &&
                  errno != EINPROGRESS)
                return fail_errno(errno, "connecting");
              return made;
            }));
    pollfd made{.fd = asked.connection.get(), .events = POLLOUT, .revents = 0};
    asked.sent = ::poll(&made, 1, 0) == 1 && send_request(asked.connection);
    if (made.revents != 0 && !asked.sent) return fail(Code::kUnavailable, "nothing listens");
    return asked;
  }
  static bool send_request(const Fd& connection) {
    constexpr std::string_view kRequest = "GET /index.html HTTP/1.0\r\n\r\n";
    return ::send(connection.get(), kRequest.data(), kRequest.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(kRequest.size());
  }
  // Empty: nothing listens.
  static std::string answer_on(const Asked& asked) {
    const int fd = asked.connection.get();
    pollfd made{.fd = fd, .events = POLLOUT, .revents = 0};
    while (::poll(&made, 1, -1) < 0) {
    }
    if (!asked.sent && !send_request(asked.connection)) return {};
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    std::string answer;
    char buffer[4096];
    for (ssize_t got = 0; (got = ::read(fd, buffer, sizeof(buffer))) > 0;) {
      answer.append(buffer, static_cast<size_t>(got));
    }
    return answer;
  }

  std::string before_;
  std::filesystem::path directory_;
  SandboxPlace place_;
  std::optional<network::Vpc> vpc_;
  std::optional<Agent> agent_;
  std::vector<std::string> used_;
};

}  // namespace hob::sandbox
