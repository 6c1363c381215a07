// What one loop has: its connections, and what it knows of services and targets (queueing.h).
//
// Lives on its loop's thread. apply() is posted to it with each new table; nothing else comes from
// outside.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/http_parser.h"
#include "edge/loop.h"
#include "edge/queueing.h"
#include "edge/routes.h"

namespace hob::edge {

class AccessLog;
class AcmeAnswers;
class Certificates;
class ClientConnection;
class Exchange;
class Upstream;
class Worker;
enum class Refusal;

// Counts of one loop that belong to no service.
struct alignas(64) WorkerCounts {
  LoopCount accepted{};
  LoopCount connections{};           // clients', now
  LoopCount upstream_connections{};  // now
  LoopCount upstream_opened{};
  LoopCount upstream_reused{};
  LoopCount shed{};               // closed at once: kConnectionsMax
  LoopCount refused{};            // answered by the edge itself with no service known: 4xx, 404
  LoopCount queued_peak_bytes{};  // the most that was ever queued to one peer
};

// kHandOver: others take connections, ours end when their clients have been told. kStop: soon.
enum class Draining : uint8_t { kNo, kHandOver, kStop };

// What all workers are given; outlives them.
struct WorkerContext {
  size_t loops = 1;
  // Called from a loop when a draining target's last request has ended.
  std::function<void()> on_drained{};
  // Much that was allocated is free again: gives it back to the kernel.
  std::function<void()> give_back_memory{};
  // Asks another loop to look at a service's queues: a place has come free.
  std::function<void(size_t loop, SharedService& service)> wake{};
  // Asks the main thread to look at a pool: a request waits, a target is near its limit or fails,
  // or a closed one's last request has ended.
  std::function<void(std::shared_ptr<SharedPool> pool)> ask{};
  AccessLog* access_log = nullptr;  // nullptr: none
  size_t tls_from = SIZE_MAX;       // listeners of this index and above speak TLS
  Times times{};
};

class Worker final : public Listener {
 public:
  // `ports`: of each listener, for X-Forwarded-Port.
  Worker(std::unique_ptr<Loop> loop, size_t index, WorkerContext& context,
         std::vector<uint16_t> ports);
  ~Worker();

  Loop& loop() { return *loop_; }
  const Loop& loop() const { return *loop_; }
  size_t index() const { return index_; }
  const WorkerCounts& counts() const { return counts_; }
  int64_t applied_version() const { return applied_.load(std::memory_order_acquire); }
  int64_t certificates_version() const { return certified_.load(std::memory_order_acquire); }
  // False: no connection is accepted any more.
  bool listening() const { return listening_.load(std::memory_order_acquire); }

  // ---- on the loop's thread ----
  void apply(const Routes& routes);
  void on_accept(int fd, size_t listener) override;
  void on_unlistened() override { listening_.store(false, std::memory_order_release); }
  // For connections from now on, as control's table of that version has them. nullptr: those that
  // want TLS are closed.
  void set_certificates(std::shared_ptr<const Certificates> certificates, int64_t version) {
    certificates_ = std::move(certificates);
    certified_.store(version, std::memory_order_release);
  }
  const std::shared_ptr<const Certificates>& certificates() const { return certificates_; }
  // nullptr: nobody asks.
  void set_acme(std::shared_ptr<const AcmeAnswers> acme) { acme_ = std::move(acme); }
  const std::shared_ptr<const AcmeAnswers>& acme() const { return acme_; }
  // Whether the request is an ACME server's question; acme_answer() is good until the next turn.
  bool find_acme_answer(std::string_view host, std::string_view path);
  std::string_view acme_answer() const { return acme_answer_; }
  // Stops accepting. kStop: closes idle connections, and the others after their answer. kHandOver:
  // a client learns with an answer that there is no next one, and idle ones keep their time: who
  // sends a request just now must not find its connection closed.
  void drain(Draining how);
  // Closes everything now.
  void abort_all();
  // A place may have come free on another loop.
  void wake_service(const std::string& id) { queues_.wake_service(id, now()); }
  // The target is going to sleep: closes the connections kept to it.
  void close_idle(SharedTarget* of);

  const Destination* find(std::string_view host) const { return queues_.find(host); }
  // What the cookie in the head's scratch says of the exchange's target and version.
  void recall(Exchange& exchange, const Destination& destination) const;
  // Which target an exchange gets, and when.
  Queues& queues() { return queues_; }
  LoopTime now() const { return {.us = loop_->now_us(), .ms = loop_->now_ms()}; }
  // A connection to it: kept alive, or new.
  Upstream& upstream_to(const std::shared_ptr<Target>& target, link::TargetProtocol protocol);

  // ---- connections ----
  void enter(ClientConnection& connection);
  void leave(ClientConnection& connection);
  void begin_handshake(ClientConnection& connection);
  void end_handshake(ClientConnection& connection);  // done or not; again: nothing
  void keep_idle(UpstreamConnection& connection);
  void forget_idle(UpstreamConnection& connection);
  Draining draining() const { return draining_; }
  uint16_t port(size_t listener) const { return ports_[listener]; }

  std::unique_ptr<Exchange> take_exchange();
  void give_back(std::unique_ptr<Exchange> exchange);

  uint64_t random() { return queues_.random(); }
  BufferPool& buffers() { return loop_->buffers(); }
  WorkerCounts& mutable_counts() { return counts_; }
  WorkerContext& context() { return context_; }
  uint32_t unix_seconds();

  // Scratch for parsing: a head is parsed and rewritten within one call. As good as new, but for
  // the fields beyond field_count, whose 4 KiB would cost more to clear than the parsing.
  http::RequestHead& fresh_request_head();
  http::ResponseHead& fresh_response_head();
  std::string& text_scratch() { return text_scratch_; }    // HTTP/2: a head on its way in
  std::string& block_scratch() { return block_scratch_; }  // and on its way out
  const http::RequestHead& request_head() const { return request_head_; }

 private:
  Queues::Calls calls();
  static void close_kept(Target& target);

  std::unique_ptr<Loop> loop_;
  size_t index_;
  WorkerContext& context_;
  std::vector<uint16_t> ports_;
  std::shared_ptr<const Certificates> certificates_;
  std::atomic<int64_t> certified_{0};  // their version
  std::shared_ptr<const AcmeAnswers> acme_;
  std::string_view acme_answer_;
  WorkerCounts counts_;
  std::atomic<int64_t> applied_ = -1;
  std::atomic<bool> listening_ = true;
  Draining draining_ = Draining::kNo;
  bool aborting_ = false;
  ClientConnection* first_client_ = nullptr;
  size_t clients_ = 0;
  std::vector<ClientConnection*> handshakes_;  // each knows its place
  size_t handshakes_peak_ = 0;                 // since memory was last given back
  Queues queues_;
  std::vector<std::unique_ptr<Exchange>> spare_exchanges_;
  std::vector<std::unique_ptr<Exchange>> leaving_exchanges_;  // destroyed in the next turn
  http::RequestHead request_head_{};
  http::ResponseHead response_head_{};
  std::string text_scratch_;
  std::string block_scratch_;
  uint32_t unix_seconds_ = 0;
  uint64_t unix_seconds_at_ = 0;
};

}  // namespace hob::edge
