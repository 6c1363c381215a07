#include "host/cri_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>

#include "base/file.h"

namespace hob::host {

namespace {

constexpr size_t kTailBytes = 64 * 1024;  // read of a file's end for its last lines

// `count` digits at the front of `text`, which are taken off.
std::optional<int> take_digits(std::string_view& text, size_t count) {
  if (text.size() < count) return std::nullopt;
  int value = 0;
  for (size_t i = 0; i < count; ++i) {
    if (text[i] < '0' || text[i] > '9') return std::nullopt;
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(count);
  return value;
}

bool take(std::string_view& text, char c) {
  if (text.empty() || text.front() != c) return false;
  text.remove_prefix(1);
  return true;
}

// "2026-11-23T22:11:49.123456789+00:00" or with "Z".
std::optional<Instant> parse_time(std::string_view text) {
  using namespace std::chrono;
  const auto year = take_digits(text, 4);
  if (!year || !take(text, '-')) return std::nullopt;
  const auto month = take_digits(text, 2);
  if (!month || !take(text, '-')) return std::nullopt;
  const auto day = take_digits(text, 2);
  if (!day || !take(text, 'T')) return std::nullopt;
  const auto hour = take_digits(text, 2);
  if (!hour || *hour > 23 || !take(text, ':')) return std::nullopt;
  const auto minute = take_digits(text, 2);
  if (!minute || *minute > 59 || !take(text, ':')) return std::nullopt;
  const auto second = take_digits(text, 2);
  if (!second || *second > 60) return std::nullopt;
  const year_month_day date{std::chrono::year(*year),
                            std::chrono::month(static_cast<unsigned>(*month)),
                            std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok()) return std::nullopt;
  int millis = 0;
  if (take(text, '.')) {
    int scale = 100;
    while (!text.empty() && text.front() >= '0' && text.front() <= '9') {
      millis += scale * (text.front() - '0');
      scale /= 10;
      text.remove_prefix(1);
    }
  }
  minutes offset{0};
  if (!take(text, 'Z')) {
    const bool west = text.starts_with('-');
    if (!west && !text.starts_with('+')) return std::nullopt;
    text.remove_prefix(1);
    const auto hours_off = take_digits(text, 2);
    if (!hours_off || *hours_off > 23 || !take(text, ':')) return std::nullopt;
    const auto minutes_off = take_digits(text, 2);
    if (!minutes_off || *minutes_off > 59) return std::nullopt;
    offset = hours(*hours_off) + minutes(*minutes_off);
    if (west) offset = -offset;
  }
  if (!text.empty()) return std::nullopt;
  const auto since_epoch = sys_days(date).time_since_epoch() + hours(*hour) + minutes(*minute) +
                           seconds(*second) - offset + milliseconds(millis);
  return Instant(duration_cast<Duration>(since_epoch));
}

// The length of the UTF-8 sequence at the front of `text`; 0: there is none.
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto continues = [&](size_t i) { return i < text.size() && (byte(i) & 0xC0) == 0x80; };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return continues(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    if (!continues(1) || !continues(2)) return 0;
    if (first == 0xE0 && byte(1) < 0xA0) return 0;
    if (first == 0xED && byte(1) > 0x9F) return 0;  // surrogates
    return 3;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    if (!continues(1) || !continues(2) || !continues(3)) return 0;
    if (first == 0xF0 && byte(1) < 0x90) return 0;
    if (first == 0xF4 && byte(1) > 0x8F) return 0;
    return 4;
  }
  return 0;
}

// The last `bytes` of a file, from a line's start; empty if there is none.
std::string read_tail(const std::filesystem::path& path, size_t bytes) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status{};
  if (!fd || ::fstat(fd.get(), &status) != 0) return {};
  const auto size = static_cast<size_t>(status.st_size);
  const size_t from = size > bytes ? size - bytes : 0;
  std::string text(size - from, '\0');
  const ssize_t got = ::pread(fd.get(), text.data(), text.size(), static_cast<off_t>(from));
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  if (from > 0) text.erase(0, std::min(text.find('\n'), text.size() - 1) + 1);
  return text;
}

}  // namespace

std::optional<CriEntry> parse_cri_line(std::string_view line) {
  const size_t time_end = line.find(' ');
  if (time_end == std::string_view::npos) return std::nullopt;
  const std::optional<Instant> at = parse_time(line.substr(0, time_end));
  if (!at) return std::nullopt;
  line.remove_prefix(time_end + 1);
  if (!line.starts_with("stdout ") && !line.starts_with("stderr ")) return std::nullopt;
  line.remove_prefix(7);
  if (line.empty() || (line[0] != 'F' && line[0] != 'P')) return std::nullopt;
  const bool partial = line[0] == 'P';
  line.remove_prefix(1);
  if (!line.empty() && line.front() != ' ') return std::nullopt;
  if (!line.empty()) line.remove_prefix(1);
  return CriEntry{.at = *at, .partial = partial, .text = line};
}

std::string to_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const size_t length = utf8_length(bytes);
    if (length == 0)
      text += "\xEF\xBF\xBD";
    else
      text += bytes.substr(0, length);
    bytes.remove_prefix(std::max<size_t>(length, 1));
  }
  return text;
}

ParsedLog parse_cri_log(std::string_view text, size_t lines_max, size_t bytes_max) {
  ParsedLog parsed;
  size_t at = 0;
  size_t bytes = 0;
  std::string line;  // put together so far
  Instant line_at{};
  const auto flush = [&] {
    bytes += line.size();
    parsed.lines.push_back({.at = line_at, .text = to_utf8(line)});
    line.clear();
    parsed.consumed = at;
  };
  while (parsed.lines.size() < lines_max && bytes < bytes_max) {
    const size_t end = text.find('\n', at);
    if (end == std::string_view::npos) break;
    const std::optional<CriEntry> entry = parse_cri_line(text.substr(at, end - at));
    at = end + 1;
    if (!entry) {
      if (line.empty()) parsed.consumed = at;
      continue;
    }
    if (line.empty()) line_at = entry->at;
    line += entry->text;
    if (!entry->partial || line.size() >= kLogLineBytesMax) flush();
  }
  return parsed;
}

std::vector<std::string> read_last_lines(const std::filesystem::path& path, size_t lines_max,
                                         size_t bytes_max) {
  std::vector<std::string> lines;
  for (const std::string& file : {path.string() + ".1", path.string()}) {
    const std::string text = read_tail(file, kTailBytes);
    for (link::LogLine& line : parse_cri_log(text, text.size(), text.size()).lines) {
      if (line.text.size() > bytes_max)
        line.text = to_utf8(std::string_view(line.text).substr(0, bytes_max - 3));
      lines.push_back(std::move(line.text));
    }
  }
  if (lines.size() > lines_max)
    lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(lines_max));
  return lines;
}

}  // namespace hob::host
