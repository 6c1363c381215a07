// The opening handshake of WebSockets (RFC 6455 §4) where the edge has to be one of its ends: a
// client or a target of HTTP/2 asks and answers without a key (RFC 8441 §5), its other side has
// one.
//
// Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/http_parser.h"

namespace hob::edge {

// A Sec-WebSocket-Key: 16 bytes, which need not be secret.
std::string websocket_key(uint64_t a, uint64_t b);
// The Sec-WebSocket-Accept that answers it.
std::string websocket_accept(std::string_view key);
// The key of a request of HTTP/1.1 that asks for a WebSocket and nothing else; empty: it does not,
// or not as RFC 6455 wants it.
std::string_view websocket_key_of(const http::RequestHead& head);
// Whether a 101 answers the key that `accept` belongs to.
bool opens_websocket(const http::ResponseHead& head, std::string_view accept);

}  // namespace hob::edge
