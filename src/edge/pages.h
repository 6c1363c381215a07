// The edge's own answers: a short page that says what happened, on which side, and what to do;
// HTML, or JSON for programs that ask for it.
#pragma once

#include <string>
#include <string_view>

#include "edge/exchange.h"
#include "edge/rewrite.h"

namespace hob::edge {

class Worker;

// What of a request matters where it is refused.
struct Asker {
  bool json : 1 = false;
  bool head_method : 1 = false;  // its answer has no body
  bool grpc : 1 = false;         // wants a status of gRPC in the head, and no body
};
// Programs that say so want JSON; people's browsers and curl get HTML.
Asker asker_of(const http::RequestHead& head);

// The answer to a request that the edge refuses: head and body, ready to be sent. `exchange`: the
// request's; nullptr: it had none, and its head is in the worker's scratch.
std::string refusal_page(Worker& worker, const Exchange* exchange, Refusal why, int status,
                         Asker asker, Persistence persistence = Persistence::kDefault);

// The trailers that end an answer of gRPC that has begun, as lines.
std::string grpc_trailers(Refusal why);

struct Page {
  int status = 503;
  Refusal why = Refusal::kNone;
  std::string_view host{};     // as asked for; escaped when shown
  std::string_view service{};  // its name; empty: none
  std::string_view request_id{};
  std::string_view text{};  // kAcmeAnswer: all that the body is
  Asker asker{};
  Persistence persistence = Persistence::kDefault;
};

// Head and body, ready to be sent.
std::string write_page(const Page& page);

}  // namespace hob::edge
