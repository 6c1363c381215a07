// A loop: one thread's sockets, by completion. What is read arrives by itself, what is to be sent
// is queued and goes out with everything else before the loop next waits; io_uring where the kernel
// allows it, else epoll.
//
// Everything is called from the loop's thread, but for post() and stop().
#pragma once

#include <netinet/in.h>
#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "edge/buffer.h"
#include "edge/timer_wheel.h"

namespace hob::edge {

class Loop;
class Socket;

// A deadline: on_alarm() is called when it has passed.
class Alarm : public Timer {
 public:
  virtual void on_alarm() = 0;

 protected:
  ~Alarm() = default;
};

// What stands between a socket and the wire, and changes every byte: TLS. Belongs to its socket.
class Filter {
 public:
  virtual ~Filter() = default;
  // Bytes from the wire. What they mean goes to deliver(), an end to ended().
  virtual void received(Slice data) = 0;
  // Turns what it can of the socket's out() into wire(), so much that the wire has enough to do.
  // False: it is broken.
  virtual bool seal(Chain& out) = 0;
  // The socket will send no more: tells the peer so.
  virtual void finish() = 0;
  Chain& wire() { return wire_; }

 protected:
  static void deliver(Socket& socket, Slice data);
  static void ended(Socket& socket, int error);
  static void secured(Socket& socket);
  Chain wire_;
};

// One stream socket. Derived classes hear what happens to it. After close() nothing is heard but
// on_released(), when the kernel has let go of it: that is where it is destroyed.
class Socket {
 public:
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  // Bytes queued here go out soon after flush().
  Chain& out() { return out_; }
  // Bytes that were queued and that the kernel has not taken yet.
  size_t unsent() const {
    return out_.bytes() + (filter_ != nullptr ? filter_->wire().bytes() : 0);
  }
  bool closing() const { return closing_; }
  int fd() const { return fd_; }

 protected:
  explicit Socket(Loop& loop) : loop_(loop) {}
  virtual ~Socket() = default;

  virtual void on_connected(int error) = 0;  // of connect(): 0 or an errno
  virtual void on_data(Slice data) = 0;
  // 0: the peer sent all it will; else the connection is broken. Each at most once, in this order.
  virtual void on_end(int error) = 0;
  virtual void on_sent() = 0;  // out() has become shorter
  virtual void on_timer() = 0;
  virtual void on_released() = 0;
  virtual void on_secured() {}  // its filter and the peer have agreed on their keys
  // Before it is adopted by the loop.
  void set_filter(std::unique_ptr<Filter> filter) { filter_ = std::move(filter); }

  Loop& loop_;

 private:
  friend class Loop;
  friend class Filter;
  friend class UringLoop;
  friend class EpollLoop;
  friend class ScriptedLoop;  // of fuzz targets
  // What the kernel is given.
  Chain& wire() { return filter_ != nullptr ? filter_->wire() : out_; }
  void take(Slice data) {
    if (filter_ != nullptr) {
      filter_->received(std::move(data));
    } else {
      on_data(std::move(data));
    }
  }
  struct SocketAlarm final : Alarm {
    explicit SocketAlarm(Socket& of) : socket(of) {}
    void on_alarm() override {
      if (!socket.closing_) socket.on_timer();
    }
    Socket& socket;
  };

  Chain out_;
  std::unique_ptr<Filter> filter_;  // nullptr: bytes go as they are
  SocketAlarm alarm_{*this};
  int fd_ = -1;
  uint32_t sending_ =
      0;  // io_uring: bytes of wire() the kernel has been given; they stay until it is done
  uint8_t ops_ = 0;  // io_uring: operations under way
  bool want_read_ : 1 = false;
  bool receiving_ : 1 = false;   // io_uring: a receive is under way
  bool cancelling_ : 1 = false;  // io_uring: and is being cancelled
  bool one_by_one_ : 1 = false;  // io_uring: receive once, not until told otherwise
  bool filled_ : 1 = false;      // io_uring: the last receive took all there was room for
  bool multishot_ : 1 = false;   // io_uring: the receive under way is of that kind
  bool full_ : 1 = false;        // io_uring: the kernel has no room for more of wire() just now
  bool connecting_ : 1 = false;
  bool queued_ : 1 = false;  // in flush list
  bool held_ : 1 = false;    // in the list of those that are held
  bool held_again_ : 1 = false;
  bool ended_ : 1 = false;
  bool broken_ : 1 = false;
  bool send_broken_ : 1 = false;  // what is queued is dropped; reading tells why
  bool shut_wanted_ : 1 = false;
  bool finished_ : 1 = false;  // the filter has told the peer
  bool shut_ : 1 = false;
  bool closing_ : 1 = false;
  bool releasing_ : 1 = false;
  bool readable_ : 1 = false;    // epoll
  bool hung_up_ : 1 = false;     // epoll
  bool ready_ : 1 = false;       // epoll: in its list of those to be read
  bool writable_ : 1 = false;    // epoll
  bool retry_read_ : 1 = false;  // no buffer was left
};

class Listener {
 public:
  virtual void on_accept(int fd, size_t listener) = 0;
  // After unlisten(): on_accept() is not called any more.
  virtual void on_unlistened() = 0;

 protected:
  ~Listener() = default;
};

enum class Io { kBest, kUring, kEpoll };

// What unlisten() does with connections that wait to be accepted. kTake: when others listen on the
// same sockets, the kernel may have woken us for one, and wakes nobody else for it.
enum class Backlog { kLeave, kTake };

class Loop {
 public:
  // kBest: io_uring if the kernel lets us, unless the environment says HOB_EDGE_IO=epoll.
  // kUnavailable: kUring was asked for and cannot be had.
  static Result<std::unique_ptr<Loop>> make(Io io);
  virtual ~Loop() = default;
  virtual const char* name() const = 0;

