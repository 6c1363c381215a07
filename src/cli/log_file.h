// A daemon's log on disk: lines appended, rotated by size, so that a log never fills the disk.
#pragma once

#include <deque>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/file.h"

namespace hob::cli {

inline constexpr size_t kLogBytesMax = 8 * 1024 * 1024;  // of one file; then it becomes NAME.1
inline constexpr int kLogFilesMax = 3;                   // NAME, NAME.1, NAME.2
inline constexpr size_t kLogLinesKept = 10;              // in memory, to say why a daemon ended
inline constexpr size_t kLogLineBytesMax = 16 * 1024;    // beyond: cut

class LogFile {
 public:
  explicit LogFile(std::filesystem::path path);
  // Bytes as they come from the daemon's stderr; whole lines are written. Blocks shortly. A full
  // disk loses lines.
  void write(std::string_view bytes);
  // Writes what a non-blocking pipe holds now, at most kLogBytesMax.
  void drain(int pipe);
  // The last whole lines.
  const std::deque<std::string>& last_lines() const { return last_; }

 private:
  void write_line(std::string_view line);
  void rotate();

  std::filesystem::path path_;
  Fd fd_;
  size_t bytes_ = 0;
  std::string rest_;
  std::deque<std::string> last_;
};

}  // namespace hob::cli
