#include "edge/access_log.h"

#include <fmt/core.h>
#include <unistd.h>

#include <chrono>

#include "edge/limits.h"

namespace hob::edge {

AccessLog::AccessLog(Fd file, size_t loops) : file_(std::move(file)) {
  for (size_t i = 0; i < loops; ++i) lines_.push_back(std::make_unique<Lines>());
  writer_ = std::thread([this] {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      stop_.wait_for(lock, std::chrono::seconds(1));
      write_all();
    }
  });
}

AccessLog::~AccessLog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_one();
  writer_.join();
}

void AccessLog::add(size_t loop, const AccessLine& line) {
  Lines& lines = *lines_[loop];
  const std::lock_guard lock(lines.mutex);
  if (lines.text.size() > kAccessLogBytesMax) {
    ++lines.dropped;
    return;
  }
  lines.text +=
      fmt::format("{} {} {} {} {} {:.6f} {}\n", line.prefix,
                  line.service.empty() ? "-" : line.service, line.status, line.received_bytes,
                  line.sent_bytes, static_cast<double>(line.took_us) / 1e6, line.tries);
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
    for (std::string_view rest = text; !rest.empty();) {
      const ssize_t done = ::write(file_.get(), rest.data(), rest.size());
      if (done <= 0) break;  // a full disk must not stop requests
      rest.remove_prefix(static_cast<size_t>(done));
    }
  }
}

}  // namespace hob::edge
