// Snapshots of real guests: taken, and restored in another process.
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <sstream>
#include <thread>

#include "guest.h"

namespace {

using namespace vmm_guest;

// A line that the guest says each second (guest_init.sh, "snapshot").
struct Line {
  int count = 0;
  long time = 0;
  std::string id{};
  std::string random{};
  int changes = 0;  // interrupts by the generation id's device
  int drawn = 0;    // bytes of its entropy device's
  std::string metadata{};
};

// The last whole one of `said` with a count of at least `count_min`.
std::optional<Line> last_line(const std::string& said, int count_min) {
  const size_t end = said.rfind(" end");
  if (end == std::string::npos) return {};
  const size_t start = said.rfind("line ", end);
  if (start == std::string::npos) return {};
  std::istringstream words(said.substr(start, end - start));
  std::string word;
  Line line;
  words >> word >> line.count >> word >> line.time >> word >> line.id >> word >> line.random >>
      word >> line.changes >> word >> line.drawn >> word >> line.metadata;
  return words && line.count >= count_min ? std::optional(line) : std::nullopt;
}

// A monitor with its API's socket.
struct Served {
  explicit Served(const std::string& name)
      : socket(files + "/" + name + ".socket"), vmm([&] {
          unlink(socket.c_str());
          return std::vector<std::string>{"--api-sock", socket, "--id", name};
        }()) {}
  bool ok(const std::string& method, const std::string& path, const std::string& body) {
    const std::string answer = ask(socket, method, path, body);
    EXPECT_NE(answer.find(" 204 "), std::string::npos) << method << path << answer;
    return answer.find(" 204 ") != std::string::npos;
  }
  // The devices whose state a snapshot has to hold, besides a disk.
  bool configure_devices() {
    return ok("PUT", "/entropy", R"({"rate_limiter":{"ops":{"size":100,"refill_time":10}}})") &&
           ok("PUT", "/network-interfaces/eth0", R"({"iface_id":"eth0","host_dev_name":"tap8"})") &&
           ok("PUT", "/mmds/config", R"({"network_interfaces":["eth0"]})") &&
           ok("PUT", "/mmds", R"({"name":"first"})");
  }
  bool boot(const std::string& kernel, const std::string& machine, const std::string& disk) {
    return ok("PUT", "/machine-config", machine) &&
           ok("PUT", "/boot-source",
              R"({"kernel_image_path":")" + files + "/" + kernel + R"(","initrd_path":")" + files +
                  R"(/initrd","boot_args":"console=ttyS0 reboot=k panic=-1 quiet loglevel=1 8250.nr_uarts=1 i8042.noaux i8042.nomux i8042.dumbkbd hob.test=snapshot"})") &&
           (disk.empty() ||
            ok("PUT", "/drives/data",
               R"({"drive_id":"data","is_root_device":false,"io_engine":"Async","path_on_host":")" +
                   disk + "\"}")) &&
           ok("PUT", "/actions", R"({"action_type":"InstanceStart"})");
  }
  bool pause() { return ok("PATCH", "/vm", R"({"state":"Paused"})"); }
  bool resume() { return ok("PATCH", "/vm", R"({"state":"Resumed"})"); }
  bool create(const std::string& name, const std::string& type) {
    return ok("PUT", "/snapshot/create",
              R"({"snapshot_type":")" + type + R"(","snapshot_path":")" + files + "/" + name +
                  R"(.state","mem_file_path":")" + files + "/" + name + R"(.memory"})");
  }
  bool load(const std::string& state, const std::string& backend, const std::string& path,
            const std::string& more = "") {
    return ok("PUT", "/snapshot/load",
              R"({"snapshot_path":")" + files + "/" + state +
                  R"(.state","mem_backend":{"backend_type":")" + backend + R"(","backend_path":")" +
                  path + R"("},"resume_vm":true)" + more + "}");
  }
  // The guest's next line, or what it says of count `count_min` or later.
  std::optional<Line> line(int count_min) {
    std::optional<Line> found;
    vmm.until([&](const std::string& said) {
      found = last_line(said, count_min);
      return found.has_value();
    });
    EXPECT_TRUE(found) << vmm.said();
    return found;
  }
  std::string socket;
  Vmm vmm;
};

constexpr const char* kMachine = R"({"vcpu_count":2,"mem_size_mib":128})";
constexpr const char* kTracked = R"({"vcpu_count":1,"mem_size_mib":256,"track_dirty_pages":true})";

