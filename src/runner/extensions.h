// What AWS's model has no field for: `hob:` tags on a service (docs/extensions.md). Pure; any
// thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"

namespace hob::runner {

inline constexpr std::string_view kExtensionPrefix = "hob:";
inline constexpr Duration kTimeoutMax = std::chrono::hours(24);

struct Extensions {
  std::optional<Duration> request_timeout{};  // hob:request-timeout; 0: none
  std::optional<Duration> idle_timeout{};     // hob:idle-timeout; at least 1 s
  bool operator==(const Extensions&) const = default;
};

// "500ms", "30s", "5m", "2h", "0". kInvalid: anything else.
Result<Duration> parse_duration(std::string_view text);
// Tags without the prefix are not looked at. kInvalid, with the reason for people: a key that is
// not known or not built yet, a value out of its range.
Result<Extensions> parse_extensions(const std::map<std::string, std::string>& tags);

}  // namespace hob::runner
