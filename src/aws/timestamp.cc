#include "aws/timestamp.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>

namespace hob::aws {

namespace {

constexpr double kSecondsMin = -62'135'596'800.0;  // 0001-01-01
constexpr double kSecondsMax = 253'402'300'800.0;  // 10000-01-01

// Takes exactly `digits` digits off the front.
std::optional<int> take_digits(std::string_view& text, size_t digits) {
  if (text.size() < digits) return std::nullopt;
  int value = 0;
  for (const char c : text.substr(0, digits)) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  text.remove_prefix(digits);
  return value;
}

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

std::optional<Instant> from_parts(int year, int month, int day, int hour, int minute, int second) {
  const std::chrono::year_month_day date{std::chrono::year(year),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok() || hour > 23 || minute > 59 || second > 60) return std::nullopt;
  const auto days = std::chrono::sys_days(date).time_since_epoch();
  return Instant(std::chrono::duration_cast<Duration>(days) + std::chrono::hours(hour) +
                 std::chrono::minutes(minute) + std::chrono::seconds(second));
}

// "hh:mm:ss" or "hhmmss".
std::optional<Instant> take_clock(std::string_view& text, std::string_view colon, int year,
                                  int month, int day) {
  const auto hour = take_digits(text, 2);
  if (!hour || !take(text, colon)) return std::nullopt;
  const auto minute = take_digits(text, 2);
  if (!minute || !take(text, colon)) return std::nullopt;
  const auto second = take_digits(text, 2);
  if (!second) return std::nullopt;
  return from_parts(year, month, day, *hour, *minute, *second);
}

// ".123456": what it is in milliseconds.
std::optional<Duration> take_fraction(std::string_view& text) {
  if (!take(text, ".")) return Duration(0);
  int milliseconds = 0;
  size_t digits = 0;
  while (digits < text.size() && digits < 9 && text[digits] >= '0' && text[digits] <= '9') {
    if (digits < 3) milliseconds = milliseconds * 10 + (text[digits] - '0');
    ++digits;
  }
  if (digits == 0) return std::nullopt;
  for (size_t missing = digits; missing < 3; ++missing) milliseconds *= 10;
  text.remove_prefix(digits);
  return Duration(milliseconds);
}

}  // namespace

std::optional<Instant> timestamp_from_seconds(double seconds) {
  if (!(seconds >= kSecondsMin && seconds < kSecondsMax)) return std::nullopt;
  return Instant(Duration(std::llround(seconds * 1000.0)));
}

std::optional<Instant> timestamp_from_text(std::string_view text) {
  double seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error == std::errc() && end == text.data() + text.size())
    return timestamp_from_seconds(seconds);
  const auto year = take_digits(text, 4);
  if (!year || !take(text, "-")) return std::nullopt;
  const auto month = take_digits(text, 2);
  if (!month || !take(text, "-")) return std::nullopt;
  const auto day = take_digits(text, 2);
  if (!day || !take(text, "T")) return std::nullopt;
  const auto whole = take_clock(text, ":", *year, *month, *day);
  const auto fraction = whole ? take_fraction(text) : std::nullopt;
  if (!fraction) return std::nullopt;
  if (text == "Z" || text == "z") return *whole + *fraction;
  const bool west = text.starts_with('-');
  if (!west && !text.starts_with('+')) return std::nullopt;
  text.remove_prefix(1);
  const auto hours = take_digits(text, 2);
  if (!hours || !take(text, ":")) return std::nullopt;
  const auto minutes = take_digits(text, 2);
  if (!minutes || !text.empty()) return std::nullopt;
  const Duration offset = std::chrono::hours(*hours) + std::chrono::minutes(*minutes);
  return *whole + *fraction + (west ? offset : -offset);
}

std::optional<Instant> timestamp_from_basic(std::string_view text) {
  const auto year = take_digits(text, 4);
  const auto month = year ? take_digits(text, 2) : std::nullopt;
  const auto day = month ? take_digits(text, 2) : std::nullopt;
  if (!day || !take(text, "T")) return std::nullopt;
  const auto at = take_clock(text, "", *year, *month, *day);
  return at && text == "Z" ? at : std::nullopt;
}

std::optional<Instant> timestamp_from_http_date(std::string_view text) {
  constexpr std::array<std::string_view, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const size_t comma = text.find(", ");
  if (comma != 3) return std::nullopt;
  text.remove_prefix(comma + 2);
  const auto day = take_digits(text, 2);
  if (!day || !take(text, " ") || text.size() < 4) return std::nullopt;
  const auto month = std::ranges::find(kMonths, text.substr(0, 3));
  if (month == kMonths.end()) return std::nullopt;
  text.remove_prefix(3);
  if (!take(text, " ")) return std::nullopt;
  const auto year = take_digits(text, 4);
  if (!year || !take(text, " ")) return std::nullopt;
  const auto at = take_clock(text, ":", *year, static_cast<int>(month - kMonths.begin()) + 1, *day);
  return at && text == " GMT" ? at : std::nullopt;
}

}  // namespace hob::aws
