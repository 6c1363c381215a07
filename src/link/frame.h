// How messages lie on a link's byte stream: a 4-byte big-endian length, then "TYPE\n" and the body.
// An empty frame is a ping. Pure; private to this room.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "link/messages.h"

namespace hob::link {

inline constexpr size_t kTypeBytesMax = 64;  // of letters and digits

// kLimit: the message is over kFrameBytesMax.
Result<std::string> encode_frame(const Message& message);
std::string ping_frame();

class FrameDecoder {
 public:
  void feed(std::string_view bytes);
  // The next whole message; nullopt: more bytes are needed. Pings are skipped. kLimit: a frame over
  // kFrameBytesMax; kInvalid: a frame without a type. After an error the stream is lost.
  Result<std::optional<Message>> next();

 private:
  std::string buffer_;
  size_t taken_ = 0;
};

}  // namespace hob::link
