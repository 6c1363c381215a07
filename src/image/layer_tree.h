// The files of one layer being made beneath its root directory, safe against whatever names an
// archive holds.
//
// Every path is walked from the root by descriptors that follow no link and cross no mount. Blocks;
// one thread.
#pragma once

#include <sys/types.h>
#include <time.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace hob::image {

struct EntryMetadata {
  uid_t owner = 0;
  gid_t group = 0;
  mode_t mode = 0;  // permissions and set-id bits
  timespec modified{};
  std::vector<std::pair<std::string, std::string>> attributes{};  // those to be set
};

// A path in pieces: "./usr//bin" is {"usr", "bin"}, "/" is {}. kCorrupt: "..", or too long.
Result<std::vector<std::string>> split_entry_path(std::string_view path);

class LayerTree {
 public:
  static Result<LayerTree> open(const std::filesystem::path& root);

  // Each replaces what has that name (a directory only merges with a directory) and makes missing
  // parents.
  Result<void> directory(const std::vector<std::string>& path, const EntryMetadata& metadata);
  // The file, open for writing; its metadata comes last, by finish_file().
  Result<Fd> file(const std::vector<std::string>& path);
  Result<void> finish_file(const Fd& file, const EntryMetadata& metadata);
  Result<void> symbolic_link(const std::vector<std::string>& path, const std::string& target,
                             const EntryMetadata& metadata);
  Result<void> fifo(const std::vector<std::string>& path, const EntryMetadata& metadata);
  // `target` must be of this layer and no directory.
  Result<void> hard_link(const std::vector<std::string>& path,
                         const std::vector<std::string>& target);
  // Hides `path` of the layers below; what this layer itself has there stays.
  Result<void> whiteout(const std::vector<std::string>& path);
  // Hides all that layers below have in this directory.
  Result<void> opaque(const std::vector<std::string>& directory);
  // Sets the times of directories, which writing into them changed. Call last.
  Result<void> finish();

 private:
  explicit LayerTree(Fd root) : root_(std::move(root)) {}
  enum class Missing { kMake, kRefuse };
  // The open directory that holds the last piece of `path`, valid until the next call.
  Result<int> parent(const std::vector<std::string>& path, Missing missing);
  Result<Fd> walk(const std::vector<std::string>& pieces, size_t count, Missing missing);
  Result<void> clear(int parent, const std::string& name);
  Result<void> make_directory(int parent, const std::string& name);

  Fd root_;
  std::vector<std::string> cached_path_{};
  Fd cached_;
  std::vector<std::pair<std::string, timespec>> directory_times_{};
  size_t directory_name_bytes_ = 0;  // in directory_times_
};

}  // namespace hob::image
