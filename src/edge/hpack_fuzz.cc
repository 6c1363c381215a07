// Header blocks: decoded without harm, in bounds, and what becomes a request is one request of
// HTTP/1 and no more.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/http_parser.h"
#include "edge/http2_head.h"

using namespace hob;

namespace {

void check_request(edge::HpackDecoder& decoder, std::string_view block, bool end_stream) {
  std::string text;
  if (edge::read_request_block(decoder, block, end_stream, text) != edge::HeadOutcome::kDone)
    return;
  http::RequestHead head;
  const http::Parsed parsed = http::parse(text, head);
  if (parsed == http::Parsed::kMore) std::abort();
  if (parsed == http::Parsed::kBad) return;
  if (head.bytes != text.size()) std::abort();
  if (end_stream && head.framing != http::Framing::kNone &&
      !(head.framing == http::Framing::kLength && head.content_length == 0)) {
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  edge::HpackDecoder decoder;
  // Twice: the second meets the table that the first has left.
  for (int round = 0; round < 2; ++round) {
    if (data[0] % 3 == 2) {
      std::string lines;
      if (edge::read_trailer_block(decoder, input, lines) == edge::HeadOutcome::kDone &&
          lines.find("\r\n\r\n") != std::string::npos) {
        std::abort();
      }
    } else {
      check_request(decoder, input, data[0] % 3 == 0);
    }
    if (decoder.table_bytes() > edge::kHpackTableBytes) std::abort();
  }
  return 0;
}
