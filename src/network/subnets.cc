#include "network/subnets.h"

#include <cstdint>

#include "network/links.h"

namespace hob::network {

namespace {
constexpr uint32_t kVpcBase = (198u << 24) | (18u << 16);
constexpr uint32_t kSubnetSize = 1u << (32 - kSubnetPrefixLength);
constexpr uint32_t kReservedFirst = 4;
constexpr uint32_t kReservedLast = 1;

std::optional<uint32_t> base_of(std::string_view zone) {
  if (zone.empty()) return std::nullopt;
  const size_t index = kZoneLetters.find(zone.back());
  if (index == std::string_view::npos) return std::nullopt;
  return kVpcBase + static_cast<uint32_t>(index) * kSubnetSize;
}
}  // namespace

Result<Subnet> subnet_of(std::string_view zone) {
  const auto base = base_of(zone);
  if (!base) return fail(Code::kNotFound, "there is no zone '{}' in the default VPC", zone);
  return Subnet{
      .zone = zone.back(), .network = format_ipv4(*base), .gateway = format_ipv4(*base + 1)};
}

std::optional<std::string> allocate(std::string_view zone, const std::set<std::string>& taken,
                                    std::string_view last) {
  const auto base = base_of(zone);
  if (!base) return std::nullopt;
  const uint32_t first = *base + kReservedFirst;
  const uint32_t count = kSubnetSize - kReservedFirst - kReservedLast;
  const auto previous = parse_ipv4(last);
  const bool ours = previous && *previous >= first && *previous - first < count;
  const uint32_t start = ours ? *previous - first + 1 : 0;
  for (uint32_t step = 0; step < count; ++step) {
    std::string address = format_ipv4(first + (start + step) % count);
    if (!taken.contains(address)) return address;
  }
  return std::nullopt;
}

}  // namespace hob::network
