// The limits of what images may bring, all of it untrusted. Beyond one: Code::kLimit, naming it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hob::image {

inline constexpr size_t kManifestBytesMax =
    4 * 1024 * 1024;  // a manifest or index: the distribution spec's number
inline constexpr size_t kConfigBytesMax = 4 * 1024 * 1024;  // an image's config
inline constexpr size_t kLayersMax = 127;  // Docker's, and what one overlay mount takes with ease
inline constexpr size_t kIndexEntriesMax = 1'000;       // manifests in an index
inline constexpr size_t kIndexDepthMax = 2;             // an index in an index in …
inline constexpr size_t kConfigListMax = 10'000;        // variables, arguments, volumes
inline constexpr uint64_t kBlobBytesMax = 32ULL << 30;  // one blob, as it travels

// Unpacking one layer.
inline constexpr uint64_t kLayerEntriesMax =
    500'000;  // files, directories and links; an inode each
inline constexpr uint64_t kLayerBytesMax =
    32ULL << 30;  // of the archive, uncompressed, and of one file's length
inline constexpr uint64_t kLayerRatioMax = 200;  // uncompressed to compressed, looked at beyond …
inline constexpr uint64_t kLayerRatioFreeBytes = 256ULL
                                                 << 20;  // … this: small layers of zeros are common
inline constexpr size_t kEntryNameBytesMax = 4095;       // PATH_MAX, less its end
inline constexpr size_t kEntryAttributesMax = 256;       // extended attributes of one entry
inline constexpr size_t kEntryHeaderBytesMax =
    4 * 1024 * 1024;  // of the archive between two pieces of data
inline constexpr uint64_t kImageBytesMax = 64ULL << 30;  // of all layers of an image, uncompressed

static_assert(kLayerBytesMax <= kImageBytesMax);

}  // namespace hob::image
