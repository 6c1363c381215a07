#include "guest/frame.h"

#include "base/assert.h"

namespace hob::guest {
namespace {

// What is read is taken away when it is so much.
constexpr size_t kReadBytesKept = 64 * 1024;

}  // namespace

void append_frame(std::string& out, FrameKind kind, uint8_t container, std::string_view body) {
  HOB_ASSERT(body.size() <= (kind == FrameKind::kRecord ? kOrderBytesMax : kDataBytesMax));
  for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(body.size() >> shift & 0xff);
  out += static_cast<char>(kind);
  out += static_cast<char>(container);
  out.append(2, '\0');
  out += body;
}

void FrameReader::feed(std::string_view bytes) {
  if (at_ == bytes_.size() || at_ > kReadBytesKept) {
    bytes_.erase(0, at_);
    at_ = 0;
  }
  bytes_ += bytes;
}

Result<std::optional<Frame>> FrameReader::next() {
  const std::string_view left = std::string_view(bytes_).substr(at_);
  if (left.size() < kFrameHeaderBytes) return std::nullopt;
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(left[i]); };
  const size_t size =
      byte(0) | size_t{byte(1)} << 8 | size_t{byte(2)} << 16 | size_t{byte(3)} << 24;
  const auto kind = static_cast<FrameKind>(byte(4));
  const bool known = kind >= FrameKind::kRecord && kind <= FrameKind::kErrors;
  if (!known || byte(5) >= kContainersMax || byte(6) != 0 || byte(7) != 0)
    return fail(Code::kInvalid, "a frame of kind {} for container {}", byte(4), byte(5));
  if (size > (kind == FrameKind::kRecord ? record_bytes_max_ : kDataBytesMax))
    return fail(Code::kInvalid, "a frame of {} bytes", size);
  if (left.size() - kFrameHeaderBytes < size) return std::nullopt;
  Frame frame{.kind = kind,
              .container = byte(5),
              .body = std::string(left.substr(kFrameHeaderBytes, size))};
  at_ += kFrameHeaderBytes + size;
  return frame;
}

}  // namespace hob::guest
