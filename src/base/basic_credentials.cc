#include "base/basic_credentials.h"

#include "base/digest.h"

namespace hob::http {

std::optional<std::pair<std::string, std::string>> basic_credentials(
    std::string_view authorization) {
  constexpr std::string_view scheme = "basic ";
  if (authorization.size() <= scheme.size() || authorization.size() > kCredentialsBytesMax)
    return std::nullopt;
  for (size_t i = 0; i < scheme.size(); ++i) {
    if ((authorization[i] | 0x20) != (scheme[i] | 0x20)) return std::nullopt;
  }
  const std::optional<std::string> text = unbase64(authorization.substr(scheme.size()));
  if (!text) return std::nullopt;
  const size_t colon = text->find(':');
  if (colon == std::string::npos) return std::nullopt;
  return std::pair(text->substr(0, colon), text->substr(colon + 1));
}

}  // namespace hob::http
