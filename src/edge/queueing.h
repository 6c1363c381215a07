// Which target a request gets, and when: version, balance, a client's own target, the queues,
// retries and rests, as one loop decides.
//
// No I/O, no clock and no sockets: the time comes in, and what follows goes out as a Turn, or by
// Calls for a request that had to wait. worker.h uses it with connections, the simulator without.
// Belongs to its loop; what it shares with other loops and the main thread is in routes.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "edge/balancer.h"
#include "edge/routes.h"
#include "edge/stickiness.h"

namespace hob::edge {

class Http2Upstream;
class QueuedRequest;
class UpstreamConnection;

// One target as one loop sees it.
struct Target {
  explicit Target(std::shared_ptr<SharedTarget> of) : shared(std::move(of)) {}
  std::shared_ptr<SharedTarget> shared;
  // The worker's. Kept alive, the warmest last; and those that take new streams, or will when some
  // have ended.
  std::vector<UpstreamConnection*> idle{};
  std::vector<Http2Upstream*> http2{};
  Ejection ejection{};
  bool listed = true;    // in the last table, ready: its connections are worth keeping
  uint64_t came_ms = 0;  // 0: it was there when the loop began
};

// One version of a service as one loop sees it; lives on while requests use it.
struct Pool {
  std::shared_ptr<SharedPool> shared{};
  PoolCounts* counts = nullptr;
  PoolSettings settings{};
  int share = 0;        // of the requests that name no version
  bool sleeps = false;  // some of its targets may sleep
  bool listed = true;
  std::vector<std::shared_ptr<Target>> targets{};  // those that take new requests
  size_t near = 0;                                 // the first of them are in the edge's zone
  // Requests waiting for a target, first come first served.
  QueuedRequest* first_waiting = nullptr;
  QueuedRequest* last_waiting = nullptr;
  size_t waiting = 0;
  uint64_t signalled_ms = 0;  // when it was last told that a target is near its limit
};

// One service as one loop sees it; lives on while requests use it.
struct Service {
  std::shared_ptr<SharedService> shared{};
  ServiceCounts* counts = nullptr;
  ServiceRoute route{};
  bool listed = true;
  std::vector<std::shared_ptr<Pool>> pools{};  // at least one
  uint64_t shares = 1;                         // of all pools
  bool sticky = false;                         // one of them is
  size_t waiting = 0;                          // in all pools
  RetryBudget budget{};
};

// Where a host name leads.
struct Destination {
  std::shared_ptr<Service> service{};
  std::shared_ptr<Pool> pool{};  // nullptr: to any
};

// A loop's time: both of steady time, of one moment.
struct LoopTime {
  uint64_t us = 0;
  uint64_t ms = 0;
};

// What comes of a request for now.
enum class Turn {
  kGiven,           // it has a target, and a place there
  kWaits,           // in a queue, or rests: Queues::due() says until when
  kPaused,          // these end it
  kStopped,         // its service, or the version that it names, went away
  kQueueFull,       // kQueuedPerServiceMax
  kNoTarget,        // none came free in time
  kConnectFailed,   // all refuse, and it has rested as long as it may
  kConnectTimeout,  // likewise: the last one did not even refuse
};

// A request, as far as targets and queues go.
class QueuedRequest {
 public:
  // Only targets of this version may get it. Before begin().
  void pin(std::shared_ptr<Pool> pool) {
    pinned_ = true;
    pool_ = std::move(pool);
  }
  // The target that its client had, of `pool`; it has it again if it can be used. Before begin().
  void prefer(std::shared_ptr<Pool> pool, std::shared_ptr<Target> target) {
    pool_ = std::move(pool);
    sticky_ = std::move(target);
  }

