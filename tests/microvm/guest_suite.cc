// hob-guest in a real microVM, spoken to as a host does. Needs a KVM that works.
//
//   guest_suite FILES [gtest's options]: FILES has vmlinuz, initrd, image (an EROFS with busybox in
//   it) and scratch (an ext4); hob-vmm is in PATH.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>

#include "base/file.h"
#include "guest/frame.h"

namespace hob::guest {
namespace {

std::filesystem::path files;
constexpr auto kPatience = std::chrono::seconds(90);  // KVM itself is emulated where this runs

sockaddr_un address(const std::string& path) {
  sockaddr_un made{};
  made.sun_family = AF_UNIX;
  path.copy(made.sun_path, sizeof made.sun_path - 1);
  return made;
}

// A connection that speaks the protocol, and what came over it.
class Conversation {
 public:
  explicit Conversation(Fd fd) : fd_(std::move(fd)) {}
  void send(FrameKind kind, std::string_view body) {
    std::string bytes;
    append_frame(bytes, kind, 0, body);
    EXPECT_EQ(::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  void order(const Order& order) { send(FrameKind::kRecord, encode(order)); }
  // False: the other side ended before, or too much time went by.
  bool until(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!done()) {
      pollfd waiting{.fd = fd_.get(), .events = POLLIN, .revents = 0};
      if (std::chrono::steady_clock::now() > deadline) return false;
      if (::poll(&waiting, 1, 1'000) <= 0) continue;
      char bytes[16384];
      const ssize_t got = ::recv(fd_.get(), bytes, sizeof bytes, 0);
      if (got <= 0) return done();
      reader_.feed({bytes, static_cast<size_t>(got)});
      for (auto frame = reader_.next(); frame && *frame; frame = reader_.next()) take(**frame);
    }
    return true;
  }
  bool prints(int container, const std::string& text) {
    return until([&] { return output[container].contains(text); });
  }
  bool reports(Event event, int container = 0) {
    return until([&] { return find(event, container) != nullptr; });
  }
  const Report* find(Event event, int container) const {
    for (const Report& report : all) {
      if (report.event == event && report.container == container) return &report;
    }
    return nullptr;
  }
  std::map<int, std::string> output, errors;
  std::vector<Report> all;

 private:
  void take(const Frame& frame) {
    if (frame.kind == FrameKind::kOutput) output[frame.container] += frame.body;
    if (frame.kind == FrameKind::kErrors) errors[frame.container] += frame.body;
    if (frame.kind != FrameKind::kRecord) return;
    const auto report = decode_report(frame.body);
    EXPECT_TRUE(report) << (report ? "" : report.error().message);
    if (report) all.push_back(*report);
  }
  Fd fd_;
  FrameReader reader_{kReportBytesMax};
};

Container shell(std::string name, std::string line) {
  return {.name = std::move(name),
          .image_device = "vdb",
          .arguments = {"/bin/sh", "-c", std::move(line)},
          .environment = {"PATH=/bin"}};
}

class Guest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/hob-guest-test-XXXXXX";
    folder_ = ::mkdtemp(name);
    std::filesystem::copy_file(files / "scratch", folder_ / "scratch");
    std::ofstream(folder_ / "vm.json")
        << R"({"boot-source":{"kernel_image_path":")" << (files / "vmlinuz").string()
        << R"(","initrd_path":")" << (files / "initrd").string()
        << R"(","boot_args":"console=ttyS0 8250.nr_uarts=1 reboot=k panic=-1 quiet loglevel=1"},)"
        << R"("machine-config":{"vcpu_count":1,"mem_size_mib":160},"drives":[)"
        << R"({"drive_id":"scratch","is_root_device":false,"path_on_host":"scratch"},)"
        << R"({"drive_id":"image","is_root_device":false,"is_read_only":true,"path_on_host":")"
        << (files / "image").string() << R"("}],"vsock":{"guest_cid":3,"uds_path":"v"}})";
    listening_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un own = address(folder_ / "v_1024");
    ASSERT_EQ(::bind(listening_.get(), reinterpret_cast<const sockaddr*>(&own), sizeof own), 0);
    ASSERT_EQ(::listen(listening_.get(), 1), 0);
    vmm_ = ::fork();
    if (vmm_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::chdir(folder_.c_str()) != 0) ::_exit(1);
      ::execlp("hob-vmm", "hob-vmm", "--no-api", "--config-file", "vm.json", nullptr);
      ::_exit(127);
    }
    const Fd ended(static_cast<int>(::syscall(SYS_pidfd_open, vmm_, 0)));
    pollfd waiting[] = {{.fd = listening_.get(), .events = POLLIN, .revents = 0},
                        {.fd = ended.get(), .events = POLLIN, .revents = 0}};
    ASSERT_GE(::poll(waiting, 2, static_cast<int>(kPatience / std::chrono::milliseconds(1))), 1);
    ASSERT_NE(waiting[0].revents, 0) << "it ended before its init called";
    host_.emplace(Fd(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC)));
  }
  void TearDown() override {
    // It resets when its host is gone.
    const bool called = host_.has_value();
    host_.reset();
    if (!called) ::kill(vmm_, SIGKILL);
    int status = 0;
    EXPECT_EQ(::waitpid(vmm_, &status, 0), vmm_);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    EXPECT_TRUE(remove_tree(folder_));
  }
  void start(std::vector<Container> containers) {
    host_->order({.start = Start{.host_name = "guest",
                                 .hosts = "127.0.0.1\tlocalhost\n",
                                 .scratch_device = "vda",
                                 .clock_nanoseconds = int64_t{1'800'000'000} * 1'000'000'000,
                                 .containers = std::move(containers)}});
  }
  // A connection for one order.
  Conversation ask() {
    Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un to = address(folder_ / "v");
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
    EXPECT_EQ(::send(fd.get(), "CONNECT 1024\n", 13, MSG_NOSIGNAL), 13);
    std::string line;
    char byte = 0;
    while (!line.ends_with('\n') && ::recv(fd.get(), &byte, 1, 0) == 1) line += byte;
    EXPECT_TRUE(line.starts_with("OK ")) << line;
    return Conversation(std::move(fd));
  }

  std::filesystem::path folder_;
  Fd listening_;
  pid_t vmm_ = -1;
  std::optional<Conversation> host_;
};

