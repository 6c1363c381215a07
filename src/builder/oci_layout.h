// An image as files: an OCI image layout (image-spec 1.1) in a directory, which `hob deploy`,
// skopeo and podman read. Blocking.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "builder/build_store.h"
#include "builder/layer.h"

namespace hob::builder {

struct ImagePlan {
  std::vector<Layer> layers{};         // bottom first
  std::vector<std::string> history{};  // for each layer, what made it
  std::vector<std::string> command{};
  std::map<std::string, std::string> environment{};
  std::string working_directory{};
  uint16_t port = 0;
  std::map<std::string, std::string> labels{};
};

struct ImageFiles {
  std::string digest{};  // of the manifest
  uint64_t size = 0;     // of the layers, compressed
};

// `directory` is made, and must not be there before. The layers' files are linked, not copied,
// where both are on one disk. The same plan gives the same digest.
Result<ImageFiles> write_layout(const ImagePlan& plan, const BuildStore& store,
                                const std::filesystem::path& directory);

}  // namespace hob::builder
