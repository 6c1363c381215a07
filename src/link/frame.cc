#include "link/frame.h"

#include <cctype>

#include "link/link.h"

namespace hob::link {

namespace {
constexpr size_t kLengthBytes = 4;

bool type_is_valid(std::string_view type) {
  if (type.empty() || type.size() > kTypeBytesMax) return false;
  for (const char c : type) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) return false;
  }
  return true;
}
}  // namespace

Result<std::string> encode_frame(const Message& message) {
  HOB_ASSERT(type_is_valid(message.type));
  const size_t size = message.type.size() + 1 + message.body.size();
  if (size > kFrameBytesMax)
    return fail(Code::kLimit, "a {} of {} bytes, at most {}", message.type, size, kFrameBytesMax);
  std::string frame;
  frame.reserve(kLengthBytes + size);
  for (int shift = 24; shift >= 0; shift -= 8)
    frame.push_back(static_cast<char>((size >> shift) & 0xff));
  frame += message.type;
  frame.push_back('\n');
  frame += message.body;
  return frame;
}

std::string ping_frame() { return std::string(kLengthBytes, '\0'); }

void FrameDecoder::feed(std::string_view bytes) {
  if (taken_ > 0) {
    buffer_.erase(0, taken_);
    taken_ = 0;
  }
  buffer_ += bytes;
}

Result<std::optional<Message>> FrameDecoder::next() {
  for (;;) {
    const std::string_view left = std::string_view(buffer_).substr(taken_);
    if (left.size() < kLengthBytes) return std::nullopt;
    size_t size = 0;
    for (size_t i = 0; i < kLengthBytes; ++i)
      size = size << 8 | static_cast<unsigned char>(left[i]);
    if (size > kFrameBytesMax)
      return fail(Code::kLimit, "a frame of {} bytes, at most {}", size, kFrameBytesMax);
    if (left.size() - kLengthBytes < size) return std::nullopt;
    const std::string_view frame = left.substr(kLengthBytes, size);
    taken_ += kLengthBytes + size;
    if (frame.empty()) continue;
    const size_t end = frame.substr(0, kTypeBytesMax + 1).find('\n');
    if (end == std::string_view::npos || !type_is_valid(frame.substr(0, end))) {
      return fail(Code::kInvalid, "a frame without a type");
    }
    return Message{.type = std::string(frame.substr(0, end)),
                   .body = std::string(frame.substr(end + 1))};
  }
}

}  // namespace hob::link
