// A connection to a target, HTTP/1.1: carries one exchange at a time and is kept alive between
// them.
#pragma once

#include <memory>
#include <string>

#include "base/http_parser.h"
#include "edge/chunked.h"
#include "edge/loop.h"
#include "edge/upstream.h"
#include "edge/worker.h"

namespace hob::edge {

class Exchange;

class UpstreamConnection final : public Socket, public Upstream {
 public:
  // Deletes itself when it has been released.
  UpstreamConnection(Worker& worker, std::shared_ptr<Target> target);

  void open();
  void begin(Exchange& exchange) override;
  bool connected() const override { return connected_; }
  bool reused() const override { return reused_; }
  bool may_refuse() const override { return false; }
  bool trailers_may_come() const override { return false; }
  bool send_head(const Chain& head) override;
  void send_body(const Chain& data) override;
  void send_end(std::string_view trailers) override;
  size_t unsent() const override { return Socket::unsent(); }
  void abandon() override;
  void pause_reading() override;
  void resume_reading() override;
  Target& target() { return *target_; }
  void close();

 private:
  friend class Worker;
  void on_connected(int error) override;
  void on_data(Slice data) override;
  void on_end(int error) override;
  void on_sent() override;
  void on_timer() override;
  void on_released() override;

  // Each returns false when the exchange is done with this connection.
  bool parse_head(Slice& data);
  bool read_body(Slice& data);
  void answer_complete(std::string_view trailers);
  void fail(int why);

  Worker& worker_;
  std::shared_ptr<Target> target_;
  Exchange* exchange_ = nullptr;
  std::string partial_;  // a head that came in several pieces
  ChunkedBody chunked_;
  uint64_t left_ = 0;  // of a body with a length
  http::Framing framing_ = http::Framing::kNone;
  bool chunked_request_ : 1 = false;
  bool connected_ : 1 = false;
  bool reused_ : 1 = false;
  bool heard_ : 1 = false;  // a byte of this answer has come
  bool in_body_ : 1 = false;
  bool tunnel_ : 1 = false;
  bool keep_alive_ : 1 = false;
  bool paused_ : 1 = false;
  bool idle_ : 1 = false;
};

}  // namespace hob::edge
