// A task's output on its way to the disk: lines of the CRI log format in a file of bounded size.
//
// For hob-monitor, of which a host has one for each task, so it is plain: system calls, no
// allocation, and memory that is touched only as far as a task prints. One thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string_view>

namespace hob::sandbox {

inline constexpr size_t kOutputChunkBytesMax = 16 * 1024;  // of one read of a task's output
inline constexpr size_t kOutputBufferBytes = 32 * 1024;    // of lines, for one write to the file
inline constexpr size_t kOutputPrefixBytes = 45;  // "2026-11-23T22:11:49.123456789+00:00 stdout F "
static_assert(kOutputBufferBytes >= kOutputPrefixBytes + kOutputChunkBytesMax + 1);

enum class OutputStream { kStdout, kStderr };

class OutputLog {
 public:
  // A file that is there already at `path` (a string that lives on) is gone on with. At `bytes_max`
  // a new one takes its place, by rename from "<path>.tmp": its directory reports IN_MOVED_TO, and
  // the old one stays where somebody linked it.
  OutputLog(const char* path, uint64_t bytes_max) : path_(path), bytes_max_(bytes_max) {}
  ~OutputLog();
  OutputLog(const OutputLog&) = delete;
  OutputLog& operator=(const OutputLog&) = delete;
  // False: errno says why not.
  bool open();
  // `bytes`: at most kOutputChunkBytesMax; what they end with that is no whole line is marked as a
  // part of one. `now`: wall-clock time. All is in the file when this returns, but for what the
  // disk has no room for: that is lost, and the task never waits for it.
  void write(OutputStream stream, std::string_view bytes, const timespec& now);

 private:
  void append(std::string_view bytes);
  void flush();
  void replace();

  const char* path_;
  uint64_t bytes_max_;
  int file_ = -1;
  uint64_t size_ = 0;  // of the file and of what is in the buffer
  size_t used_ = 0;
  bool torn_ = false;                            // the file ends within a line
  std::array<char, kOutputBufferBytes> buffer_;  // set as far as `used_`, so not touched before
};

}  // namespace hob::sandbox
