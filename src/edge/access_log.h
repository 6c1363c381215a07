// The access log: one line a request, in the order they ended. docs: README.md of this room.
//
// Loops add lines to buffers of their own; a thread writes them kAccessLogDelay after the first
// of them, or when one is half full. When the disk cannot keep up or is full, lines are dropped and counted, and requests go on.
//
// A file that is full is copied over the previous one and emptied: the edge may not rename or make
// files where logs are, it has two descriptors. Whole lines are in either; what is killed meanwhile
// copies again.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/file.h"
#include "edge/limits.h"

namespace hob::edge {

struct AccessLine {
  std::string_view prefix{};  // time, client, request and so on, written when the request came
  std::string_view service{};
  int status = 0;  // 0: the client left before there was one
  uint64_t received_bytes = 0;
  uint64_t sent_bytes = 0;
  uint64_t took_us = 0;
  int tries = 1;
};

struct AccessLogFiles {
  Fd current{};   // open for reading and appending
  Fd previous{};  // open for writing, on the same file system
};

class AccessLog {
 public:
  // Nobody writes to the files but AccessLogs, one in a process. bytes_max: of each of them.
  AccessLog(AccessLogFiles files, size_t loops, size_t bytes_max = kAccessLogFileBytesMax);
  ~AccessLog();  // writes what is left
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  // From that loop's thread.
  void add(size_t loop, const AccessLine& line);
  uint64_t dropped() const;

 private:
  struct Lines {
    mutable std::mutex mutex;  // held by its loop, and for a swap by the writer
    std::string text;
    uint64_t dropped = 0;
  };
  void write_all();
  size_t write(std::string_view text);  // whole lines; answers how many of them were lost
  void rotate();

  const AccessLogFiles files_;
  const size_t bytes_max_;
  size_t bytes_ = 0;  // of the current file
  std::vector<std::unique_ptr<Lines>> lines_;
  std::mutex mutex_;  // the four below; never held while writing
  std::condition_variable wake_;
  bool has_lines_ = false;
  bool half_full_ = false;
  bool stopping_ = false;
  std::thread writer_;
};

}  // namespace hob::edge
