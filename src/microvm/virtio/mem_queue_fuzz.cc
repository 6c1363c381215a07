// A guest that writes anything into its memory and its queue: what is plugged is what was changed.
#include "microvm/fuzzing.h"
#include "microvm/virtio/mem.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob::microvm;
  constexpr uint64_t kBlock = 2 << 20;
  constexpr GuestAddress kStart = uint64_t{4} << 30;
  constexpr uint64_t kTotal = 64 * kBlock;
  GuestMemory memory = fuzzing::memory_from(data, size, 0x10000);
  uint64_t plugged = 0;
  Mem mem({.start = kStart, .total = kTotal, .block = kBlock},
          [&](Mem::Change change, GuestAddress start, uint64_t bytes) {
            HOB_ASSERT(start >= kStart && bytes > 0 && start - kStart <= kTotal - bytes);
            plugged += change == Mem::Change::kPlug ? bytes : -bytes;
            return size % 3 != 0 || change == Mem::Change::kUnplug || (plugged -= bytes, false);
          });
  mem.request(size % kTotal / kBlock * kBlock);
  Queue queue = fuzzing::queue_at(0, memory, size % 2 == 0);
  fuzzing::IgnoredInterrupts interrupts;
  mem.activate(
      {.memory = memory, .queues = std::span(&queue, 1), .interrupt = interrupts, .features = 0});
  for (int turn = 0; turn < 4; ++turn) mem.notified(0);
  HOB_ASSERT(mem.plugged() == plugged && plugged <= kTotal);
  return 0;
}
