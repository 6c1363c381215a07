// Manifests, indexes, configs and references: any bytes give an answer, and what is accepted keeps
// its promises.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "image/content_digest.h"
#include "image/limits.h"
#include "image/manifest.h"
#include "image/reference.h"
#include "image/registry_client.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto manifest = hob::image::parse_manifest(text, "")) {
    if (!manifest->is_index && !manifest->config) __builtin_trap();
    if (manifest->layers.size() > hob::image::kLayersMax) __builtin_trap();
    if (const auto chosen = hob::image::choose_platform(*manifest)) {
      if (!hob::image::is_digest(chosen->digest)) __builtin_trap();
    }
    for (const auto& layer : manifest->layers) {
      if (!hob::image::is_digest(layer.digest)) __builtin_trap();
    }
  }
  if (const auto config = hob::image::parse_config(text)) {
    for (const auto& diff_id : config->diff_ids) {
      if (!hob::image::is_digest(diff_id)) __builtin_trap();
    }
  }
  if (const auto reference = hob::image::parse_reference(text)) {
    const auto again = hob::image::parse_reference(hob::image::format_reference(*reference));
    if (!again || *again != *reference) __builtin_trap();
  }
  static_cast<void>(hob::image::registry_error_text(text));
  static_cast<void>(hob::image::registry_token(text));
  static_cast<void>(hob::image::parse_challenge(text));
  return 0;
}
