// A link: one long-lived, ordered, two-way stream of messages between control and a host or an edge.
//
// On one machine a unix stream socket whose peer is checked by its uid. A frame is a 4-byte big-endian length, then
// "TYPE\n" and the JSON body. Frames above kFrameBytesMax end the link. Both ends belong to one loop.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "base/async.h"
#include "base/file.h"
#include "base/result.h"
#include "link/messages.h"

namespace hob::link {

inline constexpr size_t kFrameBytesMax = 16 * 1024 * 1024;
inline constexpr size_t kSendQueueMax = 10'000;          // messages; beyond, the link is ended: the peer is stuck
inline constexpr Duration kPingInterval{5'000};          // an empty frame when there is nothing to say
inline constexpr Duration kSilenceMax{20'000};           // no frame for so long: the peer is gone

inline constexpr size_t kSessionsMax = 4'000;            // a listener's; beyond: refused. A cell has about 1,000 hosts

// For tests that cannot wait as long.
struct Timing {
  Duration ping = kPingInterval;
  Duration silence = kSilenceMax;
};

// Dropping the last pointer to it closes it.
class Session {
 public:
  virtual ~Session() = default;
  // Queues; order is kept. kUnavailable: the link has ended.
  virtual Result<void> send(Message message) = 0;
  // Waits until all that was queued before has been given to the socket: a peer that lives reads it, even if this end
  // is closed then. Bound it by within(). kUnavailable: the link has ended.
  virtual Async<Result<void>> flush() = 0;
  // The next message. kUnavailable: the link has ended, once and for all.
  virtual Async<Result<Message>> receive() = 0;
  virtual uid_t peer_uid() const = 0;
  // Ends the link; receive() returns kUnavailable.
  virtual void close() = 0;
};

// Control's end: accepts peers on `listener` whose uid is in `uids` (others are refused and logged), and gives each
// Session to `serve`, which runs as long as it wants the link.
class Listener {
 public:
  using Serve = std::function<Async<>(std::shared_ptr<Session>)>;
  Listener(Executor executor, Fd listener, std::set<uid_t> uids, Serve serve, Timing timing = {});
  ~Listener();
  void start();
  Async<> stop();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// A host's or an edge's end: connects once. kUnavailable: nobody listens.
// A pinging coroutine of the session lives in `scope`, which must outlive it.
Async<Result<std::shared_ptr<Session>>> connect(AsyncScope& scope, std::string socket_path, Timing timing = {});

}  // namespace hob::link
