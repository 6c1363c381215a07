// A client's connection that speaks HTTP/2: requests become exchanges, their answers streams.
//
// Belongs to a ClientConnection, through whose socket everything goes, and lives on its loop. Each
// stream is a Front: an exchange does not know by which version of HTTP it was asked for.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "edge/buffer.h"
#include "edge/exchange.h"
#include "edge/http2_connection.h"
#include "edge/http2_head.h"
#include "edge/pages.h"

namespace hob::edge {

class ClientConnection;
class Http2Session;
class Worker;

// One request and its answer.
class Http2Stream final : public Http2Flow, public Front {
 public:
  Http2Stream(Http2Session& session, Worker& worker) : session_(session), worker_(worker) {}

  void answer_head(const http::ResponseHead& head, std::string_view raw) override;
  void answer_body(Slice data) override;
  void answer_end(std::string_view trailers) override;
  void answer_refusal(Refusal why, int status) override;
  void answer_abort(Refusal why) override;
  size_t answer_queued() const override;
  void body_wanted() override { feed(); }

 private:
  friend class Http2Session;
  bool takes_body() const {
    return exchange_ != nullptr && !exchange_->deciding() && exchange_->wants_body();
  }
  // Passes on what has come of the request, as far as its target takes it.
  void feed();
  void open_tunnel(const http::ResponseHead& head);
  void let_go();

  Http2Session& session_;
  Worker& worker_;
  std::unique_ptr<Exchange> exchange_;
  std::string trailers_;  // of the request, as lines
  Asker asker_{};
  bool request_told_ = false;  // the exchange knows that the request has ended
};

class Http2Session final : public Http2End {
 public:
  Http2Session(Worker& worker, ClientConnection& connection);
  ~Http2Session();

  // Says our settings. The client's preface is expected first in received().
  void open();
  void received(Slice data);
  void sent() { core_.sent(); }
  void on_timer();
  // Tells the client to go elsewhere: twice, so that requests under way are not lost between.
  void drain();
  // The connection is closing: every exchange is let go.
  void cancel();

 private:
  friend class Http2Stream;

  // ---- from the connection ----
  std::unique_ptr<Http2Flow> make_flow() override;
  bool may_begin() override { return begun_in_turn_ < kHttp2StreamsInATurn; }
  void block_begins() override;
  void take_block(uint32_t id, bool end_stream, std::string_view block) override;
  void take_data(Http2Flow& flow, Slice data) override;
  void take_end(Http2Flow& flow) override;
  void take_reset(Http2Flow& flow, uint32_t code) override;
  void take_go_away(uint32_t, uint32_t) override {}
  bool take_pong(std::string_view payload) override;
  void take_setting(uint16_t, uint32_t) override {}
  void settings_taken() override {}
  void flow_moved(Http2Flow& flow) override;
  void flow_sent(Http2Flow& flow) override;
  void flow_removed() override;
  void sending_begins() override { set_timer(); }
  void connection_ended() override;
  void connection_broken() override;

  void process(Slice& data);
  void process_waiting();
  void read_on_later();
  void take_request(uint32_t id, bool end_stream, std::string_view block);
  void take_trailers(Http2Stream& stream, bool end_stream, std::string_view block);
  bool block_failed(HeadOutcome outcome);
  void close_if_done(Http2Stream& stream);
  // `count`: against the client, who may have made us do it.
  void reset(Http2Stream& stream, Http2Error why, bool count);
  // Says goodbye, and waits for the client to close.
  void finish();
  void finish_if_drained();
  void linger();
  void set_timer();

  Worker& worker_;
  ClientConnection& connection_;
  Http2Connection core_;
  Chain waiting_;            // input for a later turn of the loop
  size_t preface_read_ = 0;  // bytes of it
  uint64_t block_begun_ms_ = 0;
  uint64_t active_ms_ = 0;  // when a stream last ended, or the connection began
  uint64_t drain_at_ms_ = kNeverDrain;
  int begun_in_turn_ = 0;
  bool draining_ = false;  // the first GOAWAY was sent
  bool refusing_ = false;  // the last one
  bool deferred_ = false;
  bool paused_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for what is posted
  static constexpr uint64_t kNeverDrain = ~uint64_t{0};
};

}  // namespace hob::edge
