// A guest that writes anything into its memory and its queue: a disk takes requests from it.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "base/assert.h"
#include "microvm/virtio/block.h"

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
  // The input is the memory from the descriptors on: table, rings, headers, data.
  const auto bytes = std::as_bytes(std::span(data, std::min<size_t>(size, 0x8000)));
  HOB_ASSERT(memory->write_bytes(0, bytes));
  const int file = memfd_create("disk", MFD_CLOEXEC);
  HOB_ASSERT(ftruncate(file, 1 << 20) == 0);
  auto block = Block::create(hob::Fd(file), {.id = "fuzz", .flushes = true});
  HOB_ASSERT(block.has_value());
  Queue queue(kQueueSizeMax);
  queue.layout() = {.size = 16, .descriptors = 0, .available = 0x100, .used = 0x200};
  queue.ready = true;
  HOB_ASSERT(queue.start(*memory, size % 2 == 0));
  Ignored interrupt;
  (*block)->activate(
      {.memory = *memory, .queues = std::span(&queue, 1), .interrupt = interrupt, .features = 0});
  (*block)->notified(0);
  return 0;
}
