#include "cli/log_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace hob::cli {

LogFile::LogFile(std::filesystem::path path) : path_(std::move(path)) {
  fd_ = Fd(open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640));
  struct stat status{};
  if (fd_ && fstat(fd_.get(), &status) == 0) bytes_ = static_cast<size_t>(status.st_size);
}

void LogFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t end = bytes.find('\n');
    const std::string_view piece = bytes.substr(0, end);
    if (rest_.size() < kLogLineBytesMax)
      rest_.append(piece.substr(0, kLogLineBytesMax - rest_.size()));
    if (end == std::string_view::npos) return;
    write_line(rest_);
    rest_.clear();
    bytes.remove_prefix(end + 1);
  }
}

void LogFile::drain(int pipe) {
  char buffer[16 * 1024];
  for (size_t total = 0; total < kLogBytesMax;) {
    const ssize_t got = read(pipe, buffer, sizeof buffer);
    if (got <= 0) return;
    write(std::string_view(buffer, static_cast<size_t>(got)));
    total += static_cast<size_t>(got);
  }
}

void LogFile::write_line(std::string_view line) {
  last_.emplace_back(line);
  if (last_.size() > kLogLinesKept) last_.pop_front();
  if (bytes_ + line.size() + 1 > kLogBytesMax) rotate();
  if (!fd_) return;
  const std::string text = std::string(line) + "\n";
  const ssize_t written = ::write(fd_.get(), text.data(), text.size());
  if (written > 0) bytes_ += static_cast<size_t>(written);
}

void LogFile::rotate() {
  for (int i = kLogFilesMax - 1; i > 0; --i) {
    const std::filesystem::path to = path_.string() + "." + std::to_string(i);
    const std::string from = i == 1 ? path_.string() : path_.string() + "." + std::to_string(i - 1);
    std::error_code ignored;  // the first times they are not all there
    std::filesystem::rename(from, to, ignored);
  }
  fd_ = Fd(open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0640));
  bytes_ = 0;
}

}  // namespace hob::cli