// Fills a restored guest's memory from a file, as a page is first touched.
class FaultHandler {
 public:
  FaultHandler(const std::string& path, const std::string& memory) {
    unlink(path.c_str());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener_, 1), 0);
    EXPECT_EQ(pipe2(stop_, O_CLOEXEC), 0);
    thread_ = std::thread([this, memory] { serve(memory); });
  }
  ~FaultHandler() {
    close(stop_[1]);
    thread_.join();
    close(listener_);
    close(stop_[0]);
  }
  std::string message{};  // after the first page
  std::atomic<int> pages = 0;

 private:
  int take_descriptor() {
    const int client = accept(listener_, nullptr, nullptr);
    std::array<char, 4096> text{};
    iovec bytes{.iov_base = text.data(), .iov_len = text.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr received{};
    received.msg_iov = &bytes;
    received.msg_iovlen = 1;
    received.msg_control = control;
    received.msg_controllen = sizeof control;
    const ssize_t got = recvmsg(client, &received, 0);
    close(client);
    const cmsghdr* rights = CMSG_FIRSTHDR(&received);
    if (got <= 0 || rights == nullptr) return -1;
    message.assign(text.data(), static_cast<size_t>(got));
    int descriptor = -1;
    std::memcpy(&descriptor, CMSG_DATA(rights), sizeof descriptor);
    return descriptor;
  }
  uint64_t number(const std::string& name) const {
    return std::stoull(message.substr(message.find("\"" + name + "\":") + name.size() + 3));
  }
  void serve(const std::string& memory) {
    const int faults = take_descriptor();
    const int file = open(memory.c_str(), O_RDONLY | O_CLOEXEC);
    const uint64_t base = number("base_host_virt_addr");
    const uint64_t bytes = number("size");
    void* source = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file, 0);
    while (true) {
      std::array<pollfd, 2> waiting = {{{.fd = faults, .events = POLLIN, .revents = 0},
                                        {.fd = stop_[0], .events = 0, .revents = 0}}};
      poll(waiting.data(), waiting.size(), -1);
      if (waiting[1].revents != 0) break;
      uffd_msg event{};
      if (read(faults, &event, sizeof event) != sizeof event || event.event != UFFD_EVENT_PAGEFAULT)
        continue;
      const uint64_t page = event.arg.pagefault.address & ~uint64_t{4095};
      uffdio_copy copy{};
      copy.dst = page;
      copy.src = reinterpret_cast<uint64_t>(source) + (page - base);
      copy.len = 4096;
      if (ioctl(faults, UFFDIO_COPY, &copy) == 0) ++pages;
    }
    munmap(source, bytes);
    close(file);
    close(faults);
  }
  int listener_ = -1;
  int stop_[2] = {-1, -1};
  std::thread thread_;
};

// Lays a diff over a full snapshot's memory: what is no hole in it.
void lay_over(const std::string& diff, const std::string& full) {
  const int from = open(diff.c_str(), O_RDONLY | O_CLOEXEC);
  const int to = open(full.c_str(), O_WRONLY | O_CLOEXEC);
  std::string piece;
  for (off_t at = lseek(from, 0, SEEK_DATA); at >= 0; at = lseek(from, at, SEEK_DATA)) {
    const off_t end = lseek(from, at, SEEK_HOLE);
    piece.resize(static_cast<size_t>(end - at));
    EXPECT_EQ(pread(from, piece.data(), piece.size(), at), end - at);
    EXPECT_EQ(pwrite(to, piece.data(), piece.size(), at), end - at);
    at = end;
  }
  close(from);
  close(to);
}

off_t blocks_of(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(stat(path.c_str(), &status), 0);
  return status.st_blocks * 512;
}

