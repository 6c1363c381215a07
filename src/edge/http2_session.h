// A client's connection that speaks HTTP/2 (RFC 9113): its frames, its streams, and all that must
// be counted lest a client cost more than it may.
//
// Belongs to a ClientConnection, through whose socket everything goes, and lives on its loop. Each
// stream is a Front: an exchange does not know by which version of HTTP it was asked for.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "edge/buffer.h"
#include "edge/exchange.h"
#include "edge/hpack.h"
#include "edge/http2_head.h"
#include "edge/http2_limits.h"

namespace hob::edge {

class ClientConnection;
class Http2Session;
class Worker;

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

// One request and its answer.
class Http2Stream final : public Front {
 public:
  Http2Stream(Http2Session& session, Worker& worker) : session_(session), worker_(worker) {}

  void answer_head(const http::ResponseHead& head, std::string_view raw) override;
  void answer_body(Slice data) override;
  void answer_end(std::string_view trailers) override;
  void answer_refusal(Refusal why, int status) override;
  void answer_abort() override;
  size_t answer_queued() const override;
  void body_wanted() override { feed(); }

 private:
  friend class Http2Session;
  // Passes on what has come of the request, as far as its target takes it.
  void feed();
  void let_go();

  Http2Session& session_;
  Worker& worker_;
  std::unique_ptr<Exchange> exchange_;
  Chain held_;              // of the request's body: its target does not take it yet
  Chain body_;              // of the answer, not framed yet
  std::string trailers_;    // of the request, as lines
  std::string last_block_;  // of the answer's trailers
  uint32_t id_ = 0;
  int64_t send_window_ = 0;
  int64_t receive_window_ = 0;
  uint32_t window_size_ = 0;  // that receive_window_ is brought back to
  uint32_t taken_ = 0;        // bytes that the client has not been given back
  uint64_t left_ = 0;         // of a request's body with a length
  uint64_t answer_left_ = 0;  // of an answer's
  uint64_t opened_ms_ = 0;
  uint64_t moved_ms_ = 0;  // when the client last took some of body_
  bool has_length_ : 1 = false;
  bool answer_has_length_ : 1 = false;
  bool remote_ended_ : 1 = false;  // the client has sent all
  bool request_told_ : 1 = false;  // and the exchange knows
  bool answer_ended_ : 1 = false;  // all of the answer is in body_
  bool end_sent_ : 1 = false;      // END_STREAM was sent
  bool sending_ : 1 = false;       // in the session's list
  bool head_method_ : 1 = false;
  bool wants_json_ : 1 = false;
};

class Http2Session final : public std::enable_shared_from_this<Http2Session> {
 public:
  Http2Session(Worker& worker, ClientConnection& connection);
  ~Http2Session();

  // Says our settings. The client's preface is expected first in received().
  void open();
  void received(Slice data);
  // The socket's queue has become shorter.
  void sent();
  void on_timer();
  // Tells the client to go elsewhere: twice, so that requests under way are not lost between.
  void drain();
  // The connection is closing: every exchange is let go.
  void cancel();

 private:
  friend class Http2Stream;
  enum class Reading : uint8_t { kPreface, kHeader, kPayload, kPadLength, kData };
  struct Frame {
    uint32_t length = 0;
    uint8_t type = 0;
    uint8_t flags = 0;
    uint32_t stream = 0;
  };

  // ---- reading ----
  void process(Slice& data);
  void process_waiting();
  void read_on_later();
  void begin_frame();
  void take_payload(std::string_view payload);
  void take_data(Slice data);
  void data_ended();
  void take_headers(std::string_view payload);
  void take_continuation(std::string_view payload);
  void take_block(std::string_view block);
  void take_request(std::string_view block);
  void take_trailers(Http2Stream& stream, std::string_view block);
  void take_reset();
  void take_settings(std::string_view payload);
  void take_ping(std::string_view payload);
  void take_window_update(std::string_view payload);
  bool block_failed(HeadOutcome outcome);
  void request_ended(Http2Stream& stream);
  // Bytes of a request's body that need no room any more.
  void give_back_window(Http2Stream* stream, size_t bytes);

