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
  kUnknownProtocol,  // of an extended CONNECT: 501
  kMalformed,        // the stream is reset: PROTOCOL_ERROR
  kTooLarge,         // decoded beyond http::kHeadBytesMax: the connection ends
  kBadBlock,         // the connection ends: COMPRESSION_ERROR
};

// The block of a request: `text` becomes a head of HTTP/1.1, framed as the stream is. An extended
// CONNECT for a WebSocket (RFC 8441) becomes the GET that asks for an upgrade to one, without a
// key; nothing else gives a head with an upgrade.
HeadOutcome read_request_block(HpackDecoder& decoder, std::string_view block, bool end_stream,
                               std::string& text);
// The block after a body: `lines` becomes those fields that may be passed on.
HeadOutcome read_trailer_block(HpackDecoder& decoder, std::string_view block, std::string& lines);
// What an answer is an answer to.
struct Asked {
  bool head_method = false;             // HEAD
  std::string_view websocket_accept{};  // not empty: an extended CONNECT in the place of its key
};
// The block of an answer, interim or final: `text` becomes a head of HTTP/1.1, framed as the stream
// is; the 2xx that opens a WebSocket becomes 101.
HeadOutcome read_answer_block(HpackDecoder& decoder, std::string_view block, bool end_stream,
                              const Asked& asked, std::string& text);
// A block whose stream is gone: keeps the decoder in step.
HeadOutcome skip_block(HpackDecoder& decoder, std::string_view block);

// The block of an answer, interim or final, added to `block`; 101 as the 200 of RFC 8441.
void write_answer_block(const http::ResponseHead& head, std::string& block);
// The block of a request in canonical form (exchange.h), whose end is an empty line. `websocket`:
// it asks for one, which becomes an extended CONNECT.
void write_request_block(std::string_view text, bool websocket, std::string& block);
// Appends lines "Name: value\r\n".
void write_trailer_block(std::string_view lines, std::string& block);

}  // namespace hob::edge
