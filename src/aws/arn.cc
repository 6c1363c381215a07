#include "aws/arn.h"

#include <algorithm>
#include <array>

namespace hob::aws {

namespace {
constexpr size_t kArnBytesMax = 2048;
}

std::optional<Arn> parse_arn(std::string_view text) {
  if (text.size() > kArnBytesMax || !text.starts_with("arn:")) return std::nullopt;
  text.remove_prefix(4);
  std::array<std::string_view, 4> parts;  // partition, service, region, account
  for (std::string_view& part : parts) {
    const size_t colon = text.find(':');
    if (colon == std::string_view::npos) return std::nullopt;
    part = text.substr(0, colon);
    text.remove_prefix(colon + 1);
  }
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  if (parts[0].empty() || parts[1].empty() || text.empty()) return std::nullopt;
  if (!parts[3].empty() && (parts[3].size() != 12 || !std::ranges::all_of(parts[3], is_digit)))
    return std::nullopt;
  return Arn{.partition = std::string(parts[0]),
             .service = std::string(parts[1]),
             .region = std::string(parts[2]),
             .account = std::string(parts[3]),
             .resource = std::string(text)};
}

std::string to_string(const Arn& arn) {
  return "arn:" + arn.partition + ":" + arn.service + ":" + arn.region + ":" + arn.account + ":" +
         arn.resource;
}

}  // namespace hob::aws
