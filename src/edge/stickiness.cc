#include "edge/stickiness.h"

#include <fmt/core.h>

#include "base/digest.h"

namespace hob::edge {
namespace {

std::string token(const std::string& key, const std::string& message, size_t length) {
  return hex(hmac_sha256(key, message)).substr(0, length);
}

}  // namespace

std::string token_of_target(const std::string& service, const TaskId& task) {
  return token(task.value, "sticky target of " + service, kTargetTokenBytes);
}

std::string token_of_version(const std::string& service, const std::string& version) {
  return token(service + "/" + version, "sticky version", kVersionTokenBytes);
}

StickyTokens sticky_tokens(const http::RequestHead& head) {
  for (size_t i = 0; i < head.field_count; ++i) {
    if (!http::equal_without_case(head.fields[i].name, "cookie")) continue;
    std::string_view rest = head.fields[i].value;
    while (!rest.empty()) {
      const size_t end = rest.find(';');
      std::string_view pair = rest.substr(0, end);
      rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
      while (pair.starts_with(' ')) pair.remove_prefix(1);
      if (pair.size() != kStickyCookie.size() + 1 + kVersionTokenBytes + kTargetTokenBytes ||
          !pair.starts_with(kStickyCookie) || pair[kStickyCookie.size()] != '=')
        continue;
      pair.remove_prefix(kStickyCookie.size() + 1);
      return {.version = pair.substr(0, kVersionTokenBytes),
              .target = pair.substr(kVersionTokenBytes)};
    }
  }
  return {};
}

std::string sticky_line(const StickyTokens& tokens, uint64_t seconds, bool secure) {
  return fmt::format("Set-Cookie: {}={}{}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{}\r\n",
                     kStickyCookie, tokens.version, tokens.target, seconds,
                     secure ? "; Secure" : "");
}

}  // namespace hob::edge
