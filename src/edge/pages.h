// The edge's own answers: a short page that says what happened, on which side, and what to do;
// HTML, or JSON for programs that ask for it.
#pragma once

#include <string>
#include <string_view>

#include "edge/exchange.h"

namespace hob::edge {

struct Page {
  int status = 503;
  Refusal why = Refusal::kNone;
  std::string_view host{};     // as asked for; escaped when shown
  std::string_view service{};  // its name; empty: none
  std::string_view request_id{};
  std::string_view text{};  // kAcmeAnswer: all that the body is
  bool json = false;
  bool head_method = false;       // no body
  bool close = false;             // Connection: close
  bool keep_alive_named = false;  // HTTP/1.0
};

// Head and body, ready to be sent.
std::string write_page(const Page& page);

}  // namespace hob::edge
