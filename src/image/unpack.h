// Unpacks one layer, alone, into a directory that overlayfs can use as a lower one.
//
// Whiteouts become what overlayfs knows: ".wh.x" a 0/0 character device x, ".wh..wh..opq" the
// attribute trusted.overlay.opaque. Owners, modes (set-id bits too), times, sparse holes, hard
// links within the layer and the attributes user.*, security.capability and POSIX ACLs are as in
// the archive; other attributes are dropped. Names that begin with "/" are taken from the layer's
// root, as every runtime does. Nothing outside the directory is touched: "..", names and hard links
// that go through a symbolic link, and devices are refused.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>

#include "base/result.h"
#include "image/byte_source.h"
#include "image/limits.h"

namespace hob::image {

struct UnpackLimits {
  uint64_t entries_max = kLayerEntriesMax;
  uint64_t bytes_max = kLayerBytesMax;
  uint64_t ratio_max = kLayerRatioMax;
  uint64_t ratio_free_bytes = kLayerRatioFreeBytes;
};

struct UnpackedLayer {
  std::string diff_id{};  // digest of the uncompressed archive
  std::string digest{};   // of the bytes as they came
  uint64_t entries = 0;
  uint64_t bytes = 0;  // uncompressed
};

// `directory` exists and is empty; on failure what is in it is of no use. Blocks; any thread. Root
// is needed for owners and whiteouts. The archive may be plain, gzip or zstd. kCorrupt: no tar
// archive, or an entry that breaks a rule (the message names it). kLimit: over a limit.
// kUnavailable: the disk is full or fails. Others: the source's.
Result<UnpackedLayer> unpack_layer(ByteSource& source, const std::filesystem::path& directory,
                                   const UnpackLimits& limits);

// The same reading without a disk: verifies form and limits, gives the digests. For fuzzing and for
// archives on disk.
Result<UnpackedLayer> inspect_layer(ByteSource& source, const UnpackLimits& limits);

}  // namespace hob::image
