// A source folder built into an image by hob-build, with its progress shown.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "base/async.h"
#include "base/result.h"
#include "cli/context.h"
#include "cli/terminal.h"

namespace hob::cli {

struct SourceBuild {
  std::filesystem::path layout{};  // an OCI image layout
  std::string digest{};
  std::string runtime{};  // "Node.js 22"
  std::string start{};
  uint16_t port = 0;
  uint64_t bytes = 0;
  std::map<std::string, std::string> secrets{};  // variable → where its value comes from
};

// Whether `path` is a folder that is built, and no image layout.
bool is_source_folder(const std::filesystem::path& path);

// `layout` is made. What earlier builds made lies in `context.data`/builder, or where
// HOB_BUILD_STATE says; the caches of package managers are `cache`'s alone. kInvalid: the
// application's fault, with the last lines of its log. kDenied: only root can build. Cancelled: the
// build ends.
Async<Result<SourceBuild>> build_source(const Context& context, std::filesystem::path folder,
                                        std::filesystem::path layout, std::string cache,
                                        Progress& progress);

// Takes away what builds of this data that were killed left running or mounted.
Async<Result<void>> clear_builds(const Context& context);

}  // namespace hob::cli
