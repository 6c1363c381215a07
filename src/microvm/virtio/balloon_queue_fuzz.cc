// A guest that writes anything into its memory and its queues: a balloon takes pages, statistics
// and hints from it.
#include <cstdint>

#include "base/assert.h"
#include "microvm/virtio/balloon.h"

namespace {

struct Ignored final : hob::microvm::DeviceInterrupt {
  void queue_used() override {}
  void configuration_changed() override {}
  void needs_reset() override {}
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob::microvm;
  const GuestMemory::Region range{.base = 0, .bytes = 0x10000};
  auto memory = GuestMemory::create(std::span(&range, 1), GuestMemory::Pages::kNormal, true);
  HOB_ASSERT(memory.has_value());
  // The input is the memory: one table of descriptors for all, a page of rings each, requests.
  HOB_ASSERT(
      memory->write_bytes(0, std::as_bytes(std::span(data, std::min<size_t>(size, 0x8000)))));
  auto balloon = Balloon::create({.interval_s = 1, .hinting = true, .reporting = true});
  HOB_ASSERT(balloon.has_value());
  std::vector<Queue> queues(5, Queue(kQueueSizeMax));
  for (size_t i = 0; i < queues.size(); ++i) {
    queues[i].layout() = {
        .size = 16, .descriptors = 0, .available = 0x100 + 0x200 * i, .used = 0x200 + 0x200 * i};
    queues[i].ready = true;
    HOB_ASSERT(queues[i].start(*memory, size % 2 == 0));
  }
  Ignored interrupt;
  (*balloon)->activate({.memory = *memory,
                        .queues = queues,
                        .interrupt = interrupt,
                        .features = (*balloon)->features()});
  (*balloon)->start_hints(true);
  for (int turn = 0; turn < 2; ++turn) {
    for (size_t i = 0; i < queues.size(); ++i) (*balloon)->notified(i);
    (*balloon)->host_ready(0);
  }
  HOB_ASSERT((*balloon)->save().has_value());
  return 0;
}
