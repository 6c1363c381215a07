// HTTP/2's frames (RFC 9113 §4 and §6): their numbers, how they are read from a stream of bytes and
// how they are written.
//
// The reader knows what a frame is and nothing of what it means. It bounds what comes in pieces
// (http2_limits.h) and puts blocks of headers together. No I/O; one connection's, on its loop.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "edge/buffer.h"

namespace hob::edge {

inline constexpr std::string_view kHttp2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
inline constexpr size_t kHttp2FrameHeaderBytes = 9;
inline constexpr uint32_t kHttp2StreamIdMax = 0x7fffffff;
inline constexpr int64_t kHttp2WindowLimit = 0x7fffffff;

// RFC 9113 §7.
enum class Http2Error : uint32_t {
  kNone = 0,
  kProtocol = 1,
  kInternal = 2,
  kFlowControl = 3,
  kStreamClosed = 5,
  kFrameSize = 6,
  kRefusedStream = 7,
  kCancel = 8,
  kCompression = 9,
  kEnhanceYourCalm = 11,
};

namespace http2 {
enum FrameType : uint8_t {
  kData = 0,
  kHeaders = 1,
  kPriorityFrame = 2,
  kReset = 3,
  kSettings = 4,
  kPushPromise = 5,
  kPing = 6,
  kGoAway = 7,
  kWindowUpdate = 8,
  kContinuation = 9,
};
enum Flag : uint8_t {
  kEndStream = 1,
  kAck = 1,
  kEndHeaders = 4,
  kPadded = 8,
  kPriority = 32,
};
enum Setting : uint16_t {
  kEnablePush = 2,
  kMaxConcurrentStreams = 3,
  kInitialWindowSize = 4,
  kMaxFrameSize = 5,
  kMaxHeaderListSize = 6,
  kEnableConnectProtocol = 8,  // RFC 8441
};
// Big-endian, at most 4 bytes.
uint32_t number(std::string_view bytes);
void put(char* into, uint32_t value, size_t bytes);
}  // namespace http2

struct Http2Frame {
  uint32_t length = 0;
  uint8_t type = 0;
  uint8_t flags = 0;
  uint32_t stream = 0;
};

// What a reader's frames are told to. Views are good during the call.
class Http2FrameSink {
 public:
  // Whether another frame may begin in this turn of the loop; what is not read waits.
  virtual bool may_begin() = 0;
  // The bytes are no HTTP/2: the connection is to be ended.
  virtual void frame_failed(Http2Error why) = 0;
  // Any frame but the three below, whole.
  virtual void take_frame(const Http2Frame& frame, std::string_view payload) = 0;
  // HEADERS whose CONTINUATIONs are still to come; then the block as a whole.
  virtual void block_begins() = 0;
  virtual void take_block(uint32_t stream, bool end_stream, std::string_view block) = 0;
  // DATA: its beginning, then what is in it, then its end.
  virtual void data_begins(const Http2Frame& frame) = 0;
  virtual void take_padding(uint32_t stream, size_t bytes) = 0;
  virtual void take_data(uint32_t stream, Slice data) = 0;
  virtual void data_ends(const Http2Frame& frame) = 0;

 protected:
  ~Http2FrameSink() = default;
};

class Http2FrameReader {
 public:
  explicit Http2FrameReader(Http2FrameSink& sink) : sink_(sink) {}
  // Leaves what is for a later turn, and everything once it has been stopped.
  void read(Slice& data);
  void stop() { stopped_ = true; }
  // The peer's first frame, its settings, has come.
  bool settings_heard() const { return settings_heard_; }
  // In the middle of a block of headers.
  bool in_block() const { return block_stream_ != 0; }

 private:
  enum class Reading : uint8_t { kHeader, kPayload, kPadLength, kData };
  void begin_frame();
  void take_payload(std::string_view payload);
  void take_headers(std::string_view payload);
  void take_continuation(std::string_view payload);
  void fail(Http2Error why);

  Http2FrameSink& sink_;
  std::string payload_;  // of a frame that came in pieces
  std::string block_;    // of headers that take several frames
  Http2Frame frame_{};
  std::array<char, kHttp2FrameHeaderBytes> header_{};
  uint8_t header_size_ = 0;
  Reading reading_ = Reading::kHeader;
  uint32_t data_left_ = 0;  // of a DATA frame, with its padding
  uint32_t padding_ = 0;
  uint32_t block_stream_ = 0;  // whose headers are being read; 0: nobody's
  bool block_ends_stream_ = false;
  bool settings_heard_ = false;
  bool stopped_ = false;
  uint8_t continuations_ = 0;
};

// Writes frames into what is to be sent.
class Http2FrameWriter {
 public:
  Http2FrameWriter(BufferPool& pool, Chain& out) : pool_(pool), out_(out) {}
  // Each answers false when no buffer was left: the connection cannot go on.
  bool header(size_t length, uint8_t type, uint8_t flags, uint32_t stream);
  bool frame(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload);
  // HEADERS, with CONTINUATIONs where it is long.
  bool block(uint32_t stream, std::string_view block, bool end_stream);
  // `count` of the first bytes of `body`, which loses them.
  bool data(uint32_t stream, Chain& body, size_t count, bool end_stream);
  bool window_update(uint32_t stream, uint32_t bytes);
  bool reset(uint32_t stream, Http2Error why);
  bool go_away(uint32_t last, Http2Error why);

 private:
  BufferPool& pool_;
  Chain& out_;
};

}  // namespace hob::edge
