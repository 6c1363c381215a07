// Segments and filter patterns: no input does more than be refused, and what is written is read.
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "observe/filter_pattern.h"
#include "observe/segment.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob::observe;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  size_t offset = 0;
  if (const auto header = parse_header(text, &offset)) {
    size_t again = 0;
    HOB_ASSERT(parse_header(format_header(*header), &again).value() == *header);
  }
  while (const auto item = next_item(text, offset)) {
    HOB_ASSERT(item->end > offset);
    offset = item->end;
    if (item->commit) continue;
    const std::string written = format_event(item->at, item->ingested_at, item->text);
    const auto read = next_item(written, 0);
    HOB_ASSERT(read && read->text == item->text.substr(0, kEventBytesMax));
  }
  if (const auto committed = committed_bytes(text)) HOB_ASSERT(*committed <= size);
  if (const auto pattern = parse_filter_pattern(text)) static_cast<void>(matches(*pattern, text));
  return 0;
}
