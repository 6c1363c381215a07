// Measures monitors with real guests where KVM works: hob-vmm, and QEMU's machine "microvm".
//
//   vmm_bench FILES GROUP: one of the groups at the end. FILES has hob-vmm, qemu (a folder with the
//   program and its libraries), vmlinux, initrd (vmm_bench_guest is its init), initrd-peer
//   (vmm_bench_peer is), disk
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include <functional>
#include <map>

#include "monitor.h"

namespace {

using namespace vmm_bench;

std::string files;
constexpr double kIdleSeconds = 20;
constexpr const char* kBootArguments =
    "reboot=k panic=-1 quiet loglevel=1 8250.nr_uarts=1 i8042.noaux i8042.nomux i8042.dumbkbd ";
// What vmm_bench_peer.cc does at these ports.
constexpr uint16_t kSinkPort = 1001, kSourcePort = 1002, kEchoPort = 1003;
constexpr double kStreamBytes = 64 << 20;
constexpr int kRoundTrips = 500;
constexpr const char* kTap = "bench0";
constexpr uint32_t kHostAddress = 0xc6120701;   // 198.18.7.1
constexpr uint32_t kGuestAddress = 0xc6120702;  // 198.18.7.2

enum class Devices { kNone, kDisk, kMost };

std::string configuration(const std::string& initrd, const std::string& more, Devices devices) {
  std::string all = R"({"boot-source":{"kernel_image_path":")" + files +
                    R"(/vmlinux","initrd_path":")" + files + "/" + initrd + R"(","boot_args":")" +
                    kBootArguments + more +
                    R"("},"machine-config":{"vcpu_count":1,"mem_size_mib":128},"drives":[)";
  if (devices != Devices::kNone)
    all += R"({"drive_id":"d","is_root_device":false,"path_on_host":")" + files + R"(/disk"})";
  all += "]";
  if (devices == Devices::kMost)
    all += std::string(R"(,"network-interfaces":[{"iface_id":"n","host_dev_name":")") + kTap +
           R"("}],"vsock":{"guest_cid":3,"uds_path":")" + files +
           R"(/vsock"},"entropy":{},"balloon":{"amount_mib":0,"deflate_on_oom":true})";
  return all + "}";
}

Process hob_vmm(const std::string& initrd, const std::string& more,
                Devices devices = Devices::kNone) {
  put(files + "/config.json", configuration(initrd, more, devices));
  Tracer::clear();
  return Process({files + "/hob-vmm", "--no-api", "--config-file", files + "/config.json"});
}

Process qemu(const std::string& initrd, const std::string& more, Devices devices = Devices::kNone) {
  std::vector<std::string> command = {
      files + "/qemu/ld.so",
      "--library-path",
      files + "/qemu",
      files + "/qemu/qemu-system-x86_64",
      "-L",
      files + "/qemu",
      "-M",
      "microvm,accel=kvm,x-option-roms=off,pit=off,pic=off,rtc=off,isa-serial=on",
      "-cpu",
      "host",
      "-m",
      "128",
      "-nodefaults",
      "-no-user-config",
      "-display",
      "none",
      "-serial",
      "stdio",
      "-no-reboot",
      "-kernel",
      files + "/vmlinux",
      "-initrd",
      files + "/" + initrd,
      "-append",
      std::string(kBootArguments) + more};
  if (devices != Devices::kNone)
    command.insert(command.end(), {"-drive", "id=d,if=none,format=raw,file=" + files + "/disk",
                                   "-device", "virtio-blk-device,drive=d"});
  if (devices == Devices::kMost)
    command.insert(command.end(),
                   {"-netdev", std::string("tap,id=n,script=no,downscript=no,ifname=") + kTap,
                    "-device", "virtio-net-device,netdev=n"});
  Tracer::clear();
  return Process(command);
}

// From the program's start to its first KVM_RUN, to the guest's first instruction in userspace.
void boot(const std::string& who, Process process) {
  process.says("!");
  // Host interrupts come with time, so they are taken off.
  figure(who, "exits", process.counter("exits") - process.counter("irq_exits"));
  figure(who, "port_exits", process.counter("io_exits"));
  figure(who, "mmio_exits", process.counter("mmio_exits"));
  figure(who, "fault_exits", process.counter("pf_taken"));
  const double started = Tracer::first(Tracer::kStarted);
  figure(who, "run_ms", 1e3 * (Tracer::first(Tracer::kRun) - started));
  figure(who, "userspace_ms", 1e3 * (Tracer::first(Tracer::kMark) - started));
  figure(who, "own_mib", process.own_mib());
  const double before = process.cpu_seconds();
  const double from = now();
  usleep(static_cast<useconds_t>(kIdleSeconds * 1e6));
  figure(who, "idle_cpu_percent", 100 * (process.cpu_seconds() - before) / (now() - from));
}

