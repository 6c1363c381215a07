// Files: owned descriptors, whole reads, and writes that are there after a power cut. All of these block.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace hob {

// Owns a file descriptor; closes it. -1: none.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept;
  ~Fd() { reset(); }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  void reset();
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// The whole file. kLimit: over `bytes_max`. kNotFound: no such file.
Result<std::string> read_file(const std::filesystem::path& path, size_t bytes_max);
// Replaces `path` atomically (a temporary beside it, rename) and durably (both synced).
Result<void> write_file_durably(const std::filesystem::path& path, std::string_view content, unsigned mode);
// mkdir -p; the last one gets `mode` when made.
Result<void> make_directories(const std::filesystem::path& path, unsigned mode);
// rm -r; a path that is not there is no error. Follows no link.
Result<void> remove_tree(const std::filesystem::path& path);
// fsync of a directory: makes a rename or unlink in it last.
Result<void> sync_directory(const std::filesystem::path& path);

}  // namespace hob
