// The frame decoder over any bytes: the same messages whole or byte by byte, and what it read it
// can write again.
#include <cstdint>
#include <string>
#include <vector>

#include "base/assert.h"
#include "link/frame.h"

namespace {

std::vector<std::string> read_all(std::string_view bytes, size_t step) {
  hob::link::FrameDecoder decoder;
  std::vector<std::string> seen;
  while (!bytes.empty()) {
    const size_t count = bytes.size() < step ? bytes.size() : step;
    decoder.feed(bytes.substr(0, count));
    bytes.remove_prefix(count);
    for (;;) {
      const auto message = decoder.next();
      if (!message) {
        seen.push_back("error: " + message.error().message);
        return seen;
      }
      if (!*message) break;
      seen.push_back((*message)->type + "\n" + (*message)->body);
      HOB_ASSERT(hob::link::encode_frame(**message)->substr(4) == seen.back());
    }
  }
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (size > 4096) return 0;  // byte by byte is quadratic
  HOB_ASSERT(read_all(bytes, size + 1) == read_all(bytes, 1));
  return 0;
}
