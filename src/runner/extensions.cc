#include "runner/extensions.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace hob::runner {

namespace {
// docs/extensions.md names them; setting one that does nothing would be a lie.
constexpr std::array<std::string_view, 5> kNotBuiltYet = {
    "hob:min-size", "hob:sleep-after", "hob:stop-after", "hob:sticky", "hob:strategy"};
}  // namespace

Result<Duration> parse_duration(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  constexpr int64_t kNumberMax = 1'000'000;
  const bool known =
      unit == "ms" || unit == "s" || unit == "m" || unit == "h" || (unit.empty() && number == 0);
  if (error != std::errc{} || !known || number < 0 || number > kNumberMax) {
    return fail(Code::kInvalid, "'{}' is no duration: write 500ms, 30s, 5m or 2h", text);
  }
  if (unit == "h") return Duration(std::chrono::hours(number));
  if (unit == "m") return Duration(std::chrono::minutes(number));
  if (unit == "ms") return Duration(number);
  return Duration(std::chrono::seconds(number));
}

Result<Extensions> parse_extensions(const std::map<std::string, std::string>& tags) {
  Extensions extensions;
  for (const auto& [key, value] : tags) {
    if (!key.starts_with(kExtensionPrefix)) continue;
    if (std::ranges::find(kNotBuiltYet, key) != kNotBuiltYet.end()) {
      return fail(Code::kInvalid, "The tag {} isn't supported by this version of Hob yet.", key);
    }
    if (key != "hob:request-timeout" && key != "hob:idle-timeout") {
      return fail(Code::kInvalid, "Hob knows no tag {}; tags that start with hob: are settings.",
                  key);
    }
    HOB_TRY(const Duration duration,
            context(parse_duration(value), "The value of the tag {} isn't valid", key));
    if (duration > kTimeoutMax)
      return fail(Code::kInvalid, "The value of the tag {} is over 24h.", key);
    if (key == "hob:request-timeout") extensions.request_timeout = duration;
    if (key == "hob:idle-timeout") {
      if (duration < std::chrono::seconds(1))
        return fail(Code::kInvalid, "The value of the tag {} is at least 1s.", key);
      extensions.idle_timeout = duration;
    }
  }
  return extensions;
}

}  // namespace hob::runner
