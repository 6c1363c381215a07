// CloudWatch Logs' page tokens as a client sends them back: refused, or a place that can be written
// again.
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "observe/logs_token.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob::observe;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto token = parse_page_token(text))
    HOB_ASSERT(parse_page_token(format_token(*token)) == token);
  if (const auto place = parse_filter_token(text)) {
    const auto again = parse_filter_token(format_token(*place));
    HOB_ASSERT(again.has_value());
    HOB_ASSERT(again->at == place->at);
    HOB_ASSERT(again->place == place->place);
    HOB_ASSERT(again->stream == place->stream);
  }
  return 0;
}
