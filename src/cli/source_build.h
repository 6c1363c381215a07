// A source, a folder or a git repository, built into an image by hob-build, with its progress
// shown.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
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

struct SourcePlace {
  std::string folder{};     // or a repository:
  std::string git{};        // its address
  std::string reference{};  // a branch, a tag or a commit; empty: as the remote has it
  std::string directory{};  // the application's, within it; empty: all of it
  std::string user{};       // that were in the address, and are not in `git`
  std::string token{};
};

// What is built: a folder that is no image layout, or "https://HOST/REPOSITORY.git#BRANCH".
// nullopt: neither. kInvalid: a repository's address of a kind that cannot be fetched, or
// `directory` (of a repository) beside a folder.
Result<std::optional<SourcePlace>> source_place(const std::string& named,
                                                const std::string& directory);
// What the application is called by: the folder's or the repository's own name.
std::string source_name(const SourcePlace& place);
// What tells it from every other, for what builds of it keep.
std::string source_identity(const SourcePlace& place);

// `layout` is made. What earlier builds made lies in `context.data`/builder, or where
// HOB_BUILD_STATE says; the caches of package managers are `cache`'s alone. kInvalid: the
// application's fault, with the last lines of its log. kDenied: only root can build. Cancelled: the
// build ends.
Async<Result<SourceBuild>> build_source(const Context& context, SourcePlace place,
                                        std::filesystem::path layout, std::string cache,
                                        Progress& progress);

// Takes away what builds of this data that were killed left running or mounted.
Async<Result<void>> clear_builds(const Context& context);

}  // namespace hob::cli
