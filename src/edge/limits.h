// The edge's limits in one place: what each is, and what happens when it is reached.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace hob::edge {

// ---- HTTP: heads are bounded by base/http_parser.h (64 KiB, 128 fields: 431; line 16 KiB: 414; a
// response's: 502) ----
inline constexpr size_t kChunkExtensionBytesMax = 256;         // of one chunk: 400
inline constexpr size_t kChunkExtensionsBytesMax = 16 * 1024;  // of one body: 400
inline constexpr size_t kTrailerBytesMax =
    16 * 1024;  // of one body: 400; a response's ends the connection
inline constexpr size_t kTraceIdBytesMax = 512;  // a longer one from a client is replaced
inline constexpr int kInterimResponsesMax = 16;  // 1xx before a final response: 502

// ---- buffers ----
inline constexpr size_t kBufferBytes = 16 * 1024;
inline constexpr size_t kBuffersMax =
    8192;  // a loop's, 128 MiB; beyond: reading pauses until some come free
inline constexpr size_t kBuffersReserved =
    512;  // of these, for heads and pages: readers leave them alone
inline constexpr size_t kBuffersGivenToKernel = 64;  // waiting in the ring for data (io_uring)
inline constexpr size_t kCopyBelow = 2048;  // pieces shorter than this are copied together, so that
                                            // small pieces do not hold whole buffers
inline constexpr size_t kQueuedBytesHigh =
    64 * 1024;  // to be sent to one peer: its source is paused
inline constexpr size_t kQueuedBytesLow = 32 * 1024;  // and goes on below this
inline constexpr size_t kReplayBytesMax = 64 * 1024;  // of a request body kept for a retry

// ---- connections and requests ----
inline constexpr size_t kConnectionsMax = 100'000;  // of a loop's clients; beyond: closed at once
inline constexpr int kSilentSeconds =
    1;  // a new connection that says nothing for so long is accepted nevertheless
inline constexpr int kBacklogTakenMax =
    4'096;  // by a loop that stops accepting; others have the rest
// TLS handshakes under way, of a loop, 46 kB each until they are done: beyond, one of them drawn at
// random is closed, so that who leaves many half-done keeps few others out.
inline constexpr size_t kHandshakesMax = 1'024;
inline constexpr size_t kHandshakesMany = 256;    // after so many their memory is given back
inline constexpr size_t kIdlePerTargetMax = 256;  // kept-alive connections to one target, per loop
inline constexpr size_t kQueuedPerServiceMax =
    1'000;                                           // requests waiting for a target, per loop: 503
inline constexpr size_t kSpareExchangesMax = 1'024;  // kept for the next requests, per loop
inline constexpr int kConnectRetriesMax =
    2;                                      // other targets tried when nothing was sent: 502 or 504
// Targets that ended while they had a request: two that are killed together may take it one after the
// other. A request that itself ends targets takes three with it, not all.
inline constexpr int kLossRetriesMax = 2;
inline constexpr int kReuseRetriesMax = 1;  // a kept-alive connection found closed: 502
inline constexpr int kRefusalsMax = 3;      // by targets of HTTP/2, which say that they did nothing
inline constexpr uint64_t kLingerBytesMax = 256 * 1024;  // read and dropped after a last answer
inline constexpr size_t kAccessLogBytesMax =
    4 * 1024 * 1024;  // waiting to be written, per loop: lines are dropped
inline constexpr std::chrono::milliseconds kAccessLogDelay{
    50};  // what an edge that is killed loses of it, at most; a write costs a few µs
inline constexpr size_t kAccessLogFileBytesMax =
    64 * 1024 * 1024;  // then it becomes the previous one, of which there is one
inline constexpr size_t kServicesMeasuredMax =
    1'000;  // with metrics of their own; the rest are "other"
inline constexpr size_t kVersionsMeasuredMax = 1'000;  // likewise

// ---- times, milliseconds of steady time ----
// Those a test wants shorter are values; the daemon leaves them as they are.
struct Times {
  uint64_t handshake = 10'000;          // of TLS, from the connection's first moment: closed
  uint64_t header = 10'000;             // first byte of a head to its last: 408
  uint64_t keep_alive_client = 75'000;  // idle between requests: closed
  uint64_t keep_alive_target = 60'000;  // idle in the pool: closed
  uint64_t connect = 1'000;             // then another target
  uint64_t stall = 30'000;              // HTTP/2: a stream's client takes nothing: reset
  uint64_t drain = 1'000;               // HTTP/2: between the two GOAWAYs, unless answered; of a
                                        // connection whose first request has not come: closed
  uint64_t linger = 2'000;              // after a last answer
  uint64_t failover = 1'000;            // for a sleeping target to wake in the place of those that
                                        // failed: then these are tried again
};
// Where every target refuses connections (a task is being started again), a request tries once more
// after a rest that doubles, for as long as it may queue: 502.
inline constexpr uint64_t kRestMin = 10;
inline constexpr uint64_t kRestMax = 200;
inline constexpr uint64_t kSlowStart = 1'000;  // a new target gets its places one by one over this
// Of a service's requests, on each loop, over the last seconds: more retries are not made at once.
// Who has reached nobody yet rests first, as above; others: 502.
inline constexpr uint64_t kRetryPercent = 20;
inline constexpr uint64_t kRetriesMin = 3;  // a second, however few requests there are
inline constexpr uint64_t kBudgetSeconds = 10;
inline constexpr uint64_t kEjectAfter = 5;    // gateway errors in a row
inline constexpr uint64_t kEjectMin = 1'000;  // doubled each time
inline constexpr uint64_t kEjectMax = 30'000;

static_assert(kQueuedBytesLow < kQueuedBytesHigh);
static_assert(kAccessLogBytesMax < kAccessLogFileBytesMax);
static_assert(kBuffersMax < 65536, "a provided buffer's id has 16 bits");
static_assert(kBuffersGivenToKernel < kBuffersReserved);

}  // namespace hob::edge
