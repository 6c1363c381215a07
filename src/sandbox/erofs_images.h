// Images as disks for microVMs: an EROFS of all layers, made once for each image and kept as long
// as its layers are. Blocking; any thread.
#pragma once

#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"

namespace hob::sandbox {

class ErofsImages {
 public:
  // `directory` is made by open().
  explicit ErofsImages(std::filesystem::path directory) : directory_(std::move(directory)) {}
  Result<void> open();
  // `layers`: top first. kInvalid: none, or more than kLayersMax.
  Result<std::filesystem::path> image_of(const std::vector<std::filesystem::path>& layers);

 private:
  // Removes what is half-made or of layers that are gone.
  Result<void> sweep();
  Result<void> make(const std::vector<std::filesystem::path>& layers,
                    const std::filesystem::path& path);
  const std::filesystem::path directory_;
  std::mutex mutex_;  // one is made at a time: two starts of one image make it once
};

}  // namespace hob::sandbox
