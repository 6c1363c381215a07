// Manifests, indexes and configs as registries hand them out: OCI image-spec 1.1 and Docker's
// schema 2, read strictly.
//
// Pure; any thread. Everything that comes back is within limits.h and every digest in it has the
// right form.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "image/image_store.h"

namespace hob::image {

inline constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view kDockerManifest =
    "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr std::string_view kDockerList =
    "application/vnd.docker.distribution.manifest.list.v2+json";

struct Descriptor {
  std::string media_type{};
  std::string digest{};
  uint64_t size = 0;
  std::string artifact_type{};
  std::string os{};  // of an index's platform; empty: it has none
  std::string architecture{};
  std::string variant{};
};

struct Manifest {
  std::string media_type{};  // one of the four above
  bool is_index = false;
  std::optional<Descriptor> config{};   // of a manifest: always there
  std::vector<Descriptor> layers{};     // of a manifest, bottom first
  std::vector<Descriptor> manifests{};  // of an index
  std::string subject{};                // digest; empty: none
  std::string artifact_type{};  // an artifact's own, else its config's media type; empty for an
                                // index without one
  std::map<std::string, std::string> annotations{};
};

// `media_type`: what the Content-Type said, without parameters; empty: the document's own
// mediaType, or its shape, decides. kInvalid: no such document. kLimit: too large. kCorrupt never.
Result<Manifest> parse_manifest(std::string_view text, std::string_view media_type);

// The index's entry for linux/amd64; nullopt: there is none.
std::optional<Descriptor> choose_platform(const Manifest& index);

// Whether a layer of this type is a tar archive we unpack (plain, gzip, zstd; OCI or Docker).
bool is_layer_type(std::string_view media_type);
bool is_config_type(std::string_view media_type);

struct ParsedConfig {
  ImageConfig config{};
  std::string os{};
  std::string architecture{};
  std::vector<std::string> diff_ids{};        // bottom first
  std::vector<uint16_t> exposed_tcp_ports{};  // ascending
  std::map<std::string, std::string> labels{};
};
// kInvalid: not an image's config. kLimit: too large.
Result<ParsedConfig> parse_config(std::string_view text);

// What a registry's error body says ("NAME_UNKNOWN: repository name not known"), shortened and
// printable; empty: nothing.
std::string registry_error_text(std::string_view body);
// The token of a token service's answer; empty: there is none.
std::string registry_token(std::string_view body);

}  // namespace hob::image