TEST_F(Guest, RunsContainersInTheirOrderWithRootsAndUsersOfTheirOwn) {
  Container first = shell("first", "id -u; echo one > /mark; cat /mark; sleep 1; exit 3");
  Container second = shell("second", "id -u; cat /mark; hostname; echo problem >&2; exit 4");
  second.user = "1000";
  second.depends_on = {{.container = "first", .condition = Condition::kComplete}};
  Container never = shell("never", "echo never");
  never.depends_on = {{.container = "first", .condition = Condition::kSuccess}};
  start({second, first, never});
  ASSERT_TRUE(host_->reports(Event::kExited, 0));
  EXPECT_EQ(host_->find(Event::kExited, 1)->exit_code, 3);
  EXPECT_EQ(host_->find(Event::kExited, 0)->exit_code, 4);
  EXPECT_EQ(host_->output[1], "0\none\n");
  EXPECT_EQ(host_->output[0], "1000\nguest\n");
  EXPECT_NE(host_->errors[0].find("problem\n"), std::string::npos);
  ASSERT_NE(host_->find(Event::kFailed, 2), nullptr);
  EXPECT_TRUE(host_->find(Event::kFailed, 2)->invalid);
  EXPECT_LT(host_->find(Event::kExited, 1), host_->find(Event::kStarted, 0)) << "in this order";
}

TEST_F(Guest, SaysWhatCannotStart) {
  Container missing = shell("missing", "");
  missing.arguments = {"nginx"};
  Container nobody = shell("nobody", "true");
  nobody.user = "nobody-here";
  start({missing, nobody});
  ASSERT_TRUE(host_->reports(Event::kFailed, 1));
  EXPECT_EQ(host_->find(Event::kFailed, 0)->reason,
            "exec: \"nginx\": executable file not found in $PATH");
  EXPECT_NE(host_->find(Event::kFailed, 1)->reason.find("unable to find user nobody-here"),
            std::string::npos);
}

