// What either side may send to the other: frames, and the records in them, as each side reads them.
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "guest/frame.h"

namespace {

using namespace hob::guest;

template <class Decode, class Encode>
void read_as(size_t record_bytes_max, std::string_view bytes, Decode decode, Encode encode_again) {
  FrameReader reader(record_bytes_max);
  // In two pieces: a frame may come in several.
  reader.feed(bytes.substr(0, bytes.size() / 2));
  bool second = false;
  while (true) {
    const auto frame = reader.next();
    if (!frame) return;
    if (!*frame) {
      if (second) return;
      second = true;
      reader.feed(bytes.substr(bytes.size() / 2));
      continue;
    }
    HOB_ASSERT((*frame)->container < kContainersMax);
    if ((*frame)->kind != FrameKind::kRecord) continue;
    // What was understood is understood again.
    if (const auto record = decode((*frame)->body))
      HOB_ASSERT(decode(encode_again(*record)).has_value());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  read_as(kReportBytesMax, bytes, decode_report, [](const Report& r) { return encode(r); });
  read_as(kOrderBytesMax, bytes, decode_order, [](const Order& o) { return encode(o); });
  return 0;
}
