// Layers onto a disk: whatever names, links and whiteouts an archive holds, nothing beside its
// directory changes. Without root most entries fail at their owner.
#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "base/file.h"
#include "image/unpack.h"

namespace {

namespace fs = std::filesystem;

class Bytes final : public hob::image::ByteSource {
 public:
  explicit Bytes(std::string_view bytes) : left_(bytes) {}
  hob::Result<std::string_view> read() override {
    const std::string_view piece = left_.substr(0, 4096);
    left_.remove_prefix(piece.size());
    return piece;
  }

 private:
  std::string_view left_;
};

// A directory with two in it: "root", to unpack into, and "outside", which must stay as it is.
// Lives as long as the process.
class Place {
 public:
  Place() {
    // In memory where there is such a place: several times as many inputs.
    const fs::path memory = "/dev/shm";
    const fs::path above = fs::is_directory(memory) ? memory : fs::temp_directory_path();
    std::string pattern = (above / "hob-unpack-XXXXXX").string();
    HOB_ASSERT(mkdtemp(pattern.data()) != nullptr);
    top_ = pattern;
    fs::create_directory(top_ / "outside");
    HOB_ASSERT(hob::write_file_durably(top_ / "outside" / "file", "kept", 0600).has_value());
    before_ = outside();
  }
  ~Place() { static_cast<void>(hob::remove_tree(top_)); }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  fs::path fresh_root() {
    HOB_ASSERT(hob::remove_tree(top_ / "root").has_value());
    fs::create_directory(top_ / "root");
    return top_ / "root";
  }
  void check() const {
    HOB_ASSERT(outside() == before_);
    for (const auto& entry : fs::directory_iterator(top_))
      HOB_ASSERT(entry.path().filename() == "root" || entry.path().filename() == "outside");
  }

 private:
  // Names, kinds, owners, sizes, times and numbers of links.
  std::string outside() const {
    std::string seen;
    for (const fs::path& path : {top_ / "outside", top_ / "outside" / "file"}) {
      struct stat status {};
      HOB_ASSERT(lstat(path.c_str(), &status) == 0);
      seen += fmt::format("{} {:o} {} {} {} {} {}.{}\n", path.string(), status.st_mode,
                          status.st_uid, status.st_gid, status.st_nlink, status.st_size,
                          status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
    }
    return seen;
  }

  fs::path top_;
  std::string before_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Place place;
  Bytes source(std::string_view(reinterpret_cast<const char*>(data), size));
  const hob::image::UnpackLimits limits{
      .entries_max = 100, .bytes_max = 1 << 20, .ratio_max = 200, .ratio_free_bytes = 1 << 18};
  const auto unpacked = hob::image::unpack_layer(source, place.fresh_root(), limits);
  if (unpacked) HOB_ASSERT(unpacked->entries <= limits.entries_max);
  place.check();
  return 0;
}
