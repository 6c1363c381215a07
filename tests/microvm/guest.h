// What the tests on real guests share: a running hob-vmm, its files, its API.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

namespace vmm_guest {

inline std::string files;  // the folder with hob-vmm, kernels, initrd
inline constexpr int kPatienceSeconds =
    120;  // a guest boots in 5 to 20 s where KVM itself is emulated

// A running hob-vmm, its output read as it comes. Killed at the end if it still runs.
class Vmm {
 public:
  explicit Vmm(std::vector<std::string> arguments) : Vmm("hob-vmm", std::move(arguments)) {}
  // `program`: of the files.
  Vmm(const std::string& program, std::vector<std::string> arguments) {
    int output[2];
    int input[2];
    EXPECT_EQ(pipe2(output, O_CLOEXEC) + pipe2(input, O_CLOEXEC), 0);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(input[0], 0);
      dup2(output[1], 1);
      dup2(output[1], 2);
      std::vector<char*> argv;
      arguments.insert(arguments.begin(), files + "/" + program);
      for (std::string& argument : arguments) argv.push_back(argument.data());
      argv.push_back(nullptr);
      execv(argv[0], argv.data());
      _exit(127);
    }
    close(input[0]);
    close(output[1]);
    input_ = input[1];
    output_ = output[0];
  }
  void type(const std::string& text) const {
    EXPECT_EQ(write(input_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  ~Vmm() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close(input_);
    close(output_);
  }
  pid_t pid() const { return pid_; }
  // False: it ended, or too much time went by.
  bool says(const std::string& text) {
    return read_until([&] { return said_.find(text) != std::string::npos; });
  }
  // Until `done` is content with what it has said. False: it ended, or too much time went by.
  template <class Done>
  bool until(Done done) {
    return read_until([&] { return done(said_); });
  }
  // Its exit code; nullopt: it did not end by itself.
  std::optional<int> end() {
    read_until([] { return false; });
    int status = 0;
    if (!closed_ || waitpid(pid_, &status, 0) != pid_ || !WIFEXITED(status)) return std::nullopt;
    pid_ = -1;
    return WEXITSTATUS(status);
  }
  // Takes what is on its way; true: then nothing came for three of the guest's ticks.
  bool falls_silent() {
    for (int pieces = 0; pieces < 100; ++pieces) {
      pollfd waiting{.fd = output_, .events = POLLIN, .revents = 0};
      if (poll(&waiting, 1, 3000) == 0) return true;
      char bytes[4096];
      const ssize_t got = read(output_, bytes, sizeof bytes);
      if (got <= 0) return false;
      said_.append(bytes, static_cast<size_t>(got));
    }
    return false;
  }
  const std::string& said() const { return said_; }

 private:
  template <class Done>
  bool read_until(Done done) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(kPatienceSeconds);
    while (!done()) {
      pollfd waiting{.fd = output_, .events = POLLIN, .revents = 0};
      if (std::chrono::steady_clock::now() > deadline) return false;
      if (poll(&waiting, 1, 1000) <= 0) continue;
      char bytes[4096];
      const ssize_t got = read(output_, bytes, sizeof bytes);
      if (got <= 0) {
        closed_ = true;
        return done();
      }
      said_.append(bytes, static_cast<size_t>(got));
    }
    return true;
  }
  pid_t pid_ = -1;
  int input_ = -1;
  int output_ = -1;
  bool closed_ = false;
  std::string said_;
};

inline std::string write_file(const std::string& name, const std::string& content) {
  const std::string path = files + "/" + name;
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A program beside the test, until its end.
class Beside {
 public:
  explicit Beside(std::vector<std::string> arguments) : pid_(fork()) {
    if (pid_ > 0) return;
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    _exit(127);
  }
  ~Beside() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  bool ends_within(int seconds) {
    for (int tenths = 0; tenths < 10 * seconds && pid_ > 0; ++tenths) {
      if (waitpid(pid_, nullptr, WNOHANG) == pid_)
        pid_ = -1;
      else
        usleep(100'000);
    }
    return pid_ <= 0;
  }

 private:
  pid_t pid_;
};

// What a program says; empty if it fails.
inline std::string run(std::vector<std::string> arguments) {
  int output[2];
  EXPECT_EQ(pipe2(output, O_CLOEXEC), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
    dup2(output[1], 1);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    _exit(127);
  }
  close(output[1]);
  std::string said;
  char bytes[4096];
  for (ssize_t got = 0; (got = read(output[0], bytes, sizeof bytes)) > 0;)
    said.append(bytes, static_cast<size_t>(got));
  close(output[0]);
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? said : "";
}

struct Guest {
  std::string kernel = "vmlinux";
  std::string test{};  // what guest_init.sh does
  int vcpus = 1;
  std::string drives{};
};

inline std::string boot_source(const std::string& test, const std::string& kernel = "vmlinux") {
  return R"({"kernel_image_path":")" + files + "/" + kernel + R"(","initrd_path":")" + files +
         R"(/initrd","boot_args":"console=ttyS0 reboot=k panic=-1 quiet loglevel=1 8250.nr_uarts=1 i8042.noaux i8042.nomux i8042.dumbkbd hob.test=)" +
         test + R"("})";
}

inline std::string configuration(const Guest& guest) {
  return R"({"boot-source":)" + boot_source(guest.test, guest.kernel) + R"(,"drives":[)" +
         guest.drives + R"(],"machine-config":{"vcpu_count":)" + std::to_string(guest.vcpus) +
         R"(,"mem_size_mib":128}})";
}

inline std::string drive(const std::string& id, const std::string& path, bool read_only) {
  return R"({"drive_id":")" + id +
         R"(","is_root_device":false,"cache_type":"Writeback","path_on_host":")" + path +
         R"(","is_read_only":)" + (read_only ? "true" : "false") + "}";
}

inline Vmm start(const Guest& guest) {
  return Vmm({"--no-api", "--config-file", write_file("config.json", configuration(guest))});
}

// One request on a connection of its own; the whole answer.
inline std::string ask(const std::string& socket_path, const std::string& method,
                       const std::string& path, const std::string& body = "") {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket_path.c_str(), sizeof address.sun_path - 1);
  bool connected = false;
  for (int i = 0; i < 100 && !connected; ++i) {
    connected = connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    if (!connected) usleep(100'000);
  }
  EXPECT_TRUE(connected);
  std::string request = method + " " + path + " HTTP/1.1\r\n";
  if (!body.empty()) request += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  request += "\r\n" + body;
  EXPECT_EQ(send(fd, request.data(), request.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(request.size()));
  char answer[8192];
  const ssize_t got = recv(fd, answer, sizeof answer, 0);
  close(fd);
  return {answer, got > 0 ? static_cast<size_t>(got) : 0};
}

}  // namespace vmm_guest
