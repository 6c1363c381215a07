// A guest that sends anything to its metadata's address: frames of two bytes' length and their
// content, on a connection that may have been opened before.
#include <cstdint>

#include "base/assert.h"
#include "microvm/mmds/stack.h"

namespace {

hob::microvm::MonotonicTime now{std::chrono::seconds(1)};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob::microvm;
  Metadata metadata("fuzz", 1000, [] { return now; });
  HOB_ASSERT(metadata.put(*Json::parse(R"({"a":{"b":["c",1]},"k":"v"})")).has_value());
  MetadataStack stack(metadata, {169, 254, 169, 254}, [] { return now; });
  std::span<const std::byte> rest = std::as_bytes(std::span(data, size));
  uint32_t their_sequence = 0;
  while (rest.size() > 2) {
    const size_t length = std::min<size_t>(
        std::to_integer<size_t>(rest[0]) | std::to_integer<size_t>(rest[1]) << 8, rest.size() - 2);
    std::vector<std::byte> frame(rest.begin() + 2,
                                 rest.begin() + 2 + static_cast<std::ptrdiff_t>(length));
    rest = rest.subspan(2 + length);
    // What a guest knows, and an input cannot: our sequence number.
    if (frame.size() >= 54 && frame[45] == std::byte{0}) {
      for (size_t i = 0; i < 4; ++i)
        frame[42 + i] = static_cast<std::byte>(their_sequence >> (24 - 8 * i));
    }
    if (stack.wants(std::span(frame).first(std::min<size_t>(frame.size(), 42)))) stack.take(frame);
    std::array<std::byte, FrameResponder::kFrameBytesMax> answer{};
    size_t frames = 0;
    while (const size_t bytes = stack.next(answer)) {
      HOB_ASSERT(bytes <= answer.size() && ++frames < 1000);
      if (bytes < 54) continue;
      their_sequence = 1;
      for (size_t i = 0; i < 4; ++i)
        their_sequence += std::to_integer<uint32_t>(answer[38 + i]) << (24 - 8 * i);
    }
    now += std::chrono::milliseconds(700);
    if (const auto deadline = stack.deadline(); deadline && *deadline <= now) stack.time_passed();
    HOB_ASSERT(stack.connections() <= kGuestConnectionsMax);
  }
  return 0;
}
