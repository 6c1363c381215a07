// A guest that writes anything into its memory and its queues: a socket device takes packets from
// it, among them connections that reach a listener of the host's.
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "base/assert.h"
#include "microvm/virtio/vsock.h"

namespace {

using namespace hob::microvm;

struct Ignored final : DeviceInterrupt {
  void queue_used() override {}
  void configuration_changed() override {}
  void needs_reset() override {}
};

// Listeners for the whole run: at the device's path, and at port 1 of the host.
struct Host {
  Host() {
    char name[] = "/tmp/hob-vsock-fuzz-XXXXXX";
    HOB_ASSERT(mkdtemp(name) != nullptr);
    path = std::string(name) + "/v";
    device.emplace(*VsockListener::bind(path));
    port.emplace(*VsockListener::bind(path + "_1"));
    folder = name;
  }
  ~Host() {
    port.reset();
    device.reset();
    rmdir(folder.c_str());
  }
  std::string path, folder;
  std::optional<VsockListener> device, port;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Host host;
  const GuestMemory::Region range{.base = 0, .bytes = 0x20000};
  auto memory = GuestMemory::create(std::span(&range, 1), GuestMemory::Pages::kNormal, true);
  HOB_ASSERT(memory.has_value());
  // The input is the memory from the descriptors on: two tables, their rings, packets.
  const auto bytes = std::as_bytes(std::span(data, std::min<size_t>(size, 0x10000)));
  HOB_ASSERT(memory->write_bytes(0, bytes));
  auto loop = Loop::create();
  HOB_ASSERT(loop.has_value());
  auto vsock = Vsock::create(3, hob::Fd(dup(host.device->fd().get())), host.path, **loop);
  HOB_ASSERT(vsock.has_value());
  std::vector<Queue> queues(3, Queue(kQueueSizeMax));
  for (size_t i = 0; i < queues.size(); ++i) {
    queues[i].layout() = {.size = 16,
                          .descriptors = 0x300 * i,
                          .available = 0x300 * i + 0x100,
                          .used = 0x300 * i + 0x200};
    queues[i].ready = true;
    HOB_ASSERT(queues[i].start(*memory, size % 2 == 0));
  }
  Ignored interrupt;
  (*vsock)->activate({.memory = *memory, .queues = queues, .interrupt = interrupt, .features = 0});
  std::vector<hob::Fd> accepted;
  for (int turn = 0; turn < 4; ++turn) {
    (*vsock)->notified(0);
    (*vsock)->notified(1);
    for (int fd = -1;
         (fd = accept4(host.port->fd().get(), nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) {
      accepted.emplace_back(fd);
      (void)!send(fd, "from the host", 13, MSG_NOSIGNAL);
    }
    (*loop)->turn(0);
    if (turn == 2) accepted.clear();
  }
  return 0;
}
