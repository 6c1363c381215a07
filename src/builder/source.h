// A source tree as detection and packing see it: a port, with a folder on disk behind it here and
// what tests make up.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace hob::builder {

inline constexpr size_t kSourceFilesMax = 100'000;
inline constexpr uint64_t kSourceBytesMax = 512ULL * 1024 * 1024;
inline constexpr size_t kSourceReadBytesMax = 1024 * 1024;  // of one file that detection looks at
inline constexpr int kSourceDepthMax = 64;

struct SourceFile {
  enum class Kind { kFile, kDirectory, kLink };
  std::string path{};  // "src/main.js"
  Kind kind = Kind::kFile;
  uint64_t size = 0;
  bool executable = false;
  std::string target{};  // of a link, as it is written
};

class Source {
 public:
  virtual ~Source() = default;
  // Sorted by path, in bytes.
  virtual const std::vector<SourceFile>& files() const = 0;
  // A regular file's content. kNotFound: there is none, or it is ignored or a link. kLimit: larger.
  virtual Result<std::string> read(const std::string& path, size_t bytes_max) const = 0;

  const SourceFile* find(std::string_view path) const;
  // The first file that fits the pattern (builder/ignore.h), empty: none.
  std::string first_match(std::string_view pattern) const;
};

// A folder as it is when this is called, without .git, image archives (*.oci.tar) and what
// .gitignore and .hobignore name. Links are kept as text and never followed; sockets, pipes and
// devices are left out. Blocking. kNotFound: no such folder. kLimit: over a limit above, with what
// to ignore.
Result<std::unique_ptr<Source>> open_folder(const std::filesystem::path& folder);

}  // namespace hob::builder
