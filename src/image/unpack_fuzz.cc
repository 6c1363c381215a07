// Layers: any bytes give an answer, within the limits, and touch nothing.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "image/unpack.h"

namespace {

class Bytes final : public hob::image::ByteSource {
 public:
  explicit Bytes(std::string_view bytes) : left_(bytes) {}
  hob::Result<std::string_view> read() override {
    const std::string_view piece = left_.substr(0, 4096);
    left_.remove_prefix(piece.size());
    return piece;
  }

 private:
  std::string_view left_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Bytes source(std::string_view(reinterpret_cast<const char*>(data), size));
  const hob::image::UnpackLimits limits{
      .entries_max = 1000, .bytes_max = 4 << 20, .ratio_max = 200, .ratio_free_bytes = 1 << 20};
  const auto inspected = hob::image::inspect_layer(source, limits);
  if (inspected && inspected->entries > limits.entries_max) __builtin_trap();
  return 0;
}
