// Heads on their way through: which fields pass, which are dropped, which are added. Pure but for
// the chain written to.
//
// RFC 9110 §7.6.1 and facts of ALB: hop-by-hop fields and those that Connection names are dropped;
// forwarded fields are ours alone; a name that equals one of these with '_' for '-' is dropped too,
// as applications confuse them.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/http_parser.h"
#include "edge/buffer.h"

namespace hob::edge {

struct RequestRewrite {
  std::string_view forwarded{};  // X-Forwarded-* lines
  std::string_view
      new_trace{};  // "1-5f84c7a5-…": the root of a new trace, or of our segment of the client's
  bool upgrade = false;              // passed on
  std::string_view websocket_key{};  // ours, where the client has none; empty: none is added
};

// What of Connection forbids: a name that must reach the target ("close" and the like are well).
bool connection_is_valid(const http::RequestHead& head);
// The head in canonical form: HTTP/1.1, origin form, no framing fields, no last empty line. `raw`:
// the head's bytes, which head's views point into. False: no buffer was left.
bool rewrite_request(const http::RequestHead& head, std::string_view raw, const RequestRewrite& how,
                     BufferPool& pool, Chain& into);

enum class Persistence { kDefault, kClose, kKeepAlive };
enum class AnswerFraming { kAsIs, kNoLength, kChunked };

// The answer's head, whole. kAsIs keeps Content-Length; kNoLength drops it (the close ends the
// body). `lines`: of ours, to be added.
bool rewrite_response(const http::ResponseHead& head, std::string_view raw, AnswerFraming framing,
                      Persistence persistence, std::string_view lines, BufferPool& pool,
                      Chain& into);

// The fields of an answer that go to a client of HTTP/2, which has framing of its own; a length is
// among them where it is true, the answer to a WebSocket's key is not.
using VisitField = std::function<void(std::string_view name, std::string_view value)>;
void each_answer_field(const http::ResponseHead& head, const VisitField& visit);

// Lower case, no port, no last dot; empty: longer than `room`.
std::string_view normal_host(std::string_view host, std::span<char> room);

}  // namespace hob::edge
