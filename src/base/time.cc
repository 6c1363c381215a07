#include "base/time.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>

namespace hob {

Instant SystemClock::now() const {
  return Instant(std::chrono::duration_cast<Duration>(
      std::chrono::system_clock::now().time_since_epoch()));
}

double epoch_seconds(Instant at) {
  return static_cast<double>(at.time_since_epoch().count()) / 1000.0;
}

namespace {
std::tm utc(Instant at) {
  const std::time_t seconds = std::chrono::floor<std::chrono::seconds>(at.time_since_epoch()).count();
  std::tm tm{};
  gmtime_r(&seconds, &tm);
  return tm;
}
}  // namespace

std::string iso8601(Instant at) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(at.time_since_epoch());
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", utc(at),
                     (at.time_since_epoch() - whole).count());
}

std::string iso8601_basic(Instant at) { return fmt::format("{:%Y%m%dT%H%M%SZ}", utc(at)); }

}  // namespace hob
