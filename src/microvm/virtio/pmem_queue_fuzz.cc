// A guest that writes anything into its memory and its queue: requests are answered or refused.
#include <sys/mman.h>
#include <unistd.h>

#include "microvm/fuzzing.h"
#include "microvm/virtio/pmem.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob::microvm;
  GuestMemory memory = fuzzing::memory_from(data, size, 0x10000);
  hob::Fd file(memfd_create("pmem", MFD_CLOEXEC));
  HOB_ASSERT(ftruncate(file.get(), 4096) == 0);
  auto pmem = Pmem::create(std::move(file), {.id = "p"});
  HOB_ASSERT(pmem.has_value());
  Queue queue = fuzzing::queue_at(0, memory, size % 2 == 0);
  fuzzing::IgnoredInterrupts interrupts;
  (*pmem)->activate(
      {.memory = memory, .queues = std::span(&queue, 1), .interrupt = interrupts, .features = 0});
  for (int turn = 0; turn < 16; ++turn) (*pmem)->notified(0);
  return 0;
}
