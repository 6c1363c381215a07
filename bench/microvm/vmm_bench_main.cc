// Measures monitors with real guests where KVM works: hob-vmm, and QEMU's machine "microvm".
//
//   vmm_bench FILES: has hob-vmm, qemu (a folder with the program and its libraries), vmlinux,
//   initrd (vmm_bench_guest is its init), initrd-blocks, disk
//
// Times are the kernel's monotonic clock: of this process, and of the tracer's events, which show
// the moments without a change to the monitor. A figure is printed as "FIGURE who what value".
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

std::string files;
constexpr const char* kTracing = "/sys/kernel/tracing/";
constexpr double kPatienceSeconds = 60;  // of this machine's own time
constexpr double kIdleSeconds = 20;

double now() {
  timespec at{};
  clock_gettime(CLOCK_MONOTONIC, &at);
  return static_cast<double>(at.tv_sec) + static_cast<double>(at.tv_nsec) / 1e9;
}

void figure(const std::string& who, const std::string& what, double value) {
  std::cout << "FIGURE " << who << ' ' << what << ' ' << value << std::endl;
}

void fail(const std::string& what) {
  std::cout << "FAILED " << what << std::endl;
  std::exit(1);
}

void put(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text << std::flush;
  if (!file) fail("writing " + path);
}

std::string content(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The kernel's tracer, for the events that mark a monitor's way.
class Tracer {
 public:
  Tracer() {
    put(at("trace_clock"), "mono");
    put(at("buffer_size_kb"), "8192");
    put(at("events/kvm/kvm_pio/filter"), "port == 0x3f8");
    put(at("events/syscalls/sys_enter_ioctl/filter"), "cmd == 0xae80");
    for (const char* event : {"kvm/kvm_pio", "syscalls/sys_enter_ioctl", "syscalls/sys_exit_listen",
                              "sched/sched_process_exec"})
      put(at("events/") + event + "/enable", "1");
    clear();
  }
  static void clear() { put(at("trace"), ""); }
  // The moment of the first event since clear() whose line has `part`; 0: none.
  static double first(const std::string& part) {
    std::ifstream trace(at("trace"));
    for (std::string line; std::getline(trace, line);) {
      if (line.starts_with('#') || !line.contains(part)) continue;
      // "task-pid [cpu] flags seconds: event: …"
      const size_t end = line.find(": ");
      return std::stod(line.substr(line.rfind(' ', end) + 1));
    }
    return 0;
  }
  static constexpr const char* kRun = "sys_ioctl(";
  static constexpr const char* kMark =
      "kvm_pio: pio_write at 0x3f8 size 1 count 1 val 0x21";  // "!"
  static constexpr const char* kOutput = "kvm_pio: pio_write at 0x3f8";
  static constexpr const char* kListening = "sys_listen -> 0x0";
  static constexpr const char* kStarted = "sched_process_exec: filename=";

 private:
  static std::string at(const char* name) { return std::string(kTracing) + name; }
};

// A monitor that runs, with its output.
class Process {
 public:
  explicit Process(std::vector<std::string> command) {
    int output[2];
    if (pipe2(output, O_CLOEXEC) < 0) fail("pipe");
    pid_ = fork();
    if (pid_ == 0) {
      dup2(output[1], 1);
      dup2(output[1], 2);
      std::vector<char*> argv;
      for (std::string& argument : command) argv.push_back(argument.data());
      argv.push_back(nullptr);
      execv(argv[0], argv.data());
      _exit(127);
    }
    close(output[1]);
    output_ = output[0];
  }
  ~Process() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    close(output_);
  }
  pid_t pid() const { return pid_; }
  // Until it has said `text`; when that came.
  double says(const std::string& text) {
    const double deadline = now() + kPatienceSeconds;
    while (!said_.contains(text)) {
      pollfd waiting{.fd = output_, .events = POLLIN, .revents = 0};
      std::array<char, 4096> bytes{};
      if (now() > deadline || poll(&waiting, 1, 1000) < 0)
        fail("it did not say " + text + ": " + said_);
      if (waiting.revents == 0) continue;
      const ssize_t got = read(output_, bytes.data(), bytes.size());
      if (got <= 0) fail("it ended: " + said_);
      said_.append(bytes.data(), static_cast<size_t>(got));
    }
    return now();
  }
  double cpu_seconds() const {
    clockid_t clock{};
    timespec used{};
    if (clock_getcpuclockid(pid_, &clock) != 0 || clock_gettime(clock, &used) != 0)
      fail("its CPU time");
    return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
  }
  // Resident memory in MiB, the guest's mapping (writable, 32 MiB and more with its neighbours)
  // apart.
  double own_mib() const {
    std::ifstream maps("/proc/" + std::to_string(pid_) + "/smaps");
    struct Mapping {
      uint64_t start = 0, end = 0, pss_kib = 0;
      bool writable = false;
    };
    std::vector<Mapping> mappings;
    for (std::string line; std::getline(maps, line);) {
      Mapping mapping;
      std::array<char, 5> mode{};
      if (std::sscanf(line.c_str(), "%lx-%lx %4s", &mapping.start, &mapping.end, mode.data()) ==
          3) {
        mapping.writable = mode[1] == 'w';
        mappings.push_back(mapping);
      } else if (line.starts_with("Pss:")) {
        mappings.back().pss_kib = std::stoull(line.substr(4));
      }
    }
    uint64_t own = 0;
    for (size_t i = 0; i < mappings.size();) {
      uint64_t bytes = 0, pss = 0;
      size_t next = i;
      do {
        bytes += mappings[next].end - mappings[next].start;
        pss += mappings[next].pss_kib;
        ++next;
      } while (next < mappings.size() && mappings[i].writable && mappings[next].writable &&
               mappings[next].start == mappings[next - 1].end);
      if (!mappings[i].writable || bytes < 32 << 20) own += pss;
      i = next;
    }
    return static_cast<double>(own) / 1024;
  }
  // KVM's counters of its machine; host interrupts come with time, so they are taken off.
  double exits() const {
    for (const auto& entry : fs::directory_iterator("/sys/kernel/debug/kvm")) {
      if (!entry.path().filename().string().starts_with(std::to_string(pid_) + "-")) continue;
      return std::stod(content(entry.path() / "exits")) -
             std::stod(content(entry.path() / "irq_exits"));
    }
    fail("no counters of its machine");
    return 0;
  }

 private:
  pid_t pid_ = -1;
  int output_ = -1;
  std::string said_;
};

