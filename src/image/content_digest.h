// Content digests as OCI writes them, "sha256:" and 64 lower-case hex digits. No other algorithm is
// taken.
#pragma once

#include <string>
#include <string_view>

#include "base/digest.h"

namespace hob::image {

inline constexpr std::string_view kDigestPrefix = "sha256:";
inline constexpr size_t kDigestChars = 7 + 64;

inline bool is_digest(std::string_view text) {
  if (text.size() != kDigestChars || !text.starts_with(kDigestPrefix)) return false;
  return text.find_first_not_of("0123456789abcdef", kDigestPrefix.size()) == std::string_view::npos;
}

// The 64 digits of a digest for which is_digest() holds: what files are called by.
inline std::string_view digest_hex(std::string_view digest) {
  return digest.substr(kDigestPrefix.size());
}

inline std::string to_digest(const Sha256& hash) { return std::string(kDigestPrefix) + hex(hash); }
inline std::string digest_of(std::string_view bytes) { return to_digest(sha256(bytes)); }

}  // namespace hob::image
