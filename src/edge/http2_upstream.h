// A connection to a target that speaks HTTP/2 without TLS, by prior knowledge: many exchanges at a
// time, each a stream.
//
// Deletes itself when it has been released. Lives on its loop. It is listed in Target::http2 while
// it takes new streams.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "edge/http2_connection.h"
#include "edge/http2_head.h"
#include "edge/loop.h"
#include "edge/upstream.h"
#include "edge/worker.h"

namespace hob::edge {

class Exchange;
class Http2Upstream;
enum class Refusal;

// One request and its answer.
class Http2Call final : public Http2Flow, public Upstream {
 public:
  explicit Http2Call(Http2Upstream& connection) : connection_(connection) {}

  void begin(Exchange& exchange) override;
  bool connected() const override;
  bool reused() const override { return reused_; }
  bool may_refuse() const override { return true; }
  bool trailers_may_come() const override { return !remote_ended; }
  bool send_head(const Chain& head) override;
  void send_body(const Chain& data) override;
  void send_end(std::string_view trailers) override;
  size_t unsent() const override;
  void abandon() override;
  void pause_reading() override { paused_ = true; }
  void resume_reading() override;

 private:
  friend class Http2Upstream;
  Http2Upstream& connection_;
  Exchange* exchange_ = nullptr;
  std::string trailers_;  // of the answer
  bool reused_ = false;
  bool head_sent_ = false;
  bool answered_ = false;  // its head has come
  bool paused_ = false;
  bool dropped_ = false;  // whoever told the exchange takes the stream away
};

class Http2Upstream final : public Socket, private Http2End {
 public:
  Http2Upstream(Worker& worker, std::shared_ptr<Target> target);
  void open();
  bool takes_streams() const;
  Upstream& new_call();
  // No new streams; closes after the last.
  void retire();

 private:
  friend class Http2Call;
  void on_connected(int error) override;
  void on_data(Slice data) override;
  void on_end(int error) override;
  void on_sent() override { core_.sent(); }
  void on_timer() override;
  void on_released() override;

  std::unique_ptr<Http2Flow> make_flow() override;
  bool may_begin() override { return true; }
  void block_begins() override {}
  void take_block(uint32_t id, bool end_stream, std::string_view block) override;
  void take_data(Http2Flow& flow, Slice data) override;
  void take_end(Http2Flow& flow) override;
  void take_reset(Http2Flow& flow, uint32_t code) override;
  void take_go_away(uint32_t last, uint32_t code) override;
  bool take_pong(std::string_view payload) override;
  void take_setting(uint16_t setting, uint32_t value) override;
  void flow_moved(Http2Flow& flow) override;
  void flow_sent(Http2Flow&) override {}
  void flow_removed() override;
  void settings_taken() override;
  void sending_begins() override {}
  void connection_ended() override;
  void connection_broken() override;

  void take_answer(Http2Call& call, bool end_stream, std::string_view block);
  bool block_failed(HeadOutcome outcome);
  // The answer is whole.
  void complete(Http2Call& call);
  // It is no answer.
  void lose(Http2Call& call);
  // Takes the stream away that no exchange needs.
  void leave(Http2Call& call);
  void unlist();
  void close();
  void lose_all(Refusal why);

  Worker& worker_;
  std::shared_ptr<Target> target_;
  Http2Connection core_;
  uint32_t streams_max_ = kHttp2StreamsMax;
  // Asks for a WebSocket, and may not before the target's settings have come. It is the last one:
  // streams are opened in the order of their numbers.
  Http2Call* waiting_ = nullptr;
  uint64_t heard_ms_ = 0;
  uint64_t pinged_ms_ = 0;  // 0: not since something was heard
  bool connected_ = false;
  bool settings_taken_ = false;
  bool offers_websockets_ = false;  // RFC 8441
  bool broken_ = false;
  bool ended_ = false;  // by us, who have said so
  bool listed_ = true;
};

}  // namespace hob::edge
