#include "git/cgi_answer.h"

#include <charconv>

#include "git/limits.h"

namespace hob::git {

Result<std::optional<CgiHead>> parse_cgi_head(std::string_view text) {
  CgiHead head;
  size_t at = 0;
  for (;;) {
    const size_t end = text.find('\n', at);
    if (end == std::string_view::npos || end >= kHeaderBytesMax) {
      if (text.size() - (end == std::string_view::npos ? 0 : at) >= kHeaderBytesMax)
        return fail(Code::kInvalid, "git's answer has a head of over {} bytes", kHeaderBytesMax);
      if (end != std::string_view::npos)
        return fail(Code::kInvalid, "git's answer has a head of over {} bytes", kHeaderBytesMax);
      return std::optional<CgiHead>();
    }
    std::string_view line = text.substr(at, end - at);
    at = end + 1;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) break;
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0)
      return fail(Code::kInvalid, "git's answer has a broken head");
    const std::string_view name = line.substr(0, colon);
    std::string_view value = line.substr(colon + 1);
    while (value.starts_with(' ')) value.remove_prefix(1);
    if (name == "Status") {
      const auto [rest, error] =
          std::from_chars(value.data(), value.data() + value.size(), head.status);
      if (error != std::errc() || head.status < 200 || head.status > 599)
        return fail(Code::kInvalid, "git's answer has no status");
    } else {
      head.headers.add(std::string(name), std::string(value));
    }
  }
  head.bytes = at;
  return std::optional<CgiHead>(std::move(head));
}

}  // namespace hob::git
