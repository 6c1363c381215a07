#include "edge/http2_frame.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "edge/http2_limits.h"

namespace hob::edge {

using namespace http2;

uint32_t http2::number(std::string_view bytes) {
  uint32_t value = 0;
  for (const char c : bytes) value = value << 8 | static_cast<uint8_t>(c);
  return value;
}

void http2::put(char* into, uint32_t value, size_t bytes) {
  for (size_t i = bytes; i-- > 0; value >>= 8) into[i] = static_cast<char>(value & 255);
}

// ---- reading ----

void Http2FrameReader::fail(Http2Error why) {
  stopped_ = true;
  sink_.frame_failed(why);
}

void Http2FrameReader::read(Slice& data) {
  while (!data.empty() && !stopped_) {
    switch (reading_) {
      case Reading::kHeader: {
        if (header_size_ == 0 && !sink_.may_begin()) return;
        const size_t count = std::min(kHttp2FrameHeaderBytes - header_size_, data.size());
        std::memcpy(header_.data() + header_size_, data.data(), count);
        header_size_ = static_cast<uint8_t>(header_size_ + count);
        data.skip(count);
        if (header_size_ == kHttp2FrameHeaderBytes) {
          header_size_ = 0;
          begin_frame();
        }
        break;
      }
      case Reading::kPayload: {
        const size_t count = std::min(frame_.length - payload_.size(), data.size());
        if (count == frame_.length) {
          const Slice payload = data.part(0, count);
          data.skip(count);
          reading_ = Reading::kHeader;
          take_payload(payload.view());
          break;
        }
        payload_.append(data.data(), count);
        data.skip(count);
        if (payload_.size() == frame_.length) {
          reading_ = Reading::kHeader;
          const std::string payload = std::exchange(payload_, {});
          take_payload(payload);
        }
        break;
      }
      case Reading::kPadLength: {
        padding_ = static_cast<uint8_t>(*data.data());
        data.skip(1);
        --data_left_;
        if (padding_ > data_left_) return fail(Http2Error::kProtocol);
        sink_.take_padding(frame_.stream, padding_ + 1);
        reading_ = Reading::kData;
        if (data_left_ == 0 && !stopped_) {
          reading_ = Reading::kHeader;
          sink_.data_ends(frame_);
        }
        break;
      }
      case Reading::kData: {
        const size_t count = std::min<size_t>(data_left_, data.size());
        const size_t useful = data_left_ > padding_ ? data_left_ - padding_ : 0;
        Slice piece = data.part(0, std::min(count, useful));
        data.skip(count);
        data_left_ -= static_cast<uint32_t>(count);
        if (!piece.empty()) sink_.take_data(frame_.stream, std::move(piece));
        if (data_left_ == 0 && !stopped_) {
          reading_ = Reading::kHeader;
          sink_.data_ends(frame_);
        }
        break;
      }
    }
  }
}

void Http2FrameReader::begin_frame() {
  const std::string_view header(header_.data(), header_.size());
  frame_.length = number(header.substr(0, 3));
  frame_.type = static_cast<uint8_t>(header[3]);
  frame_.flags = static_cast<uint8_t>(header[4]);
  frame_.stream = number(header.substr(5, 4)) & kHttp2StreamIdMax;
  if (frame_.length > kHttp2FrameBytesMax) return fail(Http2Error::kFrameSize);
  if (!settings_heard_) {
    if (frame_.type != kSettings || (frame_.flags & kAck) != 0) return fail(Http2Error::kProtocol);
    settings_heard_ = true;
  }
  // A block of headers is not interrupted (RFC 9113 §4.3).
  if (block_stream_ != 0 && (frame_.type != kContinuation || frame_.stream != block_stream_))
    return fail(Http2Error::kProtocol);
  if (frame_.type != kData) {
    reading_ = Reading::kPayload;
    if (frame_.length == 0) {
      reading_ = Reading::kHeader;
      take_payload({});
    }
    return;
  }
  if (frame_.stream == 0) return fail(Http2Error::kProtocol);
  const bool padded = (frame_.flags & kPadded) != 0;
  if (padded && frame_.length == 0) return fail(Http2Error::kFrameSize);
  sink_.data_begins(frame_);
  if (stopped_) return;
  data_left_ = frame_.length;
  padding_ = 0;
  if (padded) {
    reading_ = Reading::kPadLength;
  } else if (frame_.length > 0) {
    reading_ = Reading::kData;
  } else {
    sink_.data_ends(frame_);
  }
}

void Http2FrameReader::take_payload(std::string_view payload) {
  if (frame_.type == kHeaders) {
    take_headers(payload);
  } else if (frame_.type == kContinuation) {
    take_continuation(payload);
  } else {
    sink_.take_frame(frame_, payload);
  }
}

void Http2FrameReader::take_headers(std::string_view payload) {
  if (frame_.stream == 0) return fail(Http2Error::kProtocol);
  size_t padding = 0;
  if ((frame_.flags & kPadded) != 0) {
    if (payload.empty()) return fail(Http2Error::kFrameSize);
    padding = static_cast<uint8_t>(payload.front());
    payload.remove_prefix(1);
  }
  if ((frame_.flags & kPriority) != 0) {
    if (payload.size() < 5) return fail(Http2Error::kFrameSize);
    payload.remove_prefix(5);
  }
  if (padding > payload.size()) return fail(Http2Error::kProtocol);
  payload.remove_suffix(padding);
  block_ends_stream_ = (frame_.flags & kEndStream) != 0;
  if ((frame_.flags & kEndHeaders) != 0)
    return sink_.take_block(frame_.stream, block_ends_stream_, payload);
  block_.assign(payload);
  block_stream_ = frame_.stream;
  continuations_ = 0;
  sink_.block_begins();
}

void Http2FrameReader::take_continuation(std::string_view payload) {
  if (block_stream_ == 0) return fail(Http2Error::kProtocol);
  if (++continuations_ > kHttp2ContinuationsMax ||
      block_.size() + payload.size() > kHttp2BlockBytesMax) {
    return fail(Http2Error::kEnhanceYourCalm);
  }
  block_.append(payload);
  if ((frame_.flags & kEndHeaders) == 0) return;
  block_stream_ = 0;
  const std::string block = std::exchange(block_, {});
  sink_.take_block(frame_.stream, block_ends_stream_, block);
}

// ---- writing ----

bool Http2FrameWriter::header(size_t length, uint8_t type, uint8_t flags, uint32_t stream) {
  char header[kHttp2FrameHeaderBytes];
  put(header, static_cast<uint32_t>(length), 3);
  header[3] = static_cast<char>(type);
  header[4] = static_cast<char>(flags);
  put(header + 5, stream, 4);
  return out_.append(pool_, std::string_view(header, sizeof header));
}

bool Http2FrameWriter::frame(uint8_t type, uint8_t flags, uint32_t stream,
                             std::string_view payload) {
  return header(payload.size(), type, flags, stream) && out_.append(pool_, payload);
}

bool Http2FrameWriter::block(uint32_t stream, std::string_view block, bool end_stream) {
  uint8_t type = kHeaders;
  uint8_t flags = end_stream ? kEndStream : 0;
  do {
    const std::string_view part = block.substr(0, kHttp2FrameBytesMax);
    block.remove_prefix(part.size());
    if (block.empty()) flags |= kEndHeaders;
    if (!frame(type, flags, stream, part)) return false;
    type = kContinuation;
    flags = 0;
  } while (!block.empty());
  return true;
}

bool Http2FrameWriter::data(uint32_t stream, Chain& body, size_t count, bool end_stream) {
  if (!header(count, kData, end_stream ? kEndStream : 0, stream)) return false;
  while (count > 0) {
    const size_t part = std::min(count, body.piece(0).size());
    if (!out_.append(pool_, body.piece(0).part(0, part))) return false;
    body.consume(part);
    count -= part;
  }
  return true;
}

bool Http2FrameWriter::window_update(uint32_t stream, uint32_t bytes) {
  char increment[4];
  put(increment, bytes, 4);
  return frame(kWindowUpdate, 0, stream, {increment, sizeof increment});
}

bool Http2FrameWriter::reset(uint32_t stream, Http2Error why) {
  char code[4];
  put(code, static_cast<uint32_t>(why), 4);
  return frame(kReset, 0, stream, {code, sizeof code});
}

bool Http2FrameWriter::go_away(uint32_t last, Http2Error why) {
  char payload[8];
  put(payload, last, 4);
  put(payload + 4, static_cast<uint32_t>(why), 4);
  return frame(kGoAway, 0, 0, {payload, sizeof payload});
}

}  // namespace hob::edge
