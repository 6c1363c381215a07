// HTTP as a guest speaks it to its metadata: what it asks, and what it is answered. Pure but for
// the tokens' clock.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "microvm/mmds/metadata.h"

namespace hob::microvm {

inline constexpr size_t kGuestRequestBytesMax = 2500;  // line, headers and body
inline constexpr size_t kGuestHeadersMax = 64;

struct GuestRequest {
  std::string method{};
  std::string path{};  // begins with a slash; several in a row are one
  bool accepts_json = false;
  bool forwarded = false;  // it came through a proxy, so not from the guest's own hand
  std::optional<std::string> token{};
  std::optional<std::string> token_seconds{};
};

enum class GuestStep {
  kMore,     // not whole yet
  kRequest,  // `used` bytes of it
  kBad,      // the connection ends with the answer
};
GuestStep parse_guest_request(std::string_view bytes, GuestRequest& request, size_t& used);

// The whole answer, headers too.
std::string answer(const GuestRequest& request, Metadata& metadata);
std::string answer_to_bad_request();

}  // namespace hob::microvm
