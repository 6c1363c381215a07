// What an image store keeps of an image beside its layers: images/<digest's hex>-<source>.json.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "image/image_store.h"

namespace hob::image {

struct StoredImage {
  std::string digest{};  // of the platform's manifest
  ImageConfig config{};
  std::vector<std::string> diff_ids{};  // bottom first, as the config lists them
};

std::string encode(const StoredImage& image);
// kCorrupt or kInvalid: not one of ours, or damaged.
Result<StoredImage> decode_stored_image(std::string_view json);

}  // namespace hob::image
