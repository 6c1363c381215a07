#include "edge/access_log.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/log.h"

namespace hob::edge {
namespace {

// The longest piece of whole lines that has room; 0: not one line has.
size_t lines_within(std::string_view text, size_t room) {
  if (text.size() <= room) return text.size();
  return text.substr(0, room).rfind('\n') + 1;  // npos + 1 is 0
}

// Of the process, while it lives: an edge that hands over and its successor write to one file. A
// lock of the open file (flock) would be both's, since they have inherited it.
class FileLock {
 public:
  explicit FileLock(int fd) : fd_(fd) { set(F_WRLCK); }
  ~FileLock() { set(F_UNLCK); }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  // Interrupted, or no lock to be had: a torn rotation loses some lines, a stuck log all.
  void set(short type) const {
    struct flock lock {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    ::fcntl(fd_, F_SETLKW, &lock);
  }
  int fd_;
};

}  // namespace

AccessLog::AccessLog(AccessLogFiles files, size_t loops, size_t bytes_max)
    : files_(std::move(files)), bytes_max_(bytes_max) {
  for (size_t i = 0; i < loops; ++i) lines_.push_back(std::make_unique<Lines>());
  writer_ = std::thread([this] {
    for (bool last = false; !last;) {
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return stopping_ || has_lines_; });
        // What comes in a moment is written with it.
        wake_.wait_for(lock, kAccessLogDelay, [this] { return stopping_ || half_full_; });
        has_lines_ = half_full_ = false;
        last = stopping_;
      }
      write_all();
    }
  });
}

AccessLog::~AccessLog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  writer_.join();
}

void AccessLog::add(size_t loop, const AccessLine& line) {
  const std::string text =
      fmt::format("{} {} {} {} {} {:.6f} {}\n", line.prefix,
                  line.service.empty() ? "-" : line.service, line.status, line.received_bytes,
                  line.sent_bytes, static_cast<double>(line.took_us) / 1e6, line.tries);
  bool half_full = false;
  {
    Lines& lines = *lines_[loop];
    const std::lock_guard lock(lines.mutex);
    const size_t before = lines.text.size();
    if (before > kAccessLogBytesMax) {
      ++lines.dropped;
      return;
    }
    lines.text += text;
    half_full = before < kAccessLogBytesMax / 2 && lines.text.size() >= kAccessLogBytesMax / 2;
    if (before > 0 && !half_full) return;  // the writer knows
  }
  {
    const std::lock_guard lock(mutex_);
    has_lines_ = true;
    half_full_ = half_full_ || half_full;
  }
  wake_.notify_one();
}

uint64_t AccessLog::dropped() const {
  uint64_t sum = 0;
  for (const auto& lines : lines_) {
    const std::lock_guard lock(lines->mutex);
    sum += lines->dropped;
  }
  return sum;
}

void AccessLog::write_all() {
  for (const auto& lines : lines_) {
    std::string text;
    {
      const std::lock_guard lock(lines->mutex);
      text.swap(lines->text);
    }
    if (const size_t lost = write(text); lost > 0) {
      const std::lock_guard lock(lines->mutex);
      lines->dropped += lost;
    }
  }
}

size_t AccessLog::write(std::string_view text) {
  if (text.empty()) return 0;
  const FileLock lock(files_.current.get());
  struct stat status {};
  if (::fstat(files_.current.get(), &status) == 0) bytes_ = static_cast<size_t>(status.st_size);
  while (!text.empty()) {
    size_t piece = lines_within(text, bytes_max_ - std::min(bytes_, bytes_max_));
    if (piece == 0 && bytes_ > 0) {
      rotate();
      continue;
    }
    if (piece == 0) piece = text.find('\n') + 1;
    const ssize_t done = ::write(files_.current.get(), text.data(), piece);
    // A full disk must not stop requests.
    if (done <= 0) return static_cast<size_t>(std::ranges::count(text, '\n'));
    bytes_ += static_cast<size_t>(done);
    text.remove_prefix(static_cast<size_t>(done));
  }
  return 0;
}

void AccessLog::rotate() {
  bool copied = ::ftruncate(files_.previous.get(), 0) == 0;
  off64_t from = 0;
  off64_t to = 0;
  while (copied && static_cast<size_t>(from) < bytes_) {
    const size_t left = bytes_ - static_cast<size_t>(from);
    const ssize_t done =
        ::copy_file_range(files_.current.get(), &from, files_.previous.get(), &to, left, 0);
    if (done == 0) break;  // somebody has emptied it
    copied = done > 0;
  }
  // Emptied all the same: it must not fill the disk.
  if (!copied) log::warn("access log: old lines are lost", {{"error", std::strerror(errno)}});
  if (::ftruncate(files_.current.get(), 0) != 0)
    log::error("access log: cannot be emptied", {{"error", std::strerror(errno)}});
  bytes_ = 0;
}

}  // namespace hob::edge
