// HTTP's basic authentication (RFC 7617), as our endpoints take it. Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace hob::http {

inline constexpr size_t kCredentialsBytesMax = 16 * 1024;  // an Authorization header

// User and password of an Authorization header. nullopt: not Basic, or not base64 of the two.
std::optional<std::pair<std::string, std::string>> basic_credentials(
    std::string_view authorization);

}  // namespace hob::http