// The guest tells begin and end of what it does with its disk (vmm_bench_peer.cc).
void blocks(const std::string& who, Process& process) {
  struct Row {
    const char* name;
    const char* unit;
    double amount;
    const char* cpu;  // a request's; nullptr: not told
  };
  for (const Row& row : {Row{"read-small", "read_iops", 2000, "read_cpu_us"},
                         Row{"write-small", "write_iops", 2000, "write_cpu_us"},
                         Row{"read-large", "read_mb_per_s", 33.554432, nullptr},
                         Row{"write-large", "write_mb_per_s", 33.554432, nullptr}}) {
    const double begin = process.says(std::string("begin ") + row.name);
    const double before = process.cpu_seconds();
    const double end = process.says(std::string("end ") + row.name);
    figure(who, row.unit, row.amount / (end - begin));
    if (row.cpu != nullptr)
      figure(who, row.cpu, 1e6 * (process.cpu_seconds() - before) / row.amount);
  }
}

// Streams both ways and single bytes there and back, each over a connection of its own.
void peer(const std::string& who, const std::string& by,
          const std::function<int(uint16_t port)>& connect_to) {
  std::string piece(64 << 10, 'x');
  {
    const int fd = connect_to(kSinkPort);
    const double begin = now();
    for (double sent = 0; sent < kStreamBytes; sent += static_cast<double>(piece.size()))
      send_all(fd, piece);
    shutdown(fd, SHUT_WR);
    if (read(fd, piece.data(), 1) != 1) fail(by + ": the guest did not take it all");
    figure(who, by + "_in_mb_per_s", kStreamBytes / 1e6 / (now() - begin));
    close(fd);
  }
  {
    const int fd = connect_to(kSourcePort);
    const double begin = now();
    double taken = 0;
    while (taken < kStreamBytes) {
      const ssize_t got = read(fd, piece.data(), piece.size());
      if (got <= 0) fail(by + ": the guest did not give it all");
      taken += static_cast<double>(got);
    }
    figure(who, by + "_out_mb_per_s", kStreamBytes / 1e6 / (now() - begin));
    close(fd);
  }
  const int fd = connect_to(kEchoPort);
  const double begin = now();
  for (int i = 0; i < kRoundTrips; ++i) {
    send_all(fd, "x");
    if (read(fd, piece.data(), 1) != 1) fail(by + ": no echo");
  }
  figure(who, by + "_round_trip_us", 1e6 * (now() - begin) / kRoundTrips);
  close(fd);
}

sockaddr_in internet(uint32_t address, uint16_t port) {
  sockaddr_in all{};
  all.sin_family = AF_INET;
  all.sin_addr.s_addr = htonl(address);
  all.sin_port = htons(port);
  return all;
}

// The tap is the monitor's, which made it; here it gets its address.
void bring_up_tap() {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq request{};
  std::strncpy(request.ifr_name, kTap, sizeof request.ifr_name - 1);
  const auto set = [&](unsigned long call, uint32_t address) {
    const sockaddr_in value = internet(address, 0);
    std::memcpy(&request.ifr_addr, &value, sizeof value);
    if (ioctl(fd, call, &request) < 0) fail("the tap's address");
  };
  set(SIOCSIFADDR, kHostAddress);
  set(SIOCSIFNETMASK, 0xffffff00);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (ioctl(fd, SIOCSIFFLAGS, &request) < 0) fail("bringing the tap up");
  close(fd);
}

int connect_by_tcp(uint16_t port) {
  const double deadline = now() + kPatienceSeconds;
  while (true) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in to = internet(kGuestAddress, port);
    if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) {
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      return fd;
    }
    close(fd);
    if (now() > deadline) fail("connecting to the guest by its network");
    usleep(10'000);
  }
}

int connect_by_vsock(uint16_t port) {
  const int fd = connected(files + "/vsock");
  send_all(fd, "CONNECT " + std::to_string(port) + "\n");
  std::string answer;
  for (char c = 0; c != '\n'; answer += c)
    if (read(fd, &c, 1) != 1) fail("connecting to the guest by vsock: " + answer);
  return fd;
}

