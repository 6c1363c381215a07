// The access log: one line a request, in the order they ended. docs: README.md of this room.
//
// Loops add lines to buffers of their own; a thread writes them once a second. When the disk cannot
// keep up, lines are dropped and counted, and requests go on.
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

class AccessLog {
 public:
  // Appends to `file`.
  AccessLog(Fd file, size_t loops);
  ~AccessLog();  // writes what is left
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  // From that loop's thread.
  void add(size_t loop, const AccessLine& line);
  uint64_t dropped() const;

 private:
  struct Lines {
    mutable std::mutex mutex;  // held by its loop, and for a swap once a second by the writer
    std::string text;
    uint64_t dropped = 0;
  };
  void write_all();

  Fd file_;
  std::vector<std::unique_ptr<Lines>> lines_;
  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  std::thread writer_;
};

}  // namespace hob::edge
