// A connection of HTTP/2 (RFC 9113), whichever of its ends we are: the streams' bodies and windows
// both ways, what is sent in which turn, and all that is counted lest the peer cost more than it
// may.
//
// What requests and answers are, its two ends know: http2_session.h (of a client) and
// http2_upstream.h (to a target). Everything goes through the socket that it is given; lives on
// that one's loop.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "edge/buffer.h"
#include "edge/hpack.h"
#include "edge/http2_budget.h"
#include "edge/http2_frame.h"
#include "edge/http2_limits.h"
#include "edge/loop.h"

namespace hob::edge {

class Worker;

// What is under way in one stream.
class Http2Flow {
 public:
  virtual ~Http2Flow() = default;

  uint32_t id = 0;
  Chain held;              // received: who it is for does not take it yet
  Chain body;              // to be sent, not framed yet
  std::string last_block;  // of the trailers that are sent after it
  int64_t send_window = 0;
  int64_t receive_window = 0;
  uint32_t window_size = 0;    // that receive_window is brought back to
  uint32_t taken = 0;          // bytes that the peer has not been given back
  uint64_t received_left = 0;  // of what is received, where its length is known
  uint64_t body_left = 0;      // of what is sent, where its length is known: not in `body` yet
  uint64_t opened_ms = 0;
  uint64_t moved_ms = 0;  // when the peer last took some of `body`
  bool has_received_length : 1 = false;
  bool has_body_length : 1 = false;
  bool remote_ended : 1 = false;  // the peer has sent all
  bool body_ended : 1 = false;    // all that is to be sent is in `body`
  bool end_sent : 1 = false;      // END_STREAM was sent
  bool sending : 1 = false;       // in the connection's list
  bool gone : 1 = false;          // removed; kept for another stream
};

// The end that we are.
class Http2End {
 public:
  virtual std::unique_ptr<Http2Flow> make_flow() = 0;
  virtual bool may_begin() = 0;     // another frame in this turn of the loop
  virtual void block_begins() = 0;  // headers that take several frames
  // Must be decoded whatever becomes of it. The stream may be open, gone or new.
  virtual void take_block(uint32_t stream, bool end_stream, std::string_view block) = 0;
  virtual void take_data(Http2Flow& flow, Slice data) = 0;
  virtual void take_end(Http2Flow& flow) = 0;  // of a body; `remote_ended` is set
  // The peer has reset it; the flow is removed after the call.
  virtual void take_reset(Http2Flow& flow, uint32_t code) = 0;
  virtual void take_go_away(uint32_t last, uint32_t code) = 0;
  virtual bool take_pong(std::string_view payload) = 0;  // false: not asked for
  virtual void take_setting(uint16_t setting, uint32_t value) = 0;
  virtual void settings_taken() = 0;  // all of a frame's
  virtual void flow_moved(
      Http2Flow& flow) = 0;                     // some of its body was sent, or there is room again
  virtual void flow_sent(Http2Flow& flow) = 0;  // END_STREAM was sent with what was queued
  virtual void flow_removed() = 0;
  virtual void sending_begins() = 0;  // something waits for windows, or for its turn
  // GOAWAY has been queued and nothing more is read or sent.
  virtual void connection_ended() = 0;
  // No buffer was left, or the peer takes nothing: it cannot go on.
  virtual void connection_broken() = 0;

 protected:
  ~Http2End() = default;
};

struct Http2Rules {
  uint32_t window_max = kHttp2DefaultWindow;  // grown to where what comes is taken at once
  // The connection's window is given back for what has come, not for what has been taken: one
  // stream that is not taken holds up no other, and each holds what its own window allows.
  bool give_back_at_once = false;
  bool count_resets = true;  // against the peer
};

class Http2Connection final : private Http2FrameSink {
 public:
  Http2Connection(Worker& worker, Socket& socket, Http2End& end, Http2Rules rules);
  ~Http2Connection();

  // Our settings, as their payload, and the connection's window.
  void open(std::string_view settings);
  // These two are called by the loop, and by nobody who is called from here.
  // Leaves what is for a later turn.
  void read(Slice& data);
  // The socket's queue has become shorter.
  void sent();
  // Lets everything go without a word: the socket is closing, or is to be read to its end.
  void stop();
  void end(Http2Error why);  // says why, then lets everything go

  // ---- streams ----
  Http2Flow* find(uint32_t id);
  // Nobody has opened it: the peer has not yet, or it would be ours.
  bool is_idle(uint32_t id) const;
  // A new one: ids only grow.
  Http2Flow& open_flow(uint32_t id);
  void note_id(uint32_t id) { last_stream_ = id; }
  uint32_t last_stream() const { return last_stream_; }
  size_t streams() const { return flows_.size(); }
  Http2Flow& flow(size_t index) { return *flows_[index]; }
  void remove(Http2Flow& flow);
  // `count`: against the peer, who may have made us do it.
  void reset(uint32_t id, Http2Error why, bool count);
  // Whether it was reset by us: what the peer sent before it knew is dropped.
  bool was_reset(uint32_t id) const;
  // Whether it is one of the last that came to an end.
  bool has_ended(uint32_t id) const;
  void note_reset(uint32_t id) { reset_[reset_next_++ % reset_.size()] = id; }

