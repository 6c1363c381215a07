// What AWS's model has no field for: `hob:` tags on a service (docs/extensions.md). Pure; any
// thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"
#include "link/messages.h"
#include "runner/schedule.h"
#include "runner/strategy.h"

namespace hob::runner {

inline constexpr std::string_view kExtensionPrefix = "hob:";
inline constexpr std::string_view kIsolationTag = "hob:isolation";
inline constexpr Duration kTimeoutMax = std::chrono::hours(24);
inline constexpr Duration kSleepAfterMax = std::chrono::hours(24);
inline constexpr Duration kStopAfterMax = std::chrono::hours(7 * 24);
inline constexpr Duration kKeepPreviousMax = std::chrono::hours(24);
inline constexpr Duration kStickyMax = std::chrono::hours(7 * 24);
inline constexpr int kMinSizeMax = 1'000;  // as kMaxSizeMax; a service's own maximum is lower

struct Extensions {
  std::optional<Duration> request_timeout{};  // hob:request-timeout; 0: none
  std::optional<Duration> idle_timeout{};     // hob:idle-timeout; at least 1 s
  std::optional<int> min_size{};              // hob:min-size; 0: the service may be stopped
  Schedule schedule{};                        // hob:min-size-schedule
  std::optional<Duration> sleep_after{};      // hob:sleep-after; 0 ("off"): no task ever sleeps
  std::optional<Duration> stop_after{};       // hob:stop-after
  std::optional<Strategy> strategy{};         // hob:strategy
  std::optional<Duration> keep_previous{};    // hob:keep-previous; 0 ("off"): not at all
  std::optional<Duration> sticky{};           // hob:sticky; 0 ("off"): not at all
  std::optional<link::TargetProtocol> protocol{};  // hob:protocol
  std::optional<link::Isolation> isolation{};      // hob:isolation
  bool operator==(const Extensions&) const = default;
};

// "500ms", "30s", "5m", "2h", "1d", "0". kInvalid: anything else.
Result<Duration> parse_duration(std::string_view text);
// Tags without the prefix are not looked at. kInvalid, with the reason for people: a key that is
// not known, a value out of its range.
Result<Extensions> parse_extensions(const std::map<std::string, std::string>& tags);

// How requests are served, as the tags say it. It belongs to a version: what a roll-back brings
// back, and a deployment changes for its own tasks alone.
link::RequestSettings request_settings(const std::map<std::string, std::string>& tags);
// The tags of that.
std::map<std::string, std::string> version_tags(const std::map<std::string, std::string>& tags);
std::map<std::string, std::string> version_tags(const link::RequestSettings& settings);
void replace_version_tags(std::map<std::string, std::string>& tags,
                          const std::map<std::string, std::string>& with);

// kInvalid: a minimum that is over the maximum of the service's auto scaling configuration.
Result<void> check_sizes(const std::map<std::string, std::string>& tags, int max_size);

}  // namespace hob::runner
