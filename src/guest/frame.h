// Frames of the protocol between host and guest: records, and pieces of streams, in turn.
//
//   bytes of the body, 4, little-endian | kind, 1 | container, 1 | 0, 2 | body
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "guest/protocol.h"

namespace hob::guest {

inline constexpr size_t kFrameHeaderBytes = 8;

enum class FrameKind : uint8_t { kRecord = 1, kInput = 2, kOutput = 3, kErrors = 4 };

struct Frame {
  FrameKind kind = FrameKind::kRecord;
  uint8_t container = 0;
  std::string body{};  // of a stream: empty is its end
};

// Appends to `out`. `body` is within the limits.
void append_frame(std::string& out, FrameKind kind, uint8_t container, std::string_view body);

// Reads frames from bytes as they come. Holds no more than one frame and what was fed with it.
class FrameReader {
 public:
  // The longest record: kOrderBytesMax or kReportBytesMax.
  explicit FrameReader(size_t record_bytes_max) : record_bytes_max_(record_bytes_max) {}
  void feed(std::string_view bytes);
  // nullopt: the next is not here whole. kInvalid: what comes is no frame; nothing after it is.
  Result<std::optional<Frame>> next();

 private:
  size_t record_bytes_max_;
  std::string bytes_;
  size_t at_ = 0;
};

}  // namespace hob::guest