 protected:
  friend class Queues;
  QueuedRequest() = default;
  ~QueuedRequest() = default;
  QueuedRequest(const QueuedRequest&) = delete;
  QueuedRequest& operator=(const QueuedRequest&) = delete;
  void set_deadline_of(const Pool& pool) {
    const uint64_t limit = pool.settings.request_timeout_ms;
    deadline_ms_ = limit == 0 ? ~uint64_t{0} : begun_ms_ + limit;
  }
  // No target has it, and one still may.
  bool held() const { return waiting_ || resting_; }
  uint64_t waiting_since_ms() const { return waiting_since_us_ / 1'000; }
  void count_retry() {
    if (retries_ < UINT8_MAX) ++retries_;
  }
  bool has_failed(const Target& target) const;
  // The version whose request it is now, and whose time it has, from its beginning on; what became
  // of it there is counted when it leaves.
  void enter_pool(const std::shared_ptr<Pool>& pool, LoopTime now);
  void leave_pool(LoopTime now);
  // As good as new.
  void clear();

  std::shared_ptr<Service> service_;
  std::shared_ptr<Pool> pool_;      // from begin() on, but while it rests
  std::shared_ptr<Target> target_;  // of pool_
  std::shared_ptr<Target> sticky_;  // waited for while it can be used; nullptr: any will do
  // Tried and failed, not to be tried again while there are others.
  std::shared_ptr<const Target> failed_[3] = {};
  QueuedRequest* next_waiting_ = nullptr;
  QueuedRequest* previous_waiting_ = nullptr;
  uint64_t begun_ms_ = 0;
  uint64_t deadline_ms_ = 0;  // of the whole request; ~0: none
  uint64_t waiting_since_us_ = 0;
  uint64_t queued_us_ = 0;       // in all
  uint64_t rests_since_ms_ = 0;  // the first of its rests; 0: none yet
  uint64_t rest_until_ms_ = 0;
  uint64_t rest_ms_ = 0;
  uint8_t retries_ = 0;
  bool waiting_ : 1 = false;
  bool resting_ : 1 = false;  // until rest_until_ms_, before targets that refused are tried again
  bool pinned_ : 1 = false;   // to pool_, by the host name
  bool given_ : 1 = false;    // to a target of pool_
  bool unanswered_ : 1 = false;  // it was the last one's fault that no answer, or a 5xx, came
  bool fail_open_ : 1 = false;   // has waited long enough: takes what failed, or is not its own
  uint8_t losses_ = 0;           // targets that ended without answering it
};

class Queues {
 public:
  // All but the last four are of requests that had to wait; none is called for every request.
  struct Calls {
    std::function<void(QueuedRequest&)> given{};
    std::function<void(QueuedRequest&)> waits{};  // elsewhere than before
    std::function<void(QueuedRequest&, Turn why)> refused{};
    std::function<void(Target&)> unlisted{};  // it gets no new requests
    // wake_service() is to be called after this turn of the loop, or by another loop.
    std::function<void(const std::string& service)> look_again{};
    std::function<void(size_t loop, SharedService&)> wake{};
    // The main thread is to look at a pool (WorkerContext::ask); a draining target has no request
    // left.
    std::function<void(std::shared_ptr<SharedPool>)> ask{};
    std::function<void()> drained{};
  };
  struct Options {
    size_t loop = 0;
    size_t loops = 1;
    uint64_t failover = 1'000;  // Times::failover
    uint64_t random[2] = {1, 0};
  };
  Queues(const Options& options, Calls calls);

  void apply(const Routes& routes, LoopTime now);
  // What has this very name, else what has a wildcard for it; nullptr: nothing. `host`: lower case,
  // without a port. Good until apply().
  const Destination* find(std::string_view host) const;
  // What a client's cookie says of the request's target and version.
  static void recall(QueuedRequest& request, const Destination& destination,
                     const StickyTokens& tokens);

