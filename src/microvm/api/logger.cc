#include "microvm/api/logger.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace hob::microvm {
namespace {

constexpr std::array<std::string_view, 6> kWords = {"OFF",  "ERROR", "WARN",
                                                    "INFO", "DEBUG", "TRACE"};

// Local time with nine digits of a second.
std::string time_now() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  localtime_r(&now.tv_sec, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                     now.tv_nsec);
}

void append_escaped(std::string& line, std::string_view text) {
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte < 0x20 || byte == 0x7f)
      line += fmt::format("\\x{:02x}", static_cast<unsigned>(byte));
    else
      line += c;
  }
}

}  // namespace

std::optional<LogLevel> parse_level(std::string_view word) {
  std::string upper(word);
  std::ranges::transform(upper, upper.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  });
  if (upper == "WARNING") upper = "WARN";
  const auto found = std::ranges::find(kWords, upper);
  if (found == kWords.end()) return std::nullopt;
  return static_cast<LogLevel>(found - kWords.begin());
}

Result<Fd> open_for_lines(const std::string& path) {
  if (path.contains('\0')) return fail(Code::kInvalid, "its path has a zero byte");
  constexpr mode_t kOwner = 0600;
  Fd file(::open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_NONBLOCK | O_CLOEXEC | O_NOCTTY,
                 kOwner));
  if (!file) return fail_errno(errno, path);
  return file;
}

Result<void> Logger::update(const LoggerUpdate& update) {
  if (update.path) {
    HOB_TRY(file_, open_for_lines(*update.path));
  }
  level_ = update.level.value_or(level_);
  show_level_ = update.show_level.value_or(show_level_);
  show_origin_ = update.show_origin.value_or(show_origin_);
  return {};
}

void Logger::log(LogLevel level, std::string_view thread, std::string_view text,
                 std::source_location origin) {
  if (!writes(level)) return;
  std::string line = fmt::format("{} [{}:{}", time_now(), id_, thread);
  if (show_level_) line += fmt::format(":{}", kWords[static_cast<size_t>(level)]);
  if (show_origin_) line += fmt::format(":{}:{}", origin.file_name(), origin.line());
  line += "] ";
  append_escaped(line, text);
  line += '\n';
  ssize_t written = 0;
  do {
    written = write(file_.get(), line.data(), line.size());
  } while (written < 0 && errno == EINTR);
  if (written != static_cast<ssize_t>(line.size())) ++missed_;
}

}  // namespace hob::microvm
