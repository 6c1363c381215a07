// The git remote's limits, together.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/time.h"

namespace hob::git {

inline constexpr uint64_t kPushBytesMax = 512ull * 1024 * 1024;  // of one pack; git itself refuses
// What is read and dropped beyond a refused pack, so that the pusher gets the answer and no broken
// connection.
inline constexpr uint64_t kDroppedBytesMax = 256ull * 1024 * 1024;
// Of a repository on disk; beyond: a push is refused after one attempt to collect garbage.
inline constexpr uint64_t kRepositoryBytesMax = 2048ull * 1024 * 1024;
inline constexpr size_t kRepositoriesMax = 200;          // of an account; beyond: 403
inline constexpr size_t kExchangesMax = 24;              // children at once; beyond: 503
inline constexpr size_t kExchangesOfAccountMax = 8;      // of them; beyond: 503
inline constexpr Duration kTransferWithin{15 * 60'000};  // receiving or sending, without the hook
// A push with its deployment, as long as a build and a slow strategy may take.
inline constexpr Duration kPushWithin{26 * 3'600'000};
inline constexpr size_t kUpdatesMax = 64;                    // refs in one push; beyond: refused
inline constexpr size_t kHookTextBytesMax = 64 * 1024;       // what the hook says of them
inline constexpr size_t kRefBytesMax = 200;                  // of a branch's or tag's whole name
inline constexpr size_t kHeaderBytesMax = 8 * 1024;          // of git http-backend's answer
inline constexpr size_t kEarlyOutputBytesMax = 1024 * 1024;  // said before the body was read whole
inline constexpr size_t kLineBytesMax = 900;                 // of the log, in the pusher's terminal
inline constexpr size_t kChildMemoryBytesMax = 2048ull * 1024 * 1024;  // address space
inline constexpr int kChildCpuSecondsMax = 600;
inline constexpr size_t kPacksMax =
    20;  // of a repository; beyond: garbage is collected after a push
static_assert(kHookTextBytesMax >= kUpdatesMax * (kRefBytesMax + 83));

}  // namespace hob::git
