// HTTP/2's bounds: what each is, and what happens when it is reached. The reasons are attacks that
// have been made on servers without them (CVE-2023-44487, CVE-2024-27316, CVE-2025-8671 …).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/http_parser.h"
#include "edge/limits.h"

namespace hob::edge {

inline constexpr uint32_t kHttp2DefaultWindow = 65'535;          // RFC 9113 §6.9.2
inline constexpr uint32_t kHttp2StreamsMax = 128;                // at a time: REFUSED_STREAM
inline constexpr uint32_t kHttp2FrameBytesMax = 16'384;          // FRAME_SIZE_ERROR; of ours, too
inline constexpr uint32_t kHttp2WindowMax = 1024 * 1024;         // of a stream, grown to by need
inline constexpr uint32_t kHttp2ConnectionWindow = 1024 * 1024;  // all streams' held bytes
inline constexpr size_t kHttp2BlockBytesMax = 64 * 1024;         // coded: ENHANCE_YOUR_CALM
inline constexpr int kHttp2ContinuationsMax = 8;                 // of one block: ENHANCE_YOUR_CALM
// Decoded: http::kHeadBytesMax, the same; a block that takes longer than Times::header: the same.

// Frames that cost us work and give no request: each costs one, useful ones earn some back.
inline constexpr int kHttp2Budget = 1'000;  // and never more; at 0: ENHANCE_YOUR_CALM
inline constexpr int kHttp2EarnedByRequest = 4;
inline constexpr int kHttp2EarnedByData = 2;  // a frame of the answer, which may be confirmed twice
inline constexpr size_t kHttp2UsefulDataBytes = 256;  // smaller ones do where there is no more
// And time does: a long answer in small pieces, with a client that pings, costs nobody much.
inline constexpr int kHttp2EarnedPerSecond = 10;

// Resets, the client's and those it makes us send: so many in such a time, and most of them soon
// after the stream was opened: ENHANCE_YOUR_CALM.
inline constexpr uint32_t kHttp2ResetsMax = 200;
inline constexpr uint64_t kHttp2ResetsMs = 10'000;
inline constexpr uint64_t kHttp2QuickMs = 1'000;

// A target's connection with streams that is silent for so long is asked whether it is alive, and
// closed when it says nothing for so long again. gRPC's servers close connections that ask more often
// than every 5 min while they have nothing to say.
inline constexpr uint64_t kHttp2SilentMs = 310'000;
inline constexpr uint64_t kHttp2PongMs = 30'000;

inline constexpr int kHttp2StreamsInATurn = 16;  // begun; the rest waits for the loop's other work
inline constexpr size_t kHttp2WaitingBytesMax = 64 * 1024;   // of input: reading pauses
inline constexpr size_t kHttp2QueuedBytesMax = 1024 * 1024;  // of answers: their targets are paused
// While the loop's buffers are scarce, and then a stream whose client takes nothing is reset
// sooner: many connections that read nothing would else take the buffers that all services need.
inline constexpr size_t kHttp2QueuedBytesScarce = 64 * 1024;
inline constexpr uint64_t kHttp2StallScarceMs = 1'000;
inline constexpr size_t kHttp2UnsentBytesMax =
    4 * 1024 * 1024;                              // of frames other than DATA: closed
inline constexpr size_t kHttp2SpareStreams = 32;  // kept for the next requests of a connection

static_assert(kHttp2StreamsMax * (http::kHeadBytesMax / 4) <= kHttp2UnsentBytesMax);
static_assert(kHttp2FrameBytesMax <= kBufferBytes);

}  // namespace hob::edge
