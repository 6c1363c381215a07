// A guest that writes anything into its memory and its queue: random bytes are put where it says.
#include "microvm/fuzzing.h"
#include "microvm/virtio/entropy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob::microvm;
  GuestMemory memory = fuzzing::memory_from(data, size, 0x10000);
  auto entropy = Entropy::create({});
  HOB_ASSERT(entropy.has_value());
  Queue queue = fuzzing::queue_at(0, memory, size % 2 == 0);
  fuzzing::IgnoredInterrupts interrupts;
  (*entropy)->activate(
      {.memory = memory, .queues = std::span(&queue, 1), .interrupt = interrupts, .features = 0});
  (*entropy)->notified(0);
  return 0;
}