  // ---- what is counted ----
  // False: too much, and the connection has been ended.
  bool spend(int cost);
  void earn(int gain);
  bool count_reset(uint64_t opened_ms);

  // ---- writing ----
  // Where the next block of ours is made.
  std::string& fresh_block();
  void frame_header(size_t length, uint8_t type, uint8_t flags, uint32_t stream);
  void write(std::string_view bytes);
  void write_block(uint32_t stream, std::string_view block, bool end_stream);
  void window_update(uint32_t stream, uint32_t bytes);
  bool has_room() const;
  // Of answers that are queued: beyond, their targets are paused.
  size_t queued_max() const;
  // Goes on with targets that were paused for the others' sake.
  void relieve();
  // One DATA frame of it. False: nothing could be sent.
  bool send_one(Http2Stream& stream);
  void send(Http2Stream& stream);
  void send_all();
  // After this turn's callbacks.
  void send_later();
  void queued(Http2Stream& stream, size_t bytes);

  // ---- streams ----
  Http2Stream* find(uint32_t id);
  Http2Stream& open_stream(uint32_t id);
  void close_if_done(Http2Stream& stream);
  void remove(Http2Stream& stream);
  // `ours`: counted, as the client may have made us do it.
  void reset(uint32_t id, Http2Error why, bool ours);
  void reset(Http2Stream& stream, Http2Error why, bool ours);
  void end(Http2Error why);  // of the connection
  void linger();
  void go_away(uint32_t last, Http2Error why);
  void finish_if_drained();
  // What the client sends of it before it knows is dropped.
  void note_gone(uint32_t id);
  void set_timer();

  Worker& worker_;
  ClientConnection& connection_;
  HpackDecoder decoder_;
  std::vector<std::unique_ptr<Http2Stream>> streams_;  // by id
  std::vector<std::unique_ptr<Http2Stream>> spare_;
  std::vector<Http2Stream*> sending_;  // have something to send, in turn
  Chain waiting_;                      // input for a later turn of the loop
  std::string payload_;                // of a frame, or of the preface, that came in pieces
  std::string block_;                  // of headers that take several frames
  Frame frame_{};
  std::array<char, 9> header_{};
  uint8_t header_size_ = 0;
  Reading reading_ = Reading::kPreface;
  uint32_t data_left_ = 0;  // of a DATA frame, with its padding
  uint32_t padding_ = 0;
  uint32_t block_stream_ = 0;  // whose headers are being read; 0: nobody's
  bool block_ends_stream_ = false;
  uint8_t continuations_ = 0;
  uint64_t block_begun_ms_ = 0;
  uint32_t last_stream_ = 0;                       // the newest that the client opened
  std::array<uint32_t, kHttp2StreamsMax> gone_{};  // reset or refused by us, the last ones
  size_t gone_next_ = 0;
  int64_t send_window_ = kHttp2DefaultWindow;
  int64_t receive_window_ = kHttp2DefaultWindow;
  uint32_t taken_ = 0;
  uint32_t peer_window_ = kHttp2DefaultWindow;  // of a new stream
  size_t turn_ = 0;                             // whose it is in sending_
  size_t queued_ = 0;                           // in all streams' body_
  mutable bool was_full_ = false;  // a target was, or may have been, paused for queued_max()
  int budget_ = kHttp2Budget;
  uint64_t budget_at_ms_ = 0;  // what time earned is counted up to here
  uint32_t resets_ = 0;
  uint32_t quick_resets_ = 0;
  uint64_t resets_since_ms_ = 0;
  uint64_t active_ms_ = 0;  // when a stream last ended, or the connection began
  uint64_t drain_at_ms_ = kNeverDrain;
  int begun_in_turn_ = 0;
  bool settings_heard_ = false;
  bool no_table_told_ = false;
  bool draining_ = false;  // the first GOAWAY was sent
  bool refusing_ = false;  // the last one
  bool over_ = false;
  bool deferred_ = false;
  bool paused_ = false;
  bool sending_all_ = false;
  bool sending_later_ = false;  // posted
  static constexpr uint64_t kNeverDrain = ~uint64_t{0};
};

}  // namespace hob::edge
