#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace hob {

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void Fd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Result<std::string> read_file(const std::filesystem::path& path, size_t bytes_max) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "opening " + path.string());
  std::string content;
  char buffer[16384];
  for (;;) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "reading " + path.string());
    if (got == 0) return content;
    if (content.size() + static_cast<size_t>(got) > bytes_max) {
      return fail(Code::kLimit, "{} is over {} bytes", path.string(), bytes_max);
    }
    content.append(buffer, static_cast<size_t>(got));
  }
}

Result<void> sync_directory(const std::filesystem::path& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "opening " + path.string());
  if (::fsync(fd.get()) != 0) return fail_errno(errno, "syncing " + path.string());
  return {};
}

Result<void> write_file_durably(const std::filesystem::path& path, std::string_view content,
                                unsigned mode) {
  // A name of its own: neither two processes nor two threads that replace one file write into each
  // other's.
  static std::atomic<uint64_t> count = 0;
  const std::filesystem::path temporary =
      path.string() + ".tmp" + std::to_string(::getpid()) + "-" + std::to_string(++count);
  const auto abandon = [&](const char* doing) {
    const int error = errno;
    ::unlink(temporary.c_str());
    return fail_errno(error, std::string(doing) + " " + temporary.string());
  };
  {
    const Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
    if (!fd) return fail_errno(errno, "creating " + temporary.string());
    while (!content.empty()) {
      const ssize_t wrote = ::write(fd.get(), content.data(), content.size());
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) return abandon("writing");
      content.remove_prefix(static_cast<size_t>(wrote));
    }
    if (::fsync(fd.get()) != 0) return abandon("syncing");
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) return abandon("renaming");
  return sync_directory(path.parent_path());
}

Result<void> make_directories(const std::filesystem::path& path, unsigned mode) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return {};
  if (path.has_parent_path()) {
    std::filesystem::create_directories(path.parent_path(), error);
    if (error) return fail(Code::kUnavailable, "creating {}: {}", path.string(), error.message());
  }
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) {
    return fail_errno(errno, "creating " + path.string());
  }
  if (::chmod(path.c_str(), mode) != 0) return fail_errno(errno, "chmod " + path.string());
  return {};
}

Result<void> remove_tree(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) return fail(Code::kUnavailable, "removing {}: {}", path.string(), error.message());
  return {};
}

}  // namespace hob