  // ---- sending ----
  // Where the next block of ours is made.
  std::string& fresh_block();
  void send_block(Http2Flow& flow, std::string_view block, bool end_stream);
  // False: no buffer; the connection has been broken.
  bool send_body(Http2Flow& flow, Slice data);
  // With `last_block`, if it has one.
  void end_body(Http2Flow& flow);
  // Bytes of it that wait; more where those of all streams are too many.
  size_t backlog(const Http2Flow& flow) const;
  void go_away(uint32_t last, Http2Error why);
  void ping(std::string_view payload, bool answer = false);
  // Of a body that needs no room any more. nullptr: of a stream that is gone.
  void give_back(Http2Flow* flow, size_t bytes);

  // ---- what is counted ----
  // False: too much, and the connection has been ended.
  bool spend(int cost);
  void earn(int gain) { budget_.earn(gain); }
  bool count_reset(uint64_t opened_ms);

  HpackDecoder& decoder() { return decoder_; }
  bool over() const { return over_; }
  bool settings_heard() const { return reader_.settings_heard(); }
  bool in_block() const { return reader_.in_block(); }
  // Those that wait for their turn, or for windows; some may be nullptr.
  const std::vector<Http2Flow*>& sending() const { return sending_; }

 private:
  // ---- from the reader ----
  bool may_begin() override { return end_.may_begin(); }
  void frame_failed(Http2Error why) override { end(why); }
  void block_begins() override { end_.block_begins(); }
  void take_block(uint32_t stream, bool end_stream, std::string_view block) override;
  void take_frame(const Http2Frame& frame, std::string_view payload) override;
  void data_begins(const Http2Frame& frame) override;
  void take_padding(uint32_t stream, size_t bytes) override;
  void take_data(uint32_t stream, Slice data) override;
  void data_ends(const Http2Frame& frame) override;
  void take_reset(const Http2Frame& frame, std::string_view payload);
  void take_settings(const Http2Frame& frame, std::string_view payload);
  void take_ping(const Http2Frame& frame, std::string_view payload);
  void take_window_update(const Http2Frame& frame, std::string_view payload);
  void take_go_away(const Http2Frame& frame, std::string_view payload);

  // ---- writing ----
  Http2FrameWriter writer() { return {pool_, out_}; }
  // What was written goes out; not `whole`: there was no buffer for it.
  void written(bool whole);
  void window_update(uint32_t stream, uint32_t bytes) {
    written(writer().window_update(stream, bytes));
  }
  void give_back_connection(size_t bytes);
  bool has_room() const { return socket_.unsent() < kQueuedBytesHigh; }
  // Of bodies that are queued: beyond, who they come from is paused.
  size_t queued_max() const;
  // Goes on with those that were paused for the others' sake.
  void relieve();
  // One DATA frame of it. False: nothing could be sent.
  bool send_one(Http2Flow& flow);
  void send(Http2Flow& flow);
  void send_all();
  // After this turn's callbacks.
  void send_later();
  void settle();

  Worker& worker_;
  Loop& loop_;
  BufferPool& pool_;
  Socket& socket_;
  Chain& out_;
  Http2End& end_;
  const Http2Rules rules_;
  Http2FrameReader reader_{*this};
  HpackDecoder decoder_;
  Http2Budget budget_;
  std::vector<std::unique_ptr<Http2Flow>> flows_;  // by id
  std::vector<std::unique_ptr<Http2Flow>> spare_;
  std::vector<std::unique_ptr<Http2Flow>> removed_;  // in this turn: it may be whose call this is
  std::vector<Http2Flow*> sending_;                  // have something to send, in turn
  uint32_t last_stream_ = 0;                         // the newest that was opened
  std::array<uint32_t, kHttp2StreamsMax> reset_{};   // by us, the last ones
  std::array<uint32_t, kHttp2StreamsMax> ended_{};   // otherwise, the last ones
  size_t reset_next_ = 0;
  size_t ended_next_ = 0;
  int64_t send_window_ = kHttp2DefaultWindow;
  int64_t receive_window_ = kHttp2DefaultWindow;
  uint32_t taken_ = 0;
  uint32_t peer_window_ = kHttp2DefaultWindow;  // of a new stream
  size_t turn_ = 0;                             // whose it is in sending_
  size_t queued_ = 0;                           // in all streams' body
  mutable bool was_full_ = false;  // somebody was, or may have been, paused for queued_max()
  bool no_table_told_ = false;
  bool over_ = false;
  bool sending_all_ = false;
  bool sending_later_ = false;                                  // posted
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for what is posted
};

}  // namespace hob::edge
