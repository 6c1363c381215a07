// What the builder writes down: which layer a key made, and what a build came to. Encoded as every
// record (base/record.h).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "builder/layer.h"

namespace hob::builder {

// What a deployment has to know of a build, beside the image.
struct BuildResult {
  std::string digest{};   // of the image's manifest
  uint64_t size = 0;      // of its layers, compressed
  std::string runtime{};  // "Node.js 22"
  uint16_t port = 0;
  std::string start{};
  std::map<std::string, std::string> secrets{};  // variable → where its value comes from
  std::vector<std::string> reasons{};
};

std::string encode(const Layer& layer);
Result<Layer> decode_layer(std::string_view text);
std::string encode(const BuildResult& result);
Result<BuildResult> decode_build_result(std::string_view text);

}  // namespace hob::builder
