#include "cli/words.h"

#include <charconv>

namespace hob::cli {
namespace {

constexpr int64_t kAgeCountMax = 100'000;  // of any unit: below what a Duration holds

}  // namespace

Result<Duration> parse_age(std::string_view text) {
  int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  if (error == std::errc{} && count > 0 && count <= kAgeCountMax) {
    if (unit == "s") return std::chrono::seconds(count);
    if (unit == "m") return std::chrono::minutes(count);
    if (unit == "h") return std::chrono::hours(count);
    if (unit == "d") return std::chrono::hours(24 * count);
  }
  return fail(Code::kInvalid, "'{}' is no time; give one as 30s, 10m, 2h or 1d", text);
}

}  // namespace hob::cli
