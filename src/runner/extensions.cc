#include "runner/extensions.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace hob::runner {

namespace {

// A tag whose value is a duration, and where it goes.
struct DurationTag {
  std::string_view key;
  std::optional<Duration> Extensions::*into;
  Duration min;
  Duration max;
  bool may_be_off = false;
};
constexpr Duration kSecond = std::chrono::seconds(1);
constexpr std::array kDurationTags = {
    DurationTag{"hob:request-timeout", &Extensions::request_timeout, Duration(0), kTimeoutMax},
    DurationTag{"hob:idle-timeout", &Extensions::idle_timeout, kSecond, kTimeoutMax},
    DurationTag{"hob:sleep-after", &Extensions::sleep_after, kSecond, kSleepAfterMax, true},
    DurationTag{"hob:keep-previous", &Extensions::keep_previous, kSecond, kKeepPreviousMax, true},
    DurationTag{"hob:stop-after", &Extensions::stop_after, kSecond, kStopAfterMax},
    DurationTag{"hob:sticky", &Extensions::sticky, kSecond, kStickyMax, true},
};

constexpr std::array<std::string_view, 5> kVersionTags = {
    "hob:protocol", "hob:request-timeout", "hob:idle-timeout", "hob:sticky", kIsolationTag};

Result<Duration> parse_value(const DurationTag& tag, const std::string& value) {
  if (tag.may_be_off && value == "off") return Duration(0);
  HOB_TRY(const Duration duration,
          context(parse_duration(value), "The value of the tag {} isn't valid", tag.key));
  if (duration > tag.max) {
    return fail(Code::kInvalid, "The value of the tag {} is over {}h.", tag.key,
                tag.max / std::chrono::hours(1));
  }
  if (duration < tag.min) {
    return fail(Code::kInvalid, "The value of the tag {} is at least {}s{}.", tag.key,
                tag.min / kSecond, tag.may_be_off ? ", or off" : "");
  }
  return duration;
}

Result<link::TargetProtocol> parse_protocol(std::string_view key, std::string_view value) {
  if (value == "http1") return link::TargetProtocol::kHttp1;
  if (value == "http2") return link::TargetProtocol::kHttp2;
  return fail(Code::kInvalid,
              "The value of the tag {} isn't valid: '{}' is neither http1 nor http2.", key, value);
}

Result<link::Isolation> parse_isolation(std::string_view key, std::string_view value) {
  if (value == "microvm") return link::Isolation::kMicrovm;
  if (value == "container") return link::Isolation::kContainer;
  return fail(Code::kInvalid,
              "The value of the tag {} isn't valid: '{}' is neither microvm nor container.", key,
              value);
}

Result<int> parse_count(std::string_view key, const std::string& value) {
  int count = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), count);
  if (error != std::errc{} || end != value.data() + value.size() || count < 0 ||
      count > kMinSizeMax) {
    return fail(Code::kInvalid,
                "The value of the tag {} isn't valid: '{}' is no whole number from 0 to {}.", key,
                value, kMinSizeMax);
  }
  return count;
}

}  // namespace

Result<Duration> parse_duration(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  constexpr int64_t kNumberMax = 1'000'000;
  const bool known = unit == "ms" || unit == "s" || unit == "m" || unit == "h" || unit == "d" ||
                     (unit.empty() && number == 0);
  if (error != std::errc{} || !known || number < 0 || number > kNumberMax) {
    return fail(Code::kInvalid, "'{}' is no duration: write 500ms, 30s, 5m, 2h or 1d", text);
  }
  if (unit == "d") return Duration(std::chrono::hours(24 * number));
  if (unit == "h") return Duration(std::chrono::hours(number));
  if (unit == "m") return Duration(std::chrono::minutes(number));
  if (unit == "ms") return Duration(number);
  return Duration(std::chrono::seconds(number));
}

Result<Extensions> parse_extensions(const std::map<std::string, std::string>& tags) {
  Extensions extensions;
  for (const auto& [key, value] : tags) {
    if (!key.starts_with(kExtensionPrefix)) continue;
    const auto tag = std::ranges::find(kDurationTags, key, &DurationTag::key);
    if (tag != kDurationTags.end()) {
      HOB_TRY(extensions.*(tag->into), parse_value(*tag, value));
    } else if (key == "hob:min-size") {
      HOB_TRY(extensions.min_size, parse_count(key, value));
    } else if (key == "hob:protocol") {
      HOB_TRY(extensions.protocol, parse_protocol(key, value));
    } else if (key == kIsolationTag) {
      HOB_TRY(extensions.isolation, parse_isolation(key, value));
    } else if (key == "hob:min-size-schedule") {
      HOB_TRY(extensions.schedule,
              context(parse_schedule(value), "The value of the tag {} isn't valid", key));
    } else if (key == "hob:strategy") {
      HOB_TRY(extensions.strategy,
              context(parse_strategy(value), "The value of the tag {} isn't valid", key));
    } else {
      return fail(Code::kInvalid, "Hob knows no tag {}; tags that start with hob: are settings.",
                  key);
    }
  }
  return extensions;
}

link::RequestSettings request_settings(const std::map<std::string, std::string>& tags) {
  link::RequestSettings settings;
  // Tags are checked when they are set; what an older version let through is left out.
  const auto extensions = parse_extensions(tags);
  if (!extensions) return settings;
  settings.protocol = extensions->protocol.value_or(settings.protocol);
  settings.request_timeout = extensions->request_timeout.value_or(settings.request_timeout);
  settings.idle_timeout = extensions->idle_timeout.value_or(settings.idle_timeout);
  settings.sticky = extensions->sticky.value_or(settings.sticky);
  return settings;
}

std::map<std::string, std::string> version_tags(const std::map<std::string, std::string>& tags) {
  std::map<std::string, std::string> mine;
  for (const std::string_view key : kVersionTags) {
    if (const auto found = tags.find(std::string(key)); found != tags.end()) mine.insert(*found);
  }
  return mine;
}

std::map<std::string, std::string> version_tags(const link::RequestSettings& settings) {
  constexpr link::RequestSettings kUnset;
  std::map<std::string, std::string> tags;
  if (settings.protocol == link::TargetProtocol::kHttp2) tags["hob:protocol"] = "http2";
  if (settings.request_timeout != kUnset.request_timeout)
    tags["hob:request-timeout"] = show(settings.request_timeout);
  if (settings.idle_timeout != kUnset.idle_timeout)
    tags["hob:idle-timeout"] = show(settings.idle_timeout);
  if (settings.sticky != kUnset.sticky) tags["hob:sticky"] = show(settings.sticky);
  return tags;
}

void replace_version_tags(std::map<std::string, std::string>& tags,
                          const std::map<std::string, std::string>& with) {
  for (const std::string_view key : kVersionTags) tags.erase(std::string(key));
  tags.insert(with.begin(), with.end());
}

Result<void> check_sizes(const std::map<std::string, std::string>& tags, int max_size) {
  HOB_TRY(const Extensions extensions, parse_extensions(tags));
  const auto over = [max_size](std::string_view key, int count) {
    return fail(Code::kInvalid,
                "The value of the tag {} ({}) can't be greater than MaxSize ({}) of the service's "
                "auto scaling configuration.",
                key, count, max_size);
  };
  if (extensions.min_size.value_or(0) > max_size) return over("hob:min-size", *extensions.min_size);
  for (const ScheduledMinimum& entry : extensions.schedule) {
    if (entry.count > max_size) return over("hob:min-size-schedule", entry.count);
  }
  return {};
}

}  // namespace hob::runner
