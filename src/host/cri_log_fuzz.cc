// Any bytes as a container's log: no crash, progress within the text, lines that are UTF-8.
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "host/cri_log.h"
#include "host/listening.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const hob::host::ParsedLog parsed = hob::host::parse_cri_log(text, 100, 100'000);
  HOB_ASSERT(parsed.consumed <= text.size());
  HOB_ASSERT(parsed.lines.size() <= 100);
  for (const hob::link::LogLine& line : parsed.lines)
    HOB_ASSERT(hob::host::to_utf8(line.text) == line.text);
  for (const int port : hob::host::parse_listening(text, text).reachable)
    HOB_ASSERT(port >= 1 && port <= 65535);
  return 0;
}
