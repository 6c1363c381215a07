// The head of a CGI program's answer (RFC 3875 §6). Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/http.h"
#include "base/result.h"

namespace hob::git {

struct CgiHead {
  int status = 200;
  http::Headers headers{};
  size_t bytes = 0;  // where the body begins
};

// nullopt: `text` has no empty line yet. kInvalid: no head, or over kHeaderBytesMax.
Result<std::optional<CgiHead>> parse_cgi_head(std::string_view text);

}  // namespace hob::git
