// Pushes an image from files to the instance's own registry, by the OCI distribution API.
#pragma once

#include <functional>
#include <string>

#include "base/async.h"
#include "base/result.h"
#include "cli/archive_image.h"
#include "cli/context.h"

namespace hob::cli {

inline constexpr size_t kPushPieceBytes =
    8 * 1024 * 1024;  // of one request: bounds memory, and what a retry repeats

// Makes the repository if it is missing, sends the blobs that are not there and the manifest under
// `tag`, with what refers to the image. `progress` hears what has been done so far, of how much, in
// bytes.
Async<Result<void>> push_image(Api& api, const ArchiveImage& image, std::string repository,
                               std::string tag,
                               std::function<void(uint64_t done, uint64_t all)> progress);

}  // namespace hob::cli
