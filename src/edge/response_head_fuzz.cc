// A response's head: parsed whole and byte by byte alike, and what is passed on is one valid
// response.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/http_parser.h"
#include "edge/rewrite.h"

using namespace hob;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  http::ResponseHead whole;
  const http::Parsed parsed = http::parse(input, whole, "GET");
  http::ResponseHead pieces;
  http::Parsed by_byte = http::Parsed::kMore;
  for (size_t i = 1; i <= size && by_byte == http::Parsed::kMore; ++i) {
    by_byte = http::parse(std::string_view(input).substr(0, i), pieces, "GET");
  }
  if (by_byte != parsed) std::abort();
  if (parsed != http::Parsed::kDone) return 0;
  if (whole.bytes != pieces.bytes || whole.framing != pieces.framing || whole.code != pieces.code)
    std::abort();
  const bool length =
      whole.framing == http::Framing::kLength || whole.framing == http::Framing::kNone;
  edge::BufferPool pool;
  edge::Chain out;
  const std::string_view raw =
      std::string_view(input).substr(whole.head_start, whole.bytes - whole.head_start);
  if (!edge::rewrite_response(whole, raw,
                              length ? edge::AnswerFraming::kAsIs : edge::AnswerFraming::kChunked,
                              edge::Persistence::kDefault, {}, pool, out)) {
    std::abort();
  }
  std::string text;
  for (size_t i = 0; i < out.pieces(); ++i) text += out.piece(i).view();
  http::ResponseHead again;
  const http::Parsed second = http::parse(text, again, "GET");
  if (second == http::Parsed::kBad && text.size() > 60'000)
    return 0;  // over a limit by what we add
  if (second == http::Parsed::kBad && whole.field_count + 3 > http::kFieldsMax) return 0;
  if (second != http::Parsed::kDone || again.bytes != text.size() || again.code != whole.code)
    std::abort();
  if (whole.framing == http::Framing::kLength && again.content_length != whole.content_length)
    std::abort();
  return 0;
}
