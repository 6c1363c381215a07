// The init of the guests whose devices are measured: what it does with its disk it does past the
// kernel's cache and tells when; then it takes, gives and echoes bytes by TCP and by vsock.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace {

constexpr size_t kPiece = 64 << 10;
constexpr size_t kLargeBytes = 1 << 20;
constexpr int kSmallRequests = 2000;
constexpr int kLargeRequests = 32;
alignas(4096) char buffer[kLargeBytes];

[[noreturn]] void fail(const char* what) {
  std::printf("FAILED in the guest: %s\n", what);
  std::fflush(stdout);
  while (true) sleep(3600);
}

void say(const char* first, const char* second) {
  std::printf("%s %s\n", first, second);
  std::fflush(stdout);
}

void load(const char* module) {
  char path[128];
  std::snprintf(path, sizeof path, "/modules/%s.ko", module);
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) != 0) fail(module);
  close(fd);
}

void transfer(const char* name, int fd, bool write, size_t bytes, int count) {
  say("begin", name);
  for (int i = 0; i < count; ++i) {
    const auto at = static_cast<off_t>(static_cast<size_t>(i) * bytes);
    const ssize_t done = write ? pwrite(fd, buffer, bytes, at) : pread(fd, buffer, bytes, at);
    if (done != static_cast<ssize_t>(bytes)) fail(name);
  }
  say("end", name);
}

void bring_up_network() {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq request{};
  std::strcpy(request.ifr_name, "eth0");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = inet_addr("198.18.7.2");
  std::memcpy(&request.ifr_addr, &address, sizeof address);
  if (ioctl(fd, SIOCSIFADDR, &request) < 0) fail("eth0's address");
  address.sin_addr.s_addr = inet_addr("255.255.255.0");
  std::memcpy(&request.ifr_netmask, &address, sizeof address);
  if (ioctl(fd, SIOCSIFNETMASK, &request) < 0) fail("eth0's mask");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (ioctl(fd, SIOCSIFFLAGS, &request) < 0) fail("eth0");
  close(fd);
}

void take(int fd) {
  while (read(fd, buffer, kPiece) > 0) {
  }
  if (write(fd, "k", 1) != 1) fail("telling that all has come");
}
void give(int fd) {
  while (send(fd, buffer, kPiece, MSG_NOSIGNAL) > 0) {
  }
}
void echo(int fd) {
  while (read(fd, buffer, 1) == 1 && write(fd, buffer, 1) == 1) {
  }
}

// A process that serves one connection after the other.
void serve(int listener, void (*with)(int)) {
  if (fork() != 0) return;
  while (true) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) continue;
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // vsock has none, and needs none
    with(fd);
    close(fd);
  }
}

int listener(int family, const void* address, socklen_t bytes) {
  const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, static_cast<const sockaddr*>(address), bytes) < 0 || listen(fd, 8) < 0)
    fail("listening");
  return fd;
}

}  // namespace

int main() {
  mkdir("/dev", 0755);
  mount("dev", "/dev", "devtmpfs", 0, "");
  const int console = open("/dev/console", O_RDWR);
  for (int fd = 0; fd < 3; ++fd) dup2(console, fd);
  for (const char* module :
       {"virtio_ring", "virtio", "virtio_mmio", "virtio_blk", "failover", "net_failover",
        "virtio_net", "vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"})
    load(module);
  const int disk = open("/dev/vda", O_RDWR | O_DIRECT | O_CLOEXEC);
  if (disk < 0) fail("/dev/vda");
  transfer("read-small", disk, false, 4096, kSmallRequests);
  transfer("write-small", disk, true, 4096, kSmallRequests);
  transfer("read-large", disk, false, kLargeBytes, kLargeRequests);
  transfer("write-large", disk, true, kLargeBytes, kLargeRequests);
  bring_up_network();
  struct Service {
    uint16_t port;
    void (*with)(int);
  };
  for (const Service& service : {Service{1001, take}, Service{1002, give}, Service{1003, echo}}) {
    sockaddr_in tcp{};
    tcp.sin_family = AF_INET;
    tcp.sin_port = htons(service.port);
    serve(listener(AF_INET, &tcp, sizeof tcp), service.with);
    sockaddr_vm vsock{};
    vsock.svm_family = AF_VSOCK;
    vsock.svm_cid = VMADDR_CID_ANY;
    vsock.svm_port = service.port;
    serve(listener(AF_VSOCK, &vsock, sizeof vsock), service.with);
  }
  say("serving", "");
  while (true) sleep(3600);
}