std::string ask(const std::string& socket_path, const std::string& method, const std::string& path,
                const std::string& body) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket_path.c_str(), sizeof address.sun_path - 1);
  const double deadline = now() + kPatienceSeconds;
  while (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) {
    if (now() > deadline) fail("connecting to " + socket_path);
    usleep(1000);
  }
  std::string request = method + " " + path + " HTTP/1.1\r\n";
  if (!body.empty()) request += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  request += "\r\n" + body;
  std::array<char, 8192> answer{};
  if (write(fd, request.data(), request.size()) < 0) fail("asking");
  const ssize_t got = read(fd, answer.data(), answer.size());
  close(fd);
  const std::string text(answer.data(), got > 0 ? static_cast<size_t>(got) : 0);
  if (!text.contains(" 204 ") && !text.contains(" 200 ")) fail(method + " " + path + ": " + text);
  return text;
}

constexpr const char* kBootArguments =
    "reboot=k panic=-1 quiet loglevel=1 8250.nr_uarts=1 i8042.noaux i8042.nomux i8042.dumbkbd ";

std::string configuration(const std::string& initrd, const std::string& more,
                          const std::string& drives) {
  return R"({"boot-source":{"kernel_image_path":")" + files + R"(/vmlinux","initrd_path":")" +
         files + "/" + initrd + R"(","boot_args":")" + kBootArguments + more + R"("},"drives":[)" +
         drives + R"(],"machine-config":{"vcpu_count":1,"mem_size_mib":128}})";
}

