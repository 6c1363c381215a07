// A request's head: parsed whole and byte by byte alike, and what is passed on parses again, framed
// the same.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/http_parser.h"
#include "edge/rewrite.h"

using namespace hob;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  http::RequestHead whole;
  const http::Parsed parsed = http::parse(input, whole);
  http::RequestHead pieces;
  http::Parsed by_byte = http::Parsed::kMore;
  for (size_t i = 1; i <= size && by_byte == http::Parsed::kMore; ++i) {
    by_byte = http::parse(std::string_view(input).substr(0, i), pieces);
  }
  if (by_byte != parsed) std::abort();
  if (parsed != http::Parsed::kDone) return 0;
  if (whole.bytes != pieces.bytes || whole.framing != pieces.framing) std::abort();
  char room[64];
  const std::string_view host = edge::normal_host(whole.host, room);
  if (host.size() > whole.host.size() || host.find_first_of("ABCXYZ") != host.npos) std::abort();
  if (whole.host.empty() || !edge::connection_is_valid(whole)) return 0;
  edge::BufferPool pool;
  edge::Chain out;
  const std::string_view raw =
      std::string_view(input).substr(whole.head_start, whole.bytes - whole.head_start);
  if (!edge::rewrite_request(whole, raw,
                             {.forwarded = "X-Forwarded-For: 1.2.3.4\r\n", .new_trace = "1-2-3"},
                             pool, out)) {
    std::abort();
  }
  std::string text;
  for (size_t i = 0; i < out.pieces(); ++i) text += out.piece(i).view();
  text += "\r\n";
  http::RequestHead again;
  const http::Parsed second = http::parse(text, again);
  // What we add may put it over a limit; nothing else may be wrong with it.
  if (second == http::Parsed::kBad && (again.status == 431 || again.status == 414)) return 0;
  if (second != http::Parsed::kDone || again.bytes != text.size()) std::abort();
  if (again.framing != http::Framing::kNone || again.method != whole.method) std::abort();
  return 0;
}
