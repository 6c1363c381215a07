#include "runner/schedule.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string>

namespace hob::runner {

namespace {

constexpr std::array<std::string_view, 7> kDays = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};
constexpr int kDayMinutes = 24 * 60;
constexpr Duration kDay = std::chrono::hours(24);
constexpr Duration kWeek = 7 * kDay;
constexpr Duration kFirstMonday = 4 * kDay;  // 1970-01-05

std::optional<int> number(std::string_view text, int max) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 0 || value > max)
    return std::nullopt;
  return value;
}

std::optional<int> day(std::string_view text) {
  const auto found = std::ranges::find(kDays, text);
  if (found == kDays.end()) return std::nullopt;
  return static_cast<int>(found - kDays.begin());
}

// "08:30", "24:00" -> minutes.
std::optional<int> minute(std::string_view text) {
  if (text.size() != 5 || text[2] != ':') return std::nullopt;
  const auto hours = number(text.substr(0, 2), 24);
  const auto minutes = number(text.substr(3), 59);
  if (!hours || !minutes || (*hours == 24 && *minutes != 0)) return std::nullopt;
  return *hours * 60 + *minutes;
}

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

std::optional<ScheduledMinimum> parse_entry(std::string_view text) {
  const size_t first = text.find(' ');
  const size_t last = text.rfind(' ');
  if (first == std::string_view::npos || first == last) return std::nullopt;
  const std::string_view days = text.substr(0, first);
  const std::string_view span = trimmed(text.substr(first, last - first));
  ScheduledMinimum entry;
  if (days != "daily") {
    const size_t dash = days.find('-');
    const auto from = day(days.substr(0, dash));
    const auto to = dash == std::string_view::npos ? from : day(days.substr(dash + 1));
    if (!from || !to) return std::nullopt;
    entry.first_day = *from;
    entry.last_day = *to;
  }
  const size_t dash = span.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const auto from = minute(span.substr(0, dash));
  const auto to = minute(span.substr(dash + 1));
  const auto count = number(text.substr(last + 1), kScheduleCountMax);
  if (!from || !to || !count || *from == kDayMinutes || *to == 0) return std::nullopt;
  entry.from = *from;
  entry.to = *to;
  entry.count = *count;
  return entry;
}

Duration in_week(Instant now) {
  const Duration into = (now.time_since_epoch() - kFirstMonday) % kWeek;
  return into < Duration(0) ? into + kWeek : into;
}

int days_of(const ScheduledMinimum& entry) {
  return (entry.last_day - entry.first_day + 7) % 7 + 1;
}

struct Span {
  Duration begins{};  // in the week
  Duration lasts{};
};
Span span_of(const ScheduledMinimum& entry, int nth_day) {
  const int minutes =
      entry.to > entry.from ? entry.to - entry.from : entry.to + kDayMinutes - entry.from;
  return {.begins = ((entry.first_day + nth_day) % 7) * kDay + std::chrono::minutes(entry.from),
          .lasts = std::chrono::minutes(minutes)};
}

}  // namespace

Result<Schedule> parse_schedule(std::string_view text) {
  Schedule schedule;
  for (;;) {
    const size_t slash = text.find('/');
    const std::string_view word = trimmed(text.substr(0, slash));
    if (schedule.size() == kScheduleEntriesMax)
      return fail(Code::kInvalid, "a schedule has at most {} entries", kScheduleEntriesMax);
    const auto entry = parse_entry(word);
    if (!entry) {
      return fail(Code::kInvalid,
                  "'{}' is no entry of a schedule: write Mon-Fri 08:00-18:00 2, in UTC, entries "
                  "apart by /, counts up to {}",
                  word, kScheduleCountMax);
    }
    schedule.push_back(*entry);
    if (slash == std::string_view::npos) return schedule;
    text.remove_prefix(slash + 1);
  }
}

int scheduled_minimum(const Schedule& schedule, Instant now) {
  const Duration at = in_week(now);
  int minimum = 0;
  for (const ScheduledMinimum& entry : schedule) {
    for (int i = 0; i < days_of(entry); ++i) {
      const Span span = span_of(entry, i);
      if ((at - span.begins + kWeek) % kWeek < span.lasts) minimum = std::max(minimum, entry.count);
    }
  }
  return minimum;
}

std::optional<Instant> next_schedule_change(const Schedule& schedule, Instant now) {
  const Duration at = in_week(now);
  std::optional<Duration> next;
  const auto consider = [&](Duration boundary) {
    const Duration left = (boundary - at + kWeek) % kWeek;
    const Duration wait = left == Duration(0) ? kWeek : left;
    if (!next || wait < *next) next = wait;
  };
  for (const ScheduledMinimum& entry : schedule) {
    for (int i = 0; i < days_of(entry); ++i) {
      const Span span = span_of(entry, i);
      consider(span.begins);
      consider((span.begins + span.lasts) % kWeek);
    }
  }
  if (!next) return std::nullopt;
  return now + *next;
}

}  // namespace hob::runner