TEST(VmmSnapshot, GoesOnInAnotherProcessWithItsDiskAndARightClock) {
  const std::string disk = write_file("snapshot-disk", std::string(1 << 20, 'x'));
  std::optional<Line> before;
  {
    Served first("first");
    ASSERT_TRUE(first.configure_devices() && first.boot("vmlinux", kMachine, disk));
    before = first.line(2);
    ASSERT_TRUE(before);
    EXPECT_EQ(before->drawn, 16);
    EXPECT_EQ(before->metadata, "first");
    EXPECT_NE(ask(first.socket, "PUT", "/snapshot/create",
                  R"({"snapshot_path":"/files/x","mem_file_path":"/files/y"})")
                  .find("save/restore unavailable while running"),
              std::string::npos);
    ASSERT_TRUE(first.pause() && first.create("full", "Full"));
    // It goes on after a snapshot.
    ASSERT_TRUE(first.resume() && first.line(before->count + 2));
  }
  sleep(3);
  Served second("second");
  const std::string memory = files + "/full.memory";
  const long loaded = time(nullptr);
  ASSERT_TRUE(second.load("full", "File", memory, R"(,"clock_realtime":true)"));
  EXPECT_NE(ask(second.socket, "GET", "/").find(R"("state":"Running")"), std::string::npos);
  EXPECT_NE(ask(second.socket, "GET", "/vm/config").find(R"("drive_id":"data")"),
            std::string::npos);
  ASSERT_TRUE(second.ok("PUT", "/mmds", R"({"name":"second"})"));  // it is told anew
  const auto after = second.line(before->count + 2);
  ASSERT_TRUE(after);
  // It said so after the load, and before now.
  EXPECT_GE(after->time, loaded - 1) << "the guest's clock is right";
  EXPECT_LE(after->time, time(nullptr) + 1) << "the guest's clock is right";
  EXPECT_NE(after->id, before->id);
  EXPECT_EQ(after->changes, before->changes + 1) << "its driver is told of the new id";
  EXPECT_EQ(after->drawn, 16);
  EXPECT_EQ(after->metadata, "second");
  EXPECT_EQ(read_file(disk).substr(512, 6), "count ");
  // And a snapshot of a restored machine, without tracking: a diff against what it was restored
  // from.
  ASSERT_TRUE(second.pause() && second.create("later", "Diff"));
  EXPECT_LT(blocks_of(files + "/later.memory"), 64 << 20);
  std::ofstream(files + "/merged.memory", std::ios::binary) << read_file(memory);
  lay_over(files + "/later.memory", files + "/merged.memory");
  Served third("third");
  ASSERT_TRUE(third.load("later", "File", files + "/merged.memory",
                         R"(,"network_overrides":[{"iface_id":"eth0","host_dev_name":"tap9"}])"));
  EXPECT_TRUE(third.line(after->count + 2));
  EXPECT_EQ(
      ask(third.socket, "PUT", "/actions", R"({"action_type":"SendCtrlAltDel"})").find(" 204 "),
      size_t{8});
  EXPECT_EQ(third.vmm.end(), 0) << third.vmm.said();
}

TEST(VmmSnapshot, MemoryIsFilledByAHandlerOfPageFaults) {
  // The snapshot of the test above: what is restored does not change it.
  FaultHandler handler(files + "/faults.socket", files + "/full.memory");
  Served restored("handled");
  ASSERT_TRUE(restored.load("full", "Uffd", files + "/faults.socket"));
  EXPECT_TRUE(restored.line(4));
  EXPECT_GT(handler.pages, 100);
  EXPECT_NE(handler.message.find(R"("offset":0,"page_size":4096,"page_size_kib":4096)"),
            std::string::npos)
      << handler.message;
}

TEST(VmmSnapshot, ADamagedFileIsRefusedAndEndsTheMonitor) {
  std::string state = read_file(files + "/full.state");
  ASSERT_GT(state.size(), 1000u);
  state[state.size() / 2] ^= 1;
  write_file("damaged.state", state);
  Served refused("refused");
  const std::string answer =
      ask(refused.socket, "PUT", "/snapshot/load",
          R"({"snapshot_path":")" + files +
              R"(/damaged.state","mem_backend":{"backend_type":"File","backend_path":")" + files +
              R"(/full.memory"}})");
  EXPECT_NE(answer.find("Load snapshot error: "), std::string::npos) << answer;
  EXPECT_NE(answer.find("damaged"), std::string::npos) << answer;
  EXPECT_EQ(refused.vmm.end(), 1);
}

TEST(VmmSnapshot, ClonesHaveEntropyAndIdentityOfTheirOwnAndDiffsHoldWhatChanged) {
  std::optional<Line> before;
  {
    Served origin("origin");
    ASSERT_TRUE(origin.boot("vmlinux-generic", kTracked, ""));
    before = origin.line(2);
    ASSERT_TRUE(before && origin.pause() && origin.create("base", "Full") && origin.resume());
    before = origin.line(before->count + 3);
    ASSERT_TRUE(before && origin.pause() && origin.create("diff", "Diff"));
  }
  EXPECT_LT(blocks_of(files + "/diff.memory"), 64 << 20);
  lay_over(files + "/diff.memory", files + "/base.memory");
  Served first("clone1");
  Served second("clone2");
  ASSERT_TRUE(first.load("diff", "File", files + "/base.memory"));
  ASSERT_TRUE(second.load("diff", "File", files + "/base.memory"));
  const auto a = first.line(before->count + 2);
  const auto b = second.line(before->count + 2);
  ASSERT_TRUE(a && b);
  EXPECT_NE(a->id, b->id);
  EXPECT_NE(a->random, b->random);
}

}  // namespace
