// From HTTP/2's fields to HTTP/1's text and back: a request becomes a head that the same strict
// parser reads, and passes the same rules, as one that came by HTTP/1.
//
// RFC 9113 §8.2 and §8.3, and docs of ours: what two readers could take differently is refused.
// Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/http_parser.h"
#include "edge/hpack.h"

namespace hob::edge {

enum class HeadOutcome {
  kDone,
  kMalformed,  // the stream is reset: PROTOCOL_ERROR
  kTooLarge,   // decoded beyond http::kHeadBytesMax: the connection ends
  kBadBlock,   // the connection ends: COMPRESSION_ERROR
};

// The block of a request: `text` becomes a head of HTTP/1.1, framed as the stream is.
HeadOutcome read_request_block(HpackDecoder& decoder, std::string_view block, bool end_stream,
                               std::string& text);
// The block after a body: `lines` becomes those fields that may be passed on.
HeadOutcome read_trailer_block(HpackDecoder& decoder, std::string_view block, std::string& lines);
// The block of an answer, interim or final: `text` becomes a head of HTTP/1.1, framed as the stream
// is. `head_method`: it answers HEAD.
HeadOutcome read_answer_block(HpackDecoder& decoder, std::string_view block, bool end_stream,
                              bool head_method, std::string& text);
// A block whose stream is gone: keeps the decoder in step.
HeadOutcome skip_block(HpackDecoder& decoder, std::string_view block);

// The block of an answer, interim or final, added to `block`.
void write_answer_block(const http::ResponseHead& head, std::string& block);
// The block of a request in canonical form (exchange.h), whose end is an empty line.
void write_request_block(std::string_view text, std::string& block);
// Appends lines "Name: value\r\n".
void write_trailer_block(std::string_view lines, std::string& block);

}  // namespace hob::edge
