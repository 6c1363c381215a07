// For this room's tests: tar archives made by hand, good and bad, and images in the OCI layout that
// skopeo reads.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "image/byte_source.h"

namespace hob::image::testing {

struct TarEntry {
  std::string name{};
  char type = '0';  // as ustar writes it: '0' file, '1' hard link, '2' symbolic, '3' and '4'
                    // devices, '5' directory
  std::string data{};
  std::string link{};
  unsigned mode = 0644;
  unsigned owner = 0;
  unsigned group = 0;
  long modified = 1'700'000'000;
  std::vector<std::pair<std::string, std::string>>
      pax{};  // written before it as an extended header
};

std::string tar(const std::vector<TarEntry>& entries);
std::string gzip(std::string_view bytes);
std::string zstd(std::string_view bytes);

// A string, in pieces of `piece` bytes.
class StringSource final : public ByteSource {
 public:
  explicit StringSource(std::string bytes, size_t piece = 4096)
      : bytes_(std::move(bytes)), piece_(piece) {}
  Result<std::string_view> read() override;

 private:
  std::string bytes_;
  size_t piece_;
  size_t at_ = 0;
};

// An image's documents: its layers as they travel, config and manifest.
struct TestImage {
  std::vector<std::string> layers{};
  std::string config{};
  std::string manifest{};
};
// Layers are given uncompressed, bottom first, and travel by gzip.
TestImage make_image(const std::vector<std::string>& layers);
// Writes it as an OCI image layout with this tag.
void write_layout(const TestImage& image, const std::filesystem::path& directory,
                  const std::string& tag);

}  // namespace hob::image::testing
