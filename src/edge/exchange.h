// One request's way through: from the client's head to a target, its answer and the end; queueing,
// retries, time-outs.
//
// Between a Front, which speaks to the client, and an Upstream, which does to a target; each is a
// connection of HTTP/1 or a stream of HTTP/2. The request is kept in a canonical form (HTTP/1.1
// lines, an unframed body) so that it can be sent again, to another target. Belongs to its front;
// lives on one loop.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/http_parser.h"
#include "edge/buffer.h"
#include "edge/loop.h"
#include "edge/worker.h"

namespace hob::edge {

class Upstream;

// Why the edge answers by itself.
enum class Refusal {
  kNone,
  kBadRequest,      // what the parser says
  kUnknownHost,     // 404
  kMisdirected,     // 421: a name that the connection was not made for
  kPaused,          // 503
  kNoTarget,        // 503: none came free in time
  kQueueFull,       // 503
  kConnectFailed,   // 502
  kConnectTimeout,  // 504
  kTargetClosed,    // 502
  kBadResponse,     // 502
  kTimeout,         // 504: the target did not answer in time
  kClientTooSlow,   // 408
  kStopped,         // 503: the service went away meanwhile
  kNotSwitched,     // 502: the target answered a WebSocket's request as any other
  kNoWebSockets,    // 501: a target of HTTP/2 that does not offer RFC 8441
  kAcmeAnswer,      // 200: an ACME server asked, which is no service's matter
};

// The client's side, as the exchange sees it.
class Front {
 public:
  // 1xx (but 101) may come before; `head`'s views are good during the call.
  virtual void answer_head(const http::ResponseHead& head, std::string_view raw) = 0;
  virtual void answer_body(Slice data) = 0;
  // `trailers`: lines that may be passed on.
  virtual void answer_end(std::string_view trailers) = 0;
  // Nothing was answered yet: the edge's own page.
  virtual void answer_refusal(Refusal why, int status) = 0;
  // The answer cannot be completed.
  virtual void answer_abort(Refusal why) = 0;
  // Bytes of the answer that the client has not taken.
  virtual size_t answer_queued() const = 0;
  // The exchange wants more of the request's body again.
  virtual void body_wanted() = 0;

 protected:
  ~Front() = default;
};

struct RequestFacts {
  http::Framing framing = http::Framing::kNone;
  bool head_method = false;  // HEAD
  bool idempotent = false;
  bool upgrade = false;  // asks for one
  bool connect = false;  // by extended CONNECT, where any 2xx would be taken for it
  bool expect_continue = false;
  bool secure = false;  // came by TLS
};

class Exchange final : public QueuedRequest, public Alarm {
 public:
  explicit Exchange(Worker& worker) : worker_(worker) {}
  ~Exchange() = default;

  // ---- from the front ----
  // The canonical head goes here before start(): request line and fields, without framing and the
  // last empty line.
  Chain& head() { return head_; }
  // The Sec-WebSocket-Accept that opens the WebSocket which is asked for; empty: it is another
  // upgrade. Before start().
  void expect_websocket(std::string accept) { websocket_accept_ = std::move(accept); }
  const std::string& websocket_accept() const { return websocket_accept_; }
  // From here the front hears its answer. It may come within the call.
  void start(Front& front, std::shared_ptr<Service> service, const RequestFacts& facts,
             uint64_t content_length);
  // The body in order, unframed; only while wants_body() lest it pile up. `trailers`: lines that
  // may be passed on.
  void request_body(Slice data);
  void request_end(std::string_view trailers);
  bool wants_body() const;
  bool request_ended() const { return request_ended_; }
  // The client left: everything is let go, and nothing more is told.
  void cancel();
  // The client has taken some of the answer.
  void answer_drained();
  bool upgraded() const { return upgraded_; }
  // An upgrade is being decided: what the client sends on ahead waits.
  bool deciding() const { return facts_.upgrade && !upgraded_; }
  const RequestFacts& facts() const { return facts_; }
  // More than its body may come of the answer: fields after it. Asked with its head.
  bool trailers_may_come() const;
  // Lines for the answer's head, from answer_head() on; its own.
  std::string_view answer_lines() const { return answer_lines_; }
  const Service* service() const { return service_.get(); }
  uint64_t started_us() const { return started_us_; }

  // ---- from the worker ----
  void obey(Turn turn);
  void refuse(Refusal why, int status);

  // ---- from the upstream ----
  void upstream_connected();
  // The connection could not be made: nothing was sent.
  void upstream_connect_failed(bool timed_out);
  // The head of an answer; 1xx ones too.
  void upstream_head(const http::ResponseHead& head, std::string_view raw);
  void upstream_body(Slice data);
  // The whole answer is there. The connection has been detached, and put back or closed.
  void upstream_end(std::string_view trailers);
  // It broke or closed before the answer was whole.
  void upstream_lost(Refusal why);
  // The target did nothing with the request, and says so.
  void upstream_refused();
  // It has sent some of the request.
  void upstream_drained();
  void progress() { last_progress_ms_ = worker_.loop().now_ms(); }

  void on_alarm() override;
  // For the access log, filled when it is on.
  std::string& log_prefix() { return log_prefix_; }

  // For the pool of exchanges.
  void reset();

 private:
  void set_deadline();
  void attach(Upstream& upstream);
  void abandon_upstream();
  void let_go_of_target();
  void finish(int status);

  Worker& worker_;
  Front* front_ = nullptr;
  std::string answer_lines_;
  std::string websocket_accept_;
  Upstream* upstream_ = nullptr;
  RequestFacts facts_;
  Chain head_;            // with the framing lines, once started
  Chain kept_;            // of the body, for as long as it may have to be sent again
  std::string trailers_;  // likewise
  std::string log_prefix_;
  uint64_t started_us_ = 0;
  uint64_t last_progress_ms_ = 0;
  uint64_t sent_bytes_ = 0;      // of the answer's body
  uint64_t received_bytes_ = 0;  // of the request's
  int status_ = 0;
  uint8_t reuse_retries_ = 0;
  uint8_t refusals_ = 0;  // by targets
  uint8_t interim_ = 0;
  bool connected_ : 1 = false;
  bool keeping_ : 1 = false;
  bool request_ended_ : 1 = false;
  bool answer_begun_ : 1 = false;
  bool upgraded_ : 1 = false;
};

}  // namespace hob::edge
