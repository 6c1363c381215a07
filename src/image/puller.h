// One pull, from a registry into the layer store, as one piece of blocking work.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/image_store.h"
#include "image/layer_store.h"
#include "image/registry_client.h"
#include "image/stored_image.h"
#include "image/unpack.h"

namespace hob::image {

inline constexpr size_t kLayersAtOnce = 3;  // downloaded and unpacked side by side

struct PulledImage {
  StoredImage image{};
  std::vector<std::string>
      digests{};  // that name it: the manifest's, and the index's it was found by
  std::vector<std::string> fresh{};  // diff ids of layers that were not here before
  // Keeps prune() from removing the layers until the image is recorded.
  std::unique_ptr<LayerStore::Use> use{};
};

struct PullSettings {
  RegistryTimeouts timeouts{};
  UnpackLimits limits{};
};

// `abort`, once true, ends it soon with kCancelled. Errors as ImageStore::pull's. `known` is asked
// whether an image with this digest is here whole, when a tag led to it.
using KnownImage = std::function<std::optional<StoredImage>(const std::string& digest)>;
Result<PulledImage> pull_image(const PullRequest& request, const PullSettings& settings,
                               LayerStore& layers, const KnownImage& known,
                               const std::atomic<bool>& abort);

}  // namespace hob::image