  // ---- any thread ----
  void post(std::function<void()> work);
  void stop();

  // ---- its own thread ----
  // Until stop().
  virtual void run() = 0;
  // Gives each connection made on `fd` to `listener.on_accept(…, index)`, until unlisten(). Before
  // run(); one listener for all.
  virtual void listen(int fd, Listener& listener, size_t index) = 0;
  // Accepts no more; what the kernel has accepted meanwhile is still given to the listener, before
  // on_unlistened(). Again: nothing.
  virtual void unlisten(Backlog backlog) = 0;

  // The socket owns `fd` from now on. Reading must be started.
  void adopt(Socket& socket, int fd);
  // Makes a TCP socket and connects it; on_connected() tells how it went.
  virtual void connect(Socket& socket, const sockaddr_in& address) = 0;
  virtual void read(Socket& socket) = 0;
  // Stops reading soon: what has arrived may still be delivered (with io_uring, a few buffers).
  virtual void pause(Socket& socket) = 0;
  // Expect much: receive buffer by buffer, so that pause() is exact.
  void set_bulk(Socket& socket, bool bulk) { socket.one_by_one_ = bulk; }
  // Sends what is queued, before the next wait; while a sender's buffers come in full, only when
  // there is much of it or no more has come in the next turn: a few large sends cost less than
  // many.
  void flush(Socket& socket) {
    if (socket.queued_) return;
    if (more_arrives_ && socket.unsent() < kQueuedBytesHigh) {
      hold(socket);
      return;
    }
    socket.queued_ = true;
    flush_list_.push_back(&socket);
  }
  // Sends what is queued, then tells the peer that there is no more.
  void shut(Socket& socket) {
    socket.shut_wanted_ = true;
    flush(socket);
  }
  // At once; what is queued is lost.
  void close(Socket& socket);

  // kNever: none.
  void set_alarm(Alarm& alarm, uint64_t due_ms) { timers_.set(alarm, due_ms, now_ms_); }
  void set_timer(Socket& socket, uint64_t due_ms) { set_alarm(socket.alarm_, due_ms); }
  // Steady time as of this turn of the loop.
  uint64_t now_ms() const { return now_ms_; }
  uint64_t now_us() const { return now_us_; }
  BufferPool& buffers() { return buffers_; }
  // Any thread: as of the loop's last turn.
  size_t buffers_in_use() const { return buffers_in_use_.load(std::memory_order_relaxed); }

 protected:
  friend class Filter;
  Loop();
  virtual void start_socket(Socket& socket) = 0;
  virtual void start_send(Socket& socket) = 0;
  // Begins closing. True: the kernel holds nothing of it.
  virtual bool start_close(Socket& socket) = 0;
  virtual void shut_now(Socket& socket) = 0;

  void tick();
  void run_posted();
  void run_timers();
  void flush_all();
  void release(Socket& socket) {
    if (socket.releasing_) return;
    socket.releasing_ = true;
    released_.push_back(&socket);
  }
  void run_released();
  // Retries reads that found no buffer.
  void retry_reads();
  // Accepts what waits on a socket that does not block, up to kBacklogTakenMax.
  static void take_backlog(int fd, Listener& listener, size_t index, int flags);
  void starve(Socket& socket);
  void hold(Socket& socket) {
    socket.held_again_ = true;
    if (socket.held_) return;
    socket.held_ = true;
    held_.push_back(&socket);
  }
  // Queues those that were held in the last turn and not again in this one.
  void let_go_held();
  bool holds() const { return !held_.empty(); }
  bool busy() const { return !flush_list_.empty() || !released_.empty(); }
  void sent(Socket& socket, size_t count);
  bool seal(Socket& socket);
  void drop_unsent(Socket& socket);
  // What one send is given of wire().
  struct Sending {
    iovec pieces[16];
    size_t count = 0;
    size_t bytes = 0;
    int flags = 0;
  };
  static void gather(Socket& socket, Sending& sending);
  // Without waiting: bytes that the kernel took, or -1 and errno.
  static ssize_t send_now(const Socket& socket, const Sending& sending);
  void ended(Socket& socket, int error);
  // A peer that answers early and closes breaks our sending, but its answer is still to be read.
  void send_failed(Socket& socket, int error);
  void wake();

  BufferPool buffers_;
  TimerWheel timers_;
  uint64_t now_ms_ = 0;
  uint64_t now_us_ = 0;
  std::atomic<bool> stopping_ = false;
  std::atomic<size_t> buffers_in_use_ = 0;
  bool more_arrives_ =
      false;  // what is being delivered filled its buffer: most likely not the last
  Fd wake_fd_;

 private:
  std::mutex mutex_;  // of posted_ alone
  std::vector<std::function<void()>> posted_;
  std::atomic<bool> has_posted_ = false;
  std::vector<Socket*> flush_list_;
  std::vector<Socket*> flushing_;
  std::vector<Socket*> released_;
  std::vector<Socket*> starved_;
  std::vector<Socket*> held_;
};

inline void Filter::deliver(Socket& socket, Slice data) { socket.on_data(std::move(data)); }
inline void Filter::secured(Socket& socket) { socket.on_secured(); }
inline void Filter::ended(Socket& socket, int error) { socket.loop_.ended(socket, error); }

}  // namespace hob::edge
