// A guest that writes anything into its memory and its queues: an interface receives into them and
// sends from them.
#include <sys/socket.h>
#include <unistd.h>

#include "microvm/fuzzing.h"
#include "microvm/virtio/net.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob::microvm;
  GuestMemory memory = fuzzing::memory_from(data, size, 0x20000);
  int pair[2];
  HOB_ASSERT(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
  const hob::Fd wire(pair[1]);
  auto net = Net::create(Tap(hob::Fd(pair[0])), {});
  HOB_ASSERT(net.has_value());
  std::vector<Queue> queues = {fuzzing::queue_at(0, memory, size % 2 == 0),
                               fuzzing::queue_at(0x400, memory, size % 2 == 0)};
  fuzzing::IgnoredInterrupts interrupts;
  // Each way of taking buffers: alone or merged, for small frames or large ones.
  const uint64_t features = size % 3 == 0 ? 0 : (*net)->features();
  (*net)->activate(
      {.memory = memory, .queues = queues, .interrupt = interrupts, .features = features});
  for (const size_t bytes : {60u, 1514u, 9000u, 11u}) {
    const std::string frame(bytes, 'f');
    HOB_ASSERT(write(wire.get(), frame.data(), frame.size()) >= 0);
  }
  (*net)->notified(0);
  (*net)->notified(1);
  (*net)->host_ready(0);
  return 0;
}
