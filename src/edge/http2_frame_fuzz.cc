// What a hostile target of HTTP/2 sends: its frames taken apart in pieces, the blocks in them read
// as answers and trailers, and what they become written again. No crash, no answer that the strict
// parser reads as more than one head, and the same however the bytes are cut.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/http_parser.h"
#include "edge/buffer.h"
#include "edge/http2_frame.h"
#include "edge/http2_head.h"
#include "edge/http2_limits.h"

using namespace hob;

namespace {

// Says what it was told, so that two readings can be compared.
class Reading final : public edge::Http2FrameSink {
 public:
  explicit Reading(bool websocket) : websocket_(websocket) {}
  std::string read(std::string_view input, size_t piece) {
    static edge::BufferPool pool;
    while (!input.empty() && !failed_) {
      edge::Chain chain;
      if (!chain.append(pool, input.substr(0, piece))) std::abort();
      input.remove_prefix(std::min(piece, input.size()));
      while (!chain.empty()) {
        edge::Slice slice = chain.take_first();
        reader_.read(slice);
      }
    }
    return std::move(said_);
  }

 private:
  void say(std::string_view what, uint64_t number) {
    said_.append(what).append(" ").append(std::to_string(number)).append("\n");
  }
  bool may_begin() override { return true; }
  void frame_failed(edge::Http2Error why) override {
    failed_ = true;
    reader_.stop();
    say("failed", static_cast<uint64_t>(why));
  }
  void take_frame(const edge::Http2Frame& frame, std::string_view payload) override {
    if (payload.size() != frame.length || frame.length > edge::kHttp2FrameBytesMax) std::abort();
    say("frame", frame.type);
    said_.append(payload);
  }
  void block_begins() override {}
  void data_begins(const edge::Http2Frame& frame) override { say("data", frame.length); }
  void take_padding(uint32_t, size_t bytes) override { padding_ += bytes; }
  void take_data(uint32_t, edge::Slice data) override { said_.append(data.view()); }
  void data_ends(const edge::Http2Frame&) override { say("end, padding", padding_); }
  void take_block(uint32_t stream, bool end_stream, std::string_view block) override {
    if (block.size() > edge::kHttp2BlockBytesMax) std::abort();
    std::string text;
    if (stream % 3 == 2) {
      const auto outcome = edge::read_trailer_block(decoder_, block, text);
      if (outcome == edge::HeadOutcome::kDone && text.find("\r\n\r\n") != std::string::npos)
        std::abort();
    } else {
      check_answer(edge::read_answer_block(
                       decoder_, block, end_stream,
                       {.head_method = stream % 3 == 1,
                        .websocket_accept = websocket_ ? "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" : ""},
                       text),
                   text, stream % 3 == 1);
    }
    said_.append(text);
    if (decoder_.table_bytes() > edge::kHpackTableBytes) std::abort();
  }
  void check_answer(edge::HeadOutcome outcome, const std::string& text, bool head_method) {
    say("answer", static_cast<uint64_t>(outcome));
    http::ResponseHead head;
    if (outcome != edge::HeadOutcome::kDone ||
        http::parse(text, head, head_method ? "HEAD" : "GET") != http::Parsed::kDone) {
      return;
    }
    if (head.bytes != text.size()) std::abort();
    if (head.code == 101 && !websocket_) std::abort();
    std::string block;
    edge::write_answer_block(head, block);
    edge::HpackDecoder decoder;
    if (edge::skip_block(decoder, block) == edge::HeadOutcome::kBadBlock) std::abort();
  }

  const bool websocket_;
  edge::Http2FrameReader reader_{*this};
  edge::HpackDecoder decoder_;
  std::string said_;
  size_t padding_ = 0;
  bool failed_ = false;
};

// A request of ours: what the strict parser let through is written as one block that decodes.
void check_request(std::string_view text, bool websocket) {
  http::RequestHead head;
  if (http::parse(text, head) != http::Parsed::kDone) return;
  std::string block;
  edge::write_request_block(text.substr(head.head_start, head.bytes - head.head_start), websocket,
                            block);
  edge::HpackDecoder decoder;
  std::string read;
  if (edge::read_request_block(decoder, block, true, read) == edge::HeadOutcome::kBadBlock)
    std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2 || size > 64 * 1024) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 2, size - 2);
  const bool websocket = (data[0] & 1) != 0;
  const std::string whole = Reading(websocket).read(input, edge::kBufferBytes);
  if (whole != Reading(websocket).read(input, size_t{1} + data[1])) std::abort();
  check_request(input, websocket);
  return 0;
}