  // Counts a request that has its service; its version is chosen, and by it its deadline.
  void begin(QueuedRequest& request, LoopTime now);
  // Finds a target for it, or lets it wait.
  Turn dispatch(QueuedRequest& request, LoopTime now);
  // When a held request is to be looked at, and what comes of it then, or earlier.
  uint64_t due(const QueuedRequest& request) const;
  Turn look(QueuedRequest& request, LoopTime now);
  // Its target could not be reached, nothing was sent: another one's, or it rests.
  Turn connect_failed(QueuedRequest& request, bool timed_out, LoopTime now);
  // Its target ended without an answer. True: it has a second try, is released and to be
  // dispatched. `replayable`: doing it twice does no harm.
  bool lost(QueuedRequest& request, bool replayable, LoopTime now);
  // The head of its answer has come.
  static void answered(QueuedRequest& request);
  // All of it has come, or the connection has become another protocol's.
  static void ended_well(QueuedRequest& request);
  void stop_waiting(QueuedRequest& request, LoopTime now);
  // It no longer uses its target, if it has one.
  void release(QueuedRequest& request);
  // Whether its service's budget has a retry; it is counted either way.
  static bool may_retry(QueuedRequest& request, LoopTime now);
  void gateway_failed(QueuedRequest& request, LoopTime now);

  // A place may have come free on another loop.
  void wake_service(const std::string& id, LoopTime now);
  const std::shared_ptr<Target>* target_of(SharedTarget* shared) const;
  template <class F>
  void each_target(F&& f) {
    for (auto& [shared, target] : targets_) f(*target);
  }
  // xoroshiro128+: for choices and trace ids, not for secrets.
  uint64_t random() {
    const uint64_t a = random_[0];
    uint64_t b = random_[1];
    const uint64_t result = a + b;
    b ^= a;
    random_[0] = ((a << 24) | (a >> 40)) ^ b ^ (b << 16);
    random_[1] = (b << 37) | (b >> 27);
    return result;
  }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  void apply_pools(Service& service, const ServiceRoute& route,
                   std::vector<std::shared_ptr<Pool>>& dropped, LoopTime now);
  const std::shared_ptr<Pool>& choose_pool(const Service& service);
  // False: no target of the pool is free. True: the request is the pool's, whichever it was.
  bool try_target(QueuedRequest& request, const std::shared_ptr<Pool>& pool, LoopTime now);
  // Where the request's own pool has no place and none to wake, another version's place.
  bool try_others(QueuedRequest& request, LoopTime now);
  // False: the request's own target cannot be used, or is waited for no longer; it has none now.
  static bool still_prefers(QueuedRequest& request, const Pool& pool, LoopTime now);
  // Whether a target is left that has not failed the request; if it is one of another version, the
  // request has gone over.
  static bool find_untried(QueuedRequest& request, LoopTime now);
  static bool any_free(const Service& service, const Pool& pool);
  void wait(QueuedRequest& request, LoopTime now);
  void release(Service& service, Pool& pool, Target& target);
  void serve_waiting(Service& service, LoopTime now);
  // Of those that wait in it: each is dispatched anew, those bound to it by name if `pinned`.
  void dispatch_waiting(Pool& pool, bool pinned, LoopTime now);
  void refuse_waiting(Service& service, Turn why, LoopTime now);
  void tell(QueuedRequest& request, Turn turn);
  void set_waiting_bit(Service& service) const;
  void ask(Pool& pool) const;

  const size_t loop_;
  const size_t loops_;
  const uint64_t failover_;
  uint64_t random_[2];
  const Calls calls_;
  bool applied_ = false;
  // Of a walk through a pool's queue. What one is told may end others: a client whose connection
  // breaks takes all its streams along.
  QueuedRequest* next_visited_ = nullptr;
  std::unordered_map<std::string, Destination, Hash, std::equal_to<>> by_host_;  // "*.x" as ".x"
  std::unordered_map<std::string, std::shared_ptr<Service>> services_;           // by id
  std::unordered_map<SharedTarget*, std::shared_ptr<Target>> targets_;
};

}  // namespace hob::edge
