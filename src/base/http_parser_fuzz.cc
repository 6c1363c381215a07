// The HTTP/1 parser over any bytes: the same answer whole, cut in two, and byte by byte; views
// inside the input.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "base/http.h"
#include "base/http_parser.h"

namespace {

using hob::http::ChunkedDecoder;
using hob::http::Framing;
using hob::http::Parsed;
using hob::http::RequestHead;
using hob::http::ResponseHead;

Parsed parse_head(std::string_view input, RequestHead& head) {
  return hob::http::parse(input, head);
}
Parsed parse_head(std::string_view input, ResponseHead& head) {
  return hob::http::parse(input, head, "GET");
}

template <class H>
void compare(Parsed a, const H& x, Parsed b, const H& y) {
  HOB_ASSERT(a == b);
  if (a == Parsed::kBad) HOB_ASSERT(x.status == y.status);
  if (a != Parsed::kDone) return;
  HOB_ASSERT(x.bytes == y.bytes);
  HOB_ASSERT(x.field_count == y.field_count);
  HOB_ASSERT(x.framing == y.framing);
  HOB_ASSERT(x.content_length == y.content_length);
  HOB_ASSERT(x.keep_alive == y.keep_alive);
}

template <class H>
void check(std::string_view input, size_t cut) {
  H whole;
  const Parsed want = parse_head(input, whole);
  if (want == Parsed::kDone) {
    HOB_ASSERT(whole.bytes <= input.size());
    for (size_t i = 0; i < whole.field_count; ++i) {
      const auto& [name, value] = whole.fields[i];
      HOB_ASSERT(hob::http::is_token(name));
      HOB_ASSERT(name.data() >= input.data() &&
                 value.data() + value.size() <= input.data() + whole.bytes);
      HOB_ASSERT(value.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos);
    }
  }
  H split;
  Parsed got = parse_head(input.substr(0, cut), split);
  if (got == Parsed::kMore) got = parse_head(input, split);
  compare(want, whole, got, split);
  if (input.size() > 4096) return;  // byte by byte is slow
  H slow;
  got = Parsed::kMore;
  for (size_t size = 0; size <= input.size() && got == Parsed::kMore; ++size)
    got = parse_head(input.substr(0, size), slow);
  compare(want, whole, got, slow);
}

std::string dechunk(std::string_view input, size_t step) {
  ChunkedDecoder decoder;
  std::string data;
  for (size_t at = 0; at < input.size();) {
    std::string_view piece = input.substr(at, step);
    at += piece.size();
    while (!piece.empty()) {
      const ChunkedDecoder::Step taken = decoder.decode(piece);
      HOB_ASSERT(taken.consumed > 0 && taken.consumed <= piece.size());
      data += taken.data;
      piece.remove_prefix(taken.consumed);
      if (taken.parsed == Parsed::kBad) return data + "|bad";
      if (taken.parsed == Parsed::kDone) return data + "|done";
    }
  }
  return data + "|more";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t cut = size == 0 ? 0 : data[0] % (size + 1);
  check<RequestHead>(input, cut);
  check<ResponseHead>(input, cut);
  HOB_ASSERT(dechunk(input, size + 1) == dechunk(input, 1));
  (void)hob::http::parse_query(input);
  const std::string encoded = hob::http::percent_encode(input, hob::http::Slash::kEscape);
  HOB_ASSERT(hob::http::percent_decode(encoded, hob::http::Plus::kLiteral) == input);
  return 0;
}
