// Times, ARNs and UTF-8 as clients write them: refused or read, and what was read can be written.
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include "aws/arn.h"
#include "aws/timestamp.h"
#include "aws/utf8.h"
#include "base/assert.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto& at : {aws::timestamp_from_text(text), aws::timestamp_from_basic(text),
                         aws::timestamp_from_http_date(text)}) {
    if (!at) continue;
    HOB_ASSERT(aws::timestamp_from_text(iso8601(*at)) == at);
    HOB_ASSERT(std::isfinite(epoch_seconds(*at)));
  }
  if (const auto arn = aws::parse_arn(text))
    HOB_ASSERT(aws::parse_arn(aws::to_string(*arn)) == arn);
  const std::string valid = aws::to_utf8(text);
  HOB_ASSERT(aws::is_utf8(valid));
  HOB_ASSERT(aws::is_utf8(text) == (valid == text));
  HOB_ASSERT(aws::count_characters(valid) <= size);
  return 0;
}
