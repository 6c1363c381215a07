// A snapshot's state file from anyone: it is refused or read, and what was read is written alike.
#include <cstdint>
#include <cstring>

#include "base/assert.h"
#include "microvm/snapshot/encoding.h"
#include "microvm/snapshot/state_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob::microvm;
  std::string file(reinterpret_cast<const char*>(data), size);
  (void)read_state(file);
  // Past the checksum: a length and a sum that are right, so that the state itself is looked at.
  constexpr size_t kHeaderBytes = 24;
  if (file.size() < kHeaderBytes + 8) return 0;
  const uint64_t length = file.size() - kHeaderBytes - 8;
  std::memcpy(file.data() + kHeaderBytes - 8, &length, sizeof length);
  const uint64_t sum = crc64(std::string_view(file).substr(0, file.size() - 8));
  std::memcpy(file.data() + file.size() - 8, &sum, sizeof sum);
  const auto state = read_state(file);
  if (!state) return 0;
  const auto again = decode<SnapshotState>(encode(*state));
  HOB_ASSERT(again.has_value());
  HOB_ASSERT(encode(*again) == encode(*state));
  return 0;
}
