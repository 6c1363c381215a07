// Writes one image layer: a tar archive, compressed by zstd, that is the same whenever what goes in
// is: entries in the order they are given, numeric owners, one time for everything newer, nothing
// of the machine. Blocking; one thread.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "builder/source.h"

namespace hob::builder {

// 1980-01-01, as Cloud Native Buildpacks have it: a time that says nothing, and that zip can hold.
inline constexpr int64_t kLayerTime = 315'532'800;
inline constexpr uint64_t kLayerBytesMax = 4ULL << 30;  // uncompressed
inline constexpr size_t kLayerEntriesMax = 500'000;
inline constexpr const char* kLayerMediaType = "application/vnd.oci.image.layer.v1.tar+zstd";

struct Layer {
  std::string diff_id{};  // "sha256:…" of the archive
  std::string digest{};   // of the compressed file
  uint64_t size = 0;      // of it
  uint64_t bytes = 0;     // of the files in it, unpacked
  uint64_t entries = 0;
};

class LayerWriter {
 public:
  // What smallness is worth: seconds of a build, or those of a layer that is made once for all.
  enum class Effort { kBuild, kOnce };
  // The compressed file is made at `file`.
  static Result<LayerWriter> open(const std::filesystem::path& file,
                                  Effort effort = Effort::kBuild);
  LayerWriter(LayerWriter&&) noexcept;
  ~LayerWriter();

  struct Entry {
    std::string path{};  // "app/src/main.js"
    mode_t mode = 0;     // type and permissions
    uint32_t owner = 0;
    uint32_t group = 0;
    int64_t modified = kLayerTime;  // seconds; later than kLayerTime becomes it
    uint64_t size = 0;              // of a regular file
    std::string target{};           // of a symbolic link, or the path of the first hard link
    bool hard_link = false;
    std::vector<std::pair<std::string, std::string>> attributes{};
  };
  // A regular file's content follows, of exactly `size` bytes, by write(). kLimit: too much.
  Result<void> add(const Entry& entry);
  Result<void> write(std::string_view content);
  Result<Layer> finish();

 private:
  struct State;
  explicit LayerWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// What a task's writable layer holds, as the image layer that makes the same of what is below it:
// deletions are whiteouts, user ids are those inside.
struct UpperOptions {
  std::filesystem::path directory{};
  uint32_t first_id = 0;                 // of the task's ids (sandbox/id_ranges.h)
  std::vector<std::string> leave_out{};  // paths; with all below them
  std::vector<std::string> empty_out{};  // directories that stay, without what is in them
  std::vector<std::string> only{};       // paths, with what is above and below; empty: all
};
Result<void> add_upper(LayerWriter& writer, const UpperOptions& options);

// A source tree below `prefix` ("app"), owned by root. `inputs`: only files that fit one of these
// patterns; empty: all. `without`: rules of .gitignore for what a build makes anew.
Result<void> add_source(LayerWriter& writer, const Source& source, const std::string& prefix,
                        const std::vector<std::string>& inputs,
                        const std::vector<std::string>& without);
// The same for the same layer, 64 hex digits, without making it.
Result<std::string> source_fingerprint(const Source& source, const std::string& prefix,
                                       const std::vector<std::string>& inputs,
                                       const std::vector<std::string>& without);

}  // namespace hob::builder
