// A directory in /tmp that goes with its owner.
#pragma once

#include <stdlib.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <utility>

#include "base/result.h"

namespace hob::cli {

class TemporaryDirectory {
 public:
  static Result<TemporaryDirectory> make() {
    std::string path = std::filesystem::temp_directory_path() / "hob-deploy-XXXXXX";
    if (mkdtemp(path.data()) == nullptr) return fail_errno(errno, "making a temporary directory");
    return TemporaryDirectory(path);
  }
  TemporaryDirectory(TemporaryDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryDirectory& operator=(TemporaryDirectory&&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;  // what cannot be removed is in /tmp
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  explicit TemporaryDirectory(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

}  // namespace hob::cli
