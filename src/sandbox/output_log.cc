#include "sandbox/output_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstring>
#include <utility>

namespace hob::sandbox {

namespace {

using Prefix = std::array<char, kOutputPrefixBytes>;

constexpr size_t kTagAt = kOutputPrefixBytes - 2;  // where "F" or "P" stands

char* put_number(char* at, long value, int digits) {
  for (int i = digits - 1; i >= 0; --i, value /= 10) at[i] = static_cast<char>('0' + value % 10);
  return at + digits;
}

char* put_text(char* at, std::string_view text) {
  std::memcpy(at, text.data(), text.size());
  return at + text.size();
}

// Not by gmtime(), which opens the machine's time zone first.
Prefix prefix_of(OutputStream stream, const timespec& now) {
  const std::chrono::sys_seconds seconds{std::chrono::seconds(now.tv_sec)};
  const auto day = std::chrono::floor<std::chrono::days>(seconds);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(seconds - day);
  Prefix prefix;
  char* at = put_number(prefix.data(), static_cast<int>(date.year()), 4);
  at = put_text(at, "-");
  at = put_number(at, static_cast<unsigned>(date.month()), 2);
  at = put_text(at, "-");
  at = put_number(at, static_cast<unsigned>(date.day()), 2);
  at = put_text(at, "T");
  at = put_number(at, time.hours().count(), 2);
  at = put_text(at, ":");
  at = put_number(at, time.minutes().count(), 2);
  at = put_text(at, ":");
  at = put_number(at, time.seconds().count(), 2);
  at = put_text(at, ".");
  at = put_number(at, now.tv_nsec, 9);
  put_text(at, stream == OutputStream::kStdout ? "+00:00 stdout F " : "+00:00 stderr F ");
  return prefix;
}

int open_file(const char* path, int flags) {
  return ::open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);
}

}  // namespace

OutputLog::~OutputLog() {
  if (file_ >= 0) ::close(file_);
}

bool OutputLog::open() {
  file_ = open_file(path_, O_APPEND);
  if (file_ < 0) return false;
  struct stat info {};
  if (::fstat(file_, &info) == 0) size_ = static_cast<uint64_t>(info.st_size);
  return true;
}

void OutputLog::write(OutputStream stream, std::string_view bytes, const timespec& now) {
  Prefix prefix = prefix_of(stream, now);
  while (!bytes.empty()) {
    const size_t end = bytes.find('\n');
    const bool whole = end != std::string_view::npos;
    const std::string_view text = bytes.substr(0, end);
    bytes.remove_prefix(whole ? end + 1 : bytes.size());
    prefix[kTagAt] = whole ? 'F' : 'P';
    const size_t entry = prefix.size() + text.size() + 1;
    if (size_ + entry > bytes_max_) replace();
    if (used_ + entry > buffer_.size()) flush();
    append(std::string_view(prefix.data(), prefix.size()));
    append(text);
    append("\n");
  }
  flush();
}

void OutputLog::append(std::string_view bytes) {
  put_text(buffer_.data() + used_, bytes);
  used_ += bytes.size();
  size_ += bytes.size();
}

void OutputLog::flush() {
  // What a full disk cut short is a line of its own, not the beginning of the next.
  if (torn_ && used_ > 0 && ::write(file_, "\n", 1) == 1) {
    torn_ = false;
    ++size_;
  }
  for (size_t at = 0; at < used_;) {
    const ssize_t wrote = ::write(file_, buffer_.data() + at, used_ - at);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      torn_ = torn_ || at > 0;
      break;
    }
    at += static_cast<size_t>(wrote);
  }
  used_ = 0;
}

void OutputLog::replace() {
  flush();
  std::array<char, PATH_MAX> temporary;
  const int length = std::snprintf(temporary.data(), temporary.size(), "%s.tmp", path_);
  if (length < 0 || static_cast<size_t>(length) >= temporary.size()) return;
  const int made = open_file(temporary.data(), O_TRUNC | O_APPEND);
  if (made >= 0 && std::rename(temporary.data(), path_) == 0) {
    ::close(std::exchange(file_, made));
  } else {
    // Without a new file (no inode left, say) the old one begins anew: lines are lost, no disk is.
    if (made >= 0) ::close(made);
    if (::ftruncate(file_, 0) != 0) return;
  }
  size_ = 0;
}

}  // namespace hob::sandbox
