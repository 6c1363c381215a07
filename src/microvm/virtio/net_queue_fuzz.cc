// A guest that writes anything into its memory and its queues: an interface receives into them and
// sends from them.
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>

#include "base/assert.h"
#include "microvm/virtio/net.h"

namespace {

struct Ignored final : hob::microvm::DeviceInterrupt {
  void queue_used() override {}
  void configuration_changed() override {}
  void needs_reset() override {}
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob::microvm;
  const GuestMemory::Region range{.base = 0, .bytes = 0x20000};
  auto memory = GuestMemory::create(std::span(&range, 1), GuestMemory::Pages::kNormal, true);
  HOB_ASSERT(memory.has_value());
  // The input is the memory from the descriptors on: tables, rings, frames.
  HOB_ASSERT(
      memory->write_bytes(0, std::as_bytes(std::span(data, std::min<size_t>(size, 0x8000)))));
  int pair[2];
  HOB_ASSERT(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
  const hob::Fd wire(pair[1]);
  auto net = Net::create(Tap(hob::Fd(pair[0])), {});
  HOB_ASSERT(net.has_value());
  std::vector<Queue> queues = {Queue(kQueueSizeMax), Queue(kQueueSizeMax)};
  for (size_t i = 0; i < queues.size(); ++i) {
    const GuestAddress base = 0x400 * i;
    queues[i].layout() = {
        .size = 16, .descriptors = base, .available = base + 0x100, .used = base + 0x200};
    queues[i].ready = true;
    HOB_ASSERT(queues[i].start(*memory, size % 2 == 0));
  }
  Ignored interrupt;
  // Each way of taking buffers: alone or merged, for small frames or large ones.
  const uint64_t features = size % 3 == 0 ? 0 : (*net)->features();
  (*net)->activate(
      {.memory = *memory, .queues = queues, .interrupt = interrupt, .features = features});
  for (const size_t bytes : {60u, 1514u, 9000u, 11u}) {
    const std::string frame(bytes, 'f');
    HOB_ASSERT(write(wire.get(), frame.data(), frame.size()) >= 0);
  }
  (*net)->notified(0);
  (*net)->notified(1);
  (*net)->host_ready(0);
  return 0;
}