TEST_F(Guest, ExecutesSignalsAndSetsItsClock) {
  Container web = shell("web",
                        "trap 'echo caught; exit 5' TERM; echo ready; date +%s;"
                        " while true; do sleep 0.1; done");
  web.memory_bytes = 64 << 20;
  web.processes_max = 32;
  start({web});
  ASSERT_TRUE(host_->prints(0, "ready\n18000000"));

  Conversation piped = ask();
  piped.order({.execute = Execute{.arguments = {"sh", "-c", "cat; echo err >&2; exit 9"}}});
  piped.send(FrameKind::kInput, "through a pipe\n");
  piped.send(FrameKind::kInput, "");
  ASSERT_TRUE(piped.reports(Event::kExited));
  EXPECT_EQ(piped.find(Event::kExited, 0)->exit_code, 9);
  EXPECT_EQ(piped.output[0], "through a pipe\n");
  EXPECT_EQ(piped.errors[0], "err\n");

  Conversation terminal = ask();
  terminal.order(
      {.execute = Execute{.arguments = {"sh"}, .terminal = true, .rows = 7, .columns = 9}});
  terminal.send(FrameKind::kInput, "stty size; cat /proc/1/comm\n");
  ASSERT_TRUE(terminal.prints(0, "7 9\r\nsh\r\n"));
  terminal.order({.window = WindowSize{.rows = 11, .columns = 12}});
  terminal.send(FrameKind::kInput, "stty size\n");
  ASSERT_TRUE(terminal.prints(0, "11 12\r\n"));
  terminal.send(FrameKind::kInput, "exit 6\n");
  ASSERT_TRUE(terminal.reports(Event::kExited));
  EXPECT_EQ(terminal.find(Event::kExited, 0)->exit_code, 6);

  Conversation clock = ask();
  clock.order({.clock_nanoseconds = int64_t{1'900'000'000} * 1'000'000'000});
  ASSERT_TRUE(clock.reports(Event::kDone));
  Conversation date = ask();
  date.order({.execute = Execute{.arguments = {"date", "+%s"}}});
  ASSERT_TRUE(date.reports(Event::kExited));
  EXPECT_TRUE(date.output[0].starts_with("19000000")) << date.output[0];

  Conversation wrong = ask();
  wrong.order({.signal = Signal{.container = 3, .number = SIGTERM}});
  ASSERT_TRUE(wrong.reports(Event::kFailed));
  Conversation stop = ask();
  stop.order({.signal = Signal{.number = SIGTERM}});
  ASSERT_TRUE(stop.reports(Event::kDone));
  ASSERT_TRUE(host_->reports(Event::kExited));
  EXPECT_EQ(host_->find(Event::kExited, 0)->exit_code, 5);
}

TEST_F(Guest, ChecksHealthAndWaitsForIt) {
  Container web =
      shell("web", "sleep 2; touch /well; sleep 3; rm /well; while true; do sleep 1; done");
  web.health = HealthCheck{.command = {"test", "-e", "/well"},
                           .interval_seconds = 1,
                           .retries = 1,
                           .start_period_seconds = 60};
  Container later = shell("later", "echo later");
  later.depends_on = {{.container = "web", .condition = Condition::kHealthy}};
  start({web, later});
  ASSERT_TRUE(host_->prints(1, "later\n"));
  EXPECT_NE(host_->find(Event::kHealthy, 0), nullptr);
  ASSERT_TRUE(host_->reports(Event::kUnhealthy, 0));
}

}  // namespace
}  // namespace hob::guest

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (argc != 2) {
    std::fprintf(stderr, "usage: guest_suite FILES\n");
    return 2;
  }
  hob::guest::files = argv[1];
  return RUN_ALL_TESTS();
}
