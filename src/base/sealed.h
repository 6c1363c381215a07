// Secrets kept encrypted: AES-256-GCM under a key of the instance, which lies in a file beside the
// store and not in it, so that a copy of the store alone gives none of them away.
//
// Pure but for making the key; any thread.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/log.h"
#include "base/result.h"

namespace hob {

inline constexpr size_t kSealingKeyBytes = 32;

// The key in the file; a fresh one, written durably and for its owner alone, if there is none.
// Blocks. kCorrupt: the file holds something else.
Result<Secret<std::string>> load_or_make_sealing_key(const std::filesystem::path& path,
                                                     Random& random);

// `place` is where it is kept (a record's key): it opens there and nowhere else, so that records
// cannot be swapped. Text, for JSON.
std::string seal(const Secret<std::string>& key, Random& random, std::string_view place,
                 std::string_view secret);
// kCorrupt: not sealed with this key for this place.
Result<Secret<std::string>> open_sealed(const Secret<std::string>& key, std::string_view place,
                                        std::string_view sealed);

}  // namespace hob
