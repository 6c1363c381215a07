// What the measurements of monitors share: the kernel's tracer, a monitor that runs, its API.
//
// Times are the kernel's monotonic clock: of this process, and of the tracer's events, which show
// the moments without a change to the monitor. A figure is printed as "FIGURE who what value".
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

namespace vmm_bench {

namespace fs = std::filesystem;

inline constexpr const char* kTracing = "/sys/kernel/tracing/";
inline constexpr double kPatienceSeconds = 60;  // of this machine's own time

inline double now() {
  timespec at{};
  clock_gettime(CLOCK_MONOTONIC, &at);
  return static_cast<double>(at.tv_sec) + static_cast<double>(at.tv_nsec) / 1e9;
}

inline void figure(const std::string& who, const std::string& what, double value) {
  std::cout << "FIGURE " << who << ' ' << what << ' ' << value << std::endl;
}

[[noreturn]] inline void fail(const std::string& what) {
  std::cout << "FAILED " << what << std::endl;
  std::exit(1);
}

inline void put(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text << std::flush;
  if (!file) fail("writing " + path);
}

inline std::string content(const std::string& path) {
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
  // One of KVM's counters of its machine, the only one that there is. (Its folder is named after
  // the thread that made it.)
  double counter(const char* name) const {
    for (const auto& entry : fs::directory_iterator("/sys/kernel/debug/kvm"))
      if (entry.is_directory()) return std::stod(content(entry.path() / name));
    fail("no counters of its machine");
  }

 private:
  pid_t pid_ = -1;
  int output_ = -1;
  std::string said_;
};

// Tries until someone listens there; a descriptor that the caller closes.
inline int connected(const std::string& socket_path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket_path.c_str(), sizeof address.sun_path - 1);
  const double deadline = now() + kPatienceSeconds;
  while (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) {
    if (now() > deadline) fail("connecting to " + socket_path);
    usleep(50);
  }
  return fd;
}

inline void send_all(int fd, const std::string& bytes) {
  if (write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) fail("writing");
}

inline std::string ask(const std::string& socket_path, const std::string& method,
                       const std::string& path, const std::string& body) {
  const int fd = connected(socket_path);
  std::string request = method + " " + path + " HTTP/1.1\r\n";
  if (!body.empty()) request += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  send_all(fd, request + "\r\n" + body);
  std::array<char, 8192> answer{};
  const ssize_t got = read(fd, answer.data(), answer.size());
  close(fd);
  const std::string text(answer.data(), got > 0 ? static_cast<size_t>(got) : 0);
  if (!text.contains(" 204 ") && !text.contains(" 200 ")) fail(method + " " + path + ": " + text);
  return text;
}

}  // namespace vmm_bench
