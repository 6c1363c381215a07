// An image as files: an OCI image layout (image-spec 1.1) in a directory, which `hob deploy`,
// skopeo and podman read. Blocking.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "builder/attestations.h"
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

// What is to be said of an image whose manifest has this digest.
using Attest = std::function<std::vector<Attestation>(const std::string& digest)>;

// `directory` is made, and must not be there before. The layers' files are linked, not copied,
// where both are on one disk. The same plan gives the same digest. Its index leads to one index of
// the image and what refers to it: programs that take an archive's only image (podman load) find
// it.
Result<ImageFiles> write_layout(const ImagePlan& plan, const Attest& attest,
                                const BuildStore& store, const std::filesystem::path& directory);

}  // namespace hob::builder