void devices(const std::string& who, Process process) {
  blocks(who, process);
  process.says("serving");
  figure(who, "own_most_mib", process.own_mib());
  bring_up_tap();
  peer(who, "net", connect_by_tcp);
  if (who == "hob-vmm") peer(who, "vsock", connect_by_vsock);
}

// A machine by the API, paused and resumed, saved; then others made from that.
void api(const std::string& who) {
  const std::string path = files + "/api.socket";
  Tracer::clear();
  Process process({files + "/hob-vmm", "--api-sock", path});
  close(connected(path));
  figure(who, "api_ready_cpu_ms", 1e3 * process.cpu_seconds());
  figure(who, "api_ready_mib", process.own_mib());
  figure(who, "api_ready_ms",
         1e3 * (Tracer::first(Tracer::kListening) - Tracer::first(Tracer::kStarted)));
  ask(path, "PUT", "/boot-source",
      R"({"kernel_image_path":")" + files + R"(/vmlinux","initrd_path":")" + files +
          R"(/initrd","boot_args":")" + kBootArguments + R"("})");
  ask(path, "PUT", "/actions", R"({"action_type":"InstanceStart"})");
  process.says("!.");
  constexpr int kRounds = 20;
  double pause = 0, resume = 0;
  for (int i = 0; i < kRounds; ++i) {
    const double from = now();
    ask(path, "PATCH", "/vm", R"({"state":"Paused"})");
    const double paused = now();
    ask(path, "PATCH", "/vm", R"({"state":"Resumed"})");
    pause += paused - from;
    resume += now() - paused;
  }
  figure(who, "pause_ms", 1e3 * pause / kRounds);
  figure(who, "resume_ms", 1e3 * resume / kRounds);
  ask(path, "PATCH", "/vm", R"({"state":"Paused"})");
  const double from = now();
  ask(path, "PUT", "/snapshot/create",
      R"({"snapshot_path":")" + files + R"(/state","mem_file_path":")" + files + R"(/memory"})");
  figure(who, "snapshot_create_ms", 1e3 * (now() - from));
}

// From the program's start, and from the request to load, to the first KVM_RUN and to the guest's
// first output.
void restore(const std::string& who) {
  const std::string path = files + "/restore.socket";
  Tracer::clear();
  Process process({files + "/hob-vmm", "--api-sock", path});
  const int fd = connected(path);
  close(fd);
  const double asked = now();
  ask(path, "PUT", "/snapshot/load",
      R"({"snapshot_path":")" + files +
          R"(/state","mem_backend":{"backend_type":"File","backend_path":")" + files +
          R"(/memory"},"resume_vm":true})");
  process.says(".");
  const double started = Tracer::first(Tracer::kStarted);
  const double run = Tracer::first(Tracer::kRun);
  const double output = Tracer::first(Tracer::kOutput);
  figure(who, "restore_run_ms", 1e3 * (run - started));
  figure(who, "restore_output_ms", 1e3 * (output - started));
  figure(who, "load_run_ms", 1e3 * (run - asked));
  figure(who, "restore_own_mib", process.own_mib());
}

}  // namespace

int main(int, char** argv) {
  files = argv[1];
  // Each begins with a run that is not counted, after which the files' pages are in memory.
  const std::map<std::string, void (*)()> groups = {
      {"boot",
       [] {
         hob_vmm("initrd", "-- idle").says("!");
         boot("hob-vmm", hob_vmm("initrd", "-- idle"));
       }},
      {"api",
       [] {
         hob_vmm("initrd", "-- idle").says("!");
         api("hob-vmm");
         restore("hob-vmm");
       }},
      // Where changes of control groups do not wait for the kernel's RCU (docs/microvm.md).
      {"favored",
       [] {
         if (mount("cgroup", "/sys/fs/cgroup", "cgroup2", 0, "favordynmods") < 0)
           fail("mounting the control groups");
         hob_vmm("initrd", "-- idle").says("!");
         boot("favored", hob_vmm("initrd", "-- idle"));
         api("favored");
         restore("favored");
       }},
      {"devices",
       [] { devices("hob-vmm", hob_vmm("initrd-peer", "console=ttyS0", Devices::kMost)); }},
      {"qemu-boot",
       [] {
         qemu("initrd", "-- idle").says("!");
         boot("qemu", qemu("initrd", "-- idle"));
       }},
      {"qemu-devices",
       [] { devices("qemu", qemu("initrd-peer", "console=ttyS0", Devices::kMost)); }},
  };
  const auto group = groups.find(argv[2]);
  if (group == groups.end()) fail(std::string("no group ") + argv[2]);
  Tracer tracer;
  group->second();
  return 0;
}
