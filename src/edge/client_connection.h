// A client's connection. Speaks HTTP/1.0 and 1.1 itself: reads requests, one at a time and in
// order, and writes the answers. When it turns out to be HTTP/2, by ALPN or by the client's
// preface, a session (http2_session.h) takes over.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "base/http_parser.h"
#include "edge/chunked.h"
#include "edge/exchange.h"
#include "edge/loop.h"
#include "edge/pages.h"
#include "edge/worker.h"

namespace hob::edge {

class Http2Session;
class TlsFilter;

class ClientConnection final : public Socket, public Front {
 public:
  // Deletes itself when it has been released.
  ClientConnection(Worker& worker, size_t listener);
  ~ClientConnection() override;
  void open(int fd);

  // As the worker's draining() says, which has just changed.
  void drain();
  void abort();

 private:
  friend class Worker;
  friend class Http2Session;
  friend class Http2Stream;
  enum class State : uint8_t {
    kIdle,    // between requests
    kHead,    // some of a head has come
    kBody,    // an exchange runs, its body is being read
    kWait,    // an exchange runs, its request is complete
    kHttp2,   // http2_ has it
    kLinger,  // the last answer was written: input is dropped until the client closes
  };

  void on_connected(int) override {}
  void on_data(Slice data) override;
  void on_end(int error) override;
  void on_sent() override;
  void on_timer() override;
  void on_released() override;
  void on_secured() override;

  void answer_head(const http::ResponseHead& head, std::string_view raw) override;
  void answer_body(Slice data) override;
  void answer_end(std::string_view trailers) override;
  void answer_refusal(Refusal why, int status) override;
  void answer_abort(Refusal why) override;
  size_t answer_queued() const override;
  void body_wanted() override;

  // Takes what it can from `data`; what it leaves must wait.
  void process(Slice& data);
  void process_input();
  void begin_http2(Chain read);
  void input_ended();
  bool read_head(Slice& data);
  bool begin_request(std::string_view raw);
  bool read_body(Slice& data);
  void request_complete(std::string_view trailers);
  void finish_answer();
  void idle();
  // How long the first request may take to come: `usual`, but less in an edge that stops.
  uint64_t patience(uint64_t usual) const;
  void close();
  void linger();
  void write(std::string_view text);
  std::string_view forwarded_lines();

  Worker& worker_;
  TlsFilter* tls_ = nullptr;  // nullptr: none; the socket's filter
  std::unique_ptr<Http2Session> http2_;
  std::unique_ptr<Exchange> exchange_;
  Chain input_;                           // waits for its turn
  std::string partial_;                   // a head that came in several pieces
  std::unique_ptr<ChunkedBody> chunked_;  // while a request has such a body
  uint64_t left_ = 0;  // of a body with a length; when lingering: bytes still read
  ClientConnection* next_ = nullptr;
  ClientConnection* previous_ = nullptr;
  std::array<char, 120> forwarded_;    // X-Forwarded-* lines
  uint8_t forwarded_size_ = 0;
  uint8_t listener_;
  Asker asker_{};
  State state_ = State::kIdle;
  http::Framing framing_ = http::Framing::kNone;         // of the request
  http::Framing answer_framing_ = http::Framing::kNone;  // towards the client
  bool fresh_ : 1 = true;                                // no request has come
  bool last_ : 1 = false;      // the client has said that it asks for no more
  bool minor_one_ : 1 = true;  // HTTP/1.1
  bool keep_alive_ : 1 = true;
  bool answer_begun_ : 1 = false;
  bool processing_ : 1 = false;
  bool paused_ : 1 = false;
  bool peer_ended_ : 1 = false;
  bool tunnel_ : 1 = false;
  bool close_when_sent_ : 1 = false;
};

}  // namespace hob::edge
