// Where each file of an uncompressed tar archive lies, so that an image archive is read without
// unpacking it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"

namespace hob::cli {

inline constexpr size_t kTarEntriesMax =
    100'000;  // an image archive has a few files for each layer
inline constexpr size_t kTarNameBytesMax = 64 * 1024;  // of a long name or a pax header

struct FileRange {
  uint64_t offset = 0;
  uint64_t size = 0;
};

// Regular files by name, as the archive spells it without a leading "./". Links to files of the
// archive (docker save makes them for equal layers) have their target's range. kInvalid: not a tar,
// or broken. kLimit.
Result<std::map<std::string, FileRange>> index_tar(const Fd& file);

// One header block's number: octal text, or big-endian binary when its top bit is set. kInvalid.
Result<uint64_t> tar_number(std::string_view field);

}  // namespace hob::cli
