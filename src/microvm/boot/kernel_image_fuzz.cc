// Any file as a kernel: loaded, or refused; never outside of the guest's memory.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "base/assert.h"
#include "base/file.h"
#include "microvm/boot/kernel_image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob::microvm;
  const GuestMemory::Region range{.base = 0, .bytes = 4 << 20};
  auto memory = GuestMemory::create(std::span(&range, 1), GuestMemory::Pages::kNormal, true);
  HOB_ASSERT(memory.has_value());
  const hob::Fd file(memfd_create("kernel", MFD_CLOEXEC));
  HOB_ASSERT(write(file.get(), data, size) == static_cast<ssize_t>(size));
  const auto kernel = load_kernel(file.get(), *memory);
  if (kernel) HOB_ASSERT(kernel->entry < kernel->end && kernel->end <= range.bytes);
  return 0;
}
