// The limits of this room: what an image, a task or a runtime may make us hold, read or wait for.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/time.h"
#include "guest/image_user.h"

namespace hob::sandbox {

inline constexpr size_t kLayersMax =
    127;  // Docker's limit; as "0:1:…" they fit overlayfs's one page
inline constexpr size_t kArgumentsMax =
    4096;  // words of a command line, and variables of an environment
inline constexpr size_t kArgumentBytesMax =
    1024 * 1024;  // of each of the two; the kernel takes 2 MiB of both
inline constexpr uint64_t kLogBytesMax =
    8 * 1024 * 1024;                          // a log file; log, log.1 and one in between exist
inline constexpr int kOpenFilesMax = 65'535;  // ulimit -n in a task, at most what the host has
inline constexpr uint32_t kIdRangeSize = guest::kUserIdsMax;  // user and group ids of a task
inline constexpr int kScratchMibMin = 16;  // the smallest ext4 that is worth its metadata
inline constexpr int kScratchMibMax = 1024 * 1024;
inline constexpr int kMemoryMibMin = 6;  // Docker's; below, not even the runtime starts
inline constexpr size_t kRuntimeMessageBytesMax = 16 * 1024;  // of what crun says about a failure
inline constexpr Duration kRuntimeTimeout =
    std::chrono::seconds(30);  // monitor, crun, mkfs: each takes milliseconds
inline constexpr Duration kKillTimeout =
    std::chrono::seconds(10);  // from SIGKILL to the last process's end
// From the order to the last process's standing still: milliseconds, but for one that the kernel
// holds (a disk that does not answer).
inline constexpr Duration kFreezeTimeout = std::chrono::seconds(1);

}  // namespace hob::sandbox