Process hob_vmm(const std::string& initrd, const std::string& more,
                const std::string& drives = "") {
  put(files + "/config.json", configuration(initrd, more, drives));
  Tracer::clear();
  return Process({files + "/hob-vmm", "--no-api", "--config-file", files + "/config.json"});
}

Process qemu(const std::string& initrd, const std::string& more, bool disk = false) {
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
  if (disk)
    command.insert(command.end(), {"-drive", "id=d,if=none,format=raw,file=" + files + "/disk",
                                   "-device", "virtio-blk-device,drive=d"});
  Tracer::clear();
  return Process(command);
}

// From the program's start to its first KVM_RUN, to the guest's first instruction in userspace.
void boot(const std::string& who, Process process) {
  process.says("!");
  const double exits = process.exits();
  const double started = Tracer::first(Tracer::kStarted);
  figure(who, "run_ms", 1e3 * (Tracer::first(Tracer::kRun) - started));
  figure(who, "userspace_ms", 1e3 * (Tracer::first(Tracer::kMark) - started));
  figure(who, "exits", exits);
  figure(who, "own_mib", process.own_mib());
  const double before = process.cpu_seconds();
  const double from = now();
  usleep(static_cast<useconds_t>(kIdleSeconds * 1e6));
  figure(who, "idle_cpu_percent", 100 * (process.cpu_seconds() - before) / (now() - from));
}

// The guest tells begin and end of its reads (block_init.sh).
void blocks(const std::string& who, Process process) {
  for (const auto& [name, unit, amount] : {std::tuple{"small", "read_iops", 2000.0},
                                           std::tuple{"large", "read_mb_per_s", 33.554432}}) {
    const double begin = process.says(std::string("begin ") + name);
    const double end = process.says(std::string("end ") + name);
    figure(who, unit, amount / (end - begin));
  }
}

void api() {
  const std::string path = files + "/api.socket";
  Tracer::clear();
  Process process({files + "/hob-vmm", "--api-sock", path});
  ask(path, "GET", "/", "");
  figure("hob-vmm", "api_ready_ms",
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
  figure("hob-vmm", "pause_ms", 1e3 * pause / kRounds);
  figure("hob-vmm", "resume_ms", 1e3 * resume / kRounds);
  ask(path, "PATCH", "/vm", R"({"state":"Paused"})");
  const double from = now();
  ask(path, "PUT", "/snapshot/create",
      R"({"snapshot_path":")" + files + R"(/state","mem_file_path":")" + files + R"(/memory"})");
  figure("hob-vmm", "snapshot_create_ms", 1e3 * (now() - from));
}

// From the request to load it to the first KVM_RUN, to the guest's first output.
void restore() {
  const std::string path = files + "/restore.socket";
  Process process({files + "/hob-vmm", "--api-sock", path});
  ask(path, "GET", "/", "");
  Tracer::clear();
  const double from = now();
  ask(path, "PUT", "/snapshot/load",
      R"({"snapshot_path":")" + files +
          R"(/state","mem_backend":{"backend_type":"File","backend_path":")" + files +
          R"(/memory"},"resume_vm":true})");
  process.says(".");
  figure("hob-vmm", "restore_run_ms", 1e3 * (Tracer::first(Tracer::kRun) - from));
  figure("hob-vmm", "restore_output_ms", 1e3 * (Tracer::first(Tracer::kOutput) - from));
  figure("hob-vmm", "restore_own_mib", process.own_mib());
}

}  // namespace

int main(int, char** argv) {
  files = argv[1];
  Tracer tracer;
  // One run that is not counted: the files' pages are in memory afterwards.
  hob_vmm("initrd", "-- idle").says("!");
  boot("hob-vmm", hob_vmm("initrd", "-- idle"));
  api();
  restore();
  const std::string drive =
      R"({"drive_id":"d","is_root_device":false,"path_on_host":")" + files + R"(/disk"})";
  blocks("hob-vmm", hob_vmm("initrd-blocks", "console=ttyS0", drive));
  qemu("initrd", "-- idle").says("!");
  boot("qemu", qemu("initrd", "-- idle"));
  blocks("qemu", qemu("initrd-blocks", "console=ttyS0", true));
  return 0;
}
