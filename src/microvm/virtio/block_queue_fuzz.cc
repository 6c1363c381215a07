// A guest that writes anything into its memory and its queue: a disk takes requests from it.
#include <sys/mman.h>
#include <unistd.h>

#include "microvm/fuzzing.h"
#include "microvm/virtio/block.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob::microvm;
  GuestMemory memory = fuzzing::memory_from(data, size, 0x10000);
  const int file = memfd_create("disk", MFD_CLOEXEC);
  HOB_ASSERT(ftruncate(file, 1 << 20) == 0);
  auto block =
      Block::create(hob::Fd(file), {.id = "fuzz", .flushes = true, .asynchronous = size % 3 == 0});
  HOB_ASSERT(block.has_value());
  Queue queue = fuzzing::queue_at(0, memory, size % 2 == 0);
  fuzzing::IgnoredInterrupts interrupts;
  (*block)->activate(
      {.memory = memory, .queues = std::span(&queue, 1), .interrupt = interrupts, .features = 0});
  (*block)->notified(0);
  (*block)->settle();
  return 0;
}
