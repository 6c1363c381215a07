// What one loop knows: its services and targets, its connections, and how an exchange gets a
// target.
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
#include "edge/balancer.h"
#include "edge/loop.h"
#include "edge/routes.h"

namespace hob::edge {

class AccessLog;
class AcmeAnswers;
class Certificates;
class ClientConnection;
class Exchange;
class Http2Upstream;
class Upstream;
class UpstreamConnection;
class Worker;
enum class Refusal;

// One target as one loop sees it.
struct Target {
  explicit Target(std::shared_ptr<SharedTarget> of) : shared(std::move(of)) {}
  std::shared_ptr<SharedTarget> shared;
  std::vector<UpstreamConnection*> idle{};  // kept alive, the warmest last
  std::vector<Http2Upstream*> http2{};      // that take new streams, or will when some have ended
  Ejection ejection{};
  bool listed = true;    // in the last table, ready: its connections are worth keeping
  uint64_t came_ms = 0;  // 0: it was there when the loop began
};

// One version of a service as one loop sees it; lives on while exchanges use it.
struct Pool {
  std::shared_ptr<SharedPool> shared{};
  PoolCounts* counts = nullptr;
  int share = 0;        // of the requests that name no version
  bool sleeps = false;  // some of its targets may sleep
  bool listed = true;
  std::vector<std::shared_ptr<Target>> targets{};  // those that take new requests
  size_t near = 0;                                 // the first of them are in the edge's zone
  // Exchanges waiting for a target, first come first served.
  Exchange* first_waiting = nullptr;
  Exchange* last_waiting = nullptr;
  size_t waiting = 0;
  uint64_t signalled_ms = 0;  // when it was last told that a target is near its limit
};

// One service as one loop sees it; lives on while exchanges use it.
struct Service {
  std::shared_ptr<SharedService> shared{};
  ServiceCounts* counts = nullptr;
  ServiceRoute route{};
  bool listed = true;
  std::vector<std::shared_ptr<Pool>> pools{};  // at least one
  uint64_t shares = 1;                         // of all pools
  size_t waiting = 0;                          // in all pools
  RetryBudget budget{};
};

// Where a host name leads.
struct Destination {
  std::shared_ptr<Service> service{};
  std::shared_ptr<Pool> pool{};  // nullptr: to any
};

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
  // False: no connection is accepted any more.
  bool listening() const { return listening_.load(std::memory_order_acquire); }

  // ---- on the loop's thread ----
  void apply(const Routes& routes);
  void on_accept(int fd, size_t listener) override;
  void on_unlistened() override { listening_.store(false, std::memory_order_release); }
  // For connections from now on. nullptr: those that want TLS are closed.
  void set_certificates(std::shared_ptr<const Certificates> certificates) {
    certificates_ = std::move(certificates);
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
  void wake_service(const std::string& id);
  // The target is going to sleep: closes the connections kept to it.
  void close_idle(SharedTarget* of);

  // What has this very name, else what has a wildcard for it; nullptr: nothing. `host`: lower case,
  // without a port. Good until apply().
  const Destination* find(std::string_view host) const;
  // What the cookie in the head's scratch says of the exchange's target and version.
  void recall(Exchange& exchange, const Destination& destination) const;
  // Finds a target and a connection for the exchange, or lets it wait, or refuses it.
  void dispatch(Exchange& exchange);
  void stop_waiting(Exchange& exchange);
  // Out of turn. False: it still waits.
  bool try_waiting(Exchange& exchange);
  // Whether a target is left that has not failed the exchange; if it is one of another version, the
  // exchange has gone over.
  bool find_untried(Exchange& exchange);
  // An exchange no longer uses its target.
  void release(Service& service, Pool& pool, Target& target);
  // Whether the service's budget has a retry; it is counted either way.
  bool may_retry(Service& service);
  void gateway_failed(Service& service, Pool& pool, Target& target);

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

  uint64_t random();
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
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  // False: no target of the pool is free. True: the exchange is the pool's, whichever it was.
  bool try_target(Exchange& exchange, const std::shared_ptr<Pool>& pool);
  // Where the exchange's own pool has no place and none to wake, another version's place.
  bool try_others(Exchange& exchange);
  // False: the exchange's own target cannot be used, or is waited for no longer; it has none now.
  bool still_prefers(Exchange& exchange, const Pool& pool, uint64_t now) const;
  const std::shared_ptr<Pool>& choose_pool(const Service& service);
  Upstream& upstream_to(const std::shared_ptr<Target>& target, link::TargetProtocol protocol);
  static void close_kept(Target& target);
  bool any_free(const Service& service, const Pool& pool) const;
  void serve_waiting(Service& service);
  // Of those that wait in it: each is dispatched anew, those bound to it by name if `pinned`.
  void dispatch_waiting(Pool& pool, bool pinned);
  void refuse_waiting(Service& service, Refusal why);
  void set_waiting_bit(Service& service);
  void ask(Pool& pool);
  void apply_pools(Service& service, const ServiceRoute& route,
                   std::vector<std::shared_ptr<Pool>>& dropped);

  std::unique_ptr<Loop> loop_;
  size_t index_;
  WorkerContext& context_;
  std::vector<uint16_t> ports_;
  std::shared_ptr<const Certificates> certificates_;
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
  std::unordered_map<std::string, Destination, Hash, std::equal_to<>> by_host_;  // "*.x" as ".x"
  std::unordered_map<std::string, std::shared_ptr<Service>> services_;           // by id
  std::unordered_map<SharedTarget*, std::shared_ptr<Target>> targets_;
  std::vector<std::unique_ptr<Exchange>> spare_exchanges_;
  std::vector<std::unique_ptr<Exchange>> leaving_exchanges_;  // destroyed in the next turn
  http::RequestHead request_head_{};
  http::ResponseHead response_head_{};
  std::string text_scratch_;
  std::string block_scratch_;
  uint64_t random_state_[2] = {};
  uint32_t unix_seconds_ = 0;
  uint64_t unix_seconds_at_ = 0;
};

}  // namespace hob::edge
