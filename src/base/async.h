// Coroutines: Async<T>, the scope that owns them, waiting, deadlines, and the pool for what blocks.
//
// Every coroutine has a parent that waits for it: AsyncScope::spawn is the only way to start one. Cancelling is
// always right (cleanup is in destructors) and is heard at every co_await of this header and of Asio's sockets.
// Everything here belongs to one loop and must be called from it, but for what says otherwise.
// The traps of lifetime are listed in style.md §7: spawned coroutines take values, not references.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/experimental/parallel_group.hpp>
#include <boost/asio/deferred.hpp>

#include <concepts>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/assert.h"
#include "base/result.h"
#include "base/time.h"

namespace hob {

template <class T = void>
using Async = boost::asio::awaitable<T>;
using Executor = boost::asio::any_io_executor;

// A group of coroutines that lives inside its owner.
//
// The owner's stop() calls cancel() and then co_await join(); the destructor asserts that nothing runs. A child
// that throws anything but its own cancellation is a bug and stops the process: failures are Results.
class AsyncScope {
 public:
  explicit AsyncScope(Executor executor);
  ~AsyncScope();
  AsyncScope(const AsyncScope&) = delete;
  AsyncScope& operator=(const AsyncScope&) = delete;

  // Starts `work` soon, on the scope's loop. `name` is for logs. After cancel(): does nothing.
  void spawn(std::string_view name, Async<> work);
  // The same for a lambda returning Async<>, which is kept alive (with its captures) until it ends.
  template <std::invocable F>
    requires std::same_as<std::invoke_result_t<F>, Async<>>
  void spawn(std::string_view name, F function) {
    spawn(name, call(std::move(function)));
  }
  // Asks every child to stop; spawns after it are ignored.
  void cancel();
  // Waits until no child runs.
  Async<> join();
  size_t size() const;
  const Executor& executor() const { return executor_; }

 private:
  struct State;
  template <class F>
  static Async<> call(F function) {
    co_await function();
  }
  Executor executor_;
  std::shared_ptr<State> state_;
};

// Ends the calling coroutine, by the exception that cancellation is, if it was cancelled while it waited for something
// that swallows the news (a parallel group, a redirected error).
Async<> throw_if_cancelled();

// Waits for `delay` of steady time.
Async<> sleep_for(Duration delay);

// A flag one or many coroutines wait for. set() wakes all waiters; wait() returns at once while it is set.
// Cancelled waits lose nothing.
class Event {
 public:
  explicit Event(const Executor& executor);
  void set();
  void reset() { set_ = false; }
  bool is_set() const { return set_; }
  Async<> wait();
  // True if set before `timeout` of steady time passed.
  Async<bool> wait_for(Duration timeout);

 private:
  boost::asio::steady_timer timer_;
  bool set_ = false;
};

// A bounded queue between coroutines of one loop. A cancelled pop() loses nothing.
template <class T>
class Channel {
 public:
  Channel(const Executor& executor, size_t capacity)
      : readable_(executor), writable_(executor), capacity_(capacity) {}

  // False: full, or closed; the item is dropped.
  bool try_push(T item) {
    if (closed_ || items_.size() >= capacity_) return false;
    items_.push_back(std::move(item));
    readable_.set();
    return true;
  }
  // Waits for room. False: closed.
  Async<bool> push(T item) {
    while (!closed_ && items_.size() >= capacity_) {
      writable_.reset();
      co_await writable_.wait();
    }
    co_return try_push(std::move(item));
  }
  // Waits for an item; nullopt once closed and empty.
  Async<std::optional<T>> pop() {
    while (items_.empty()) {
      if (closed_) co_return std::nullopt;
      readable_.reset();
      co_await readable_.wait();
    }
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    writable_.set();
    co_return item;
  }
  void close() {
    closed_ = true;
    readable_.set();
    writable_.set();
  }
  bool closed() const { return closed_; }
  size_t size() const { return items_.size(); }

 private:
  Event readable_;
  Event writable_;
  std::deque<T> items_;
  size_t capacity_;
  bool closed_ = false;
};

// Races `work` against `timeout`; the loser is cancelled and has unwound when this returns.
// kTimeout: the time passed first. What runs on a pool inside `work` is not cancelled, only waited for.
template <class T>
Async<Result<T>> within(Duration timeout, Async<Result<T>> work) {
  const Executor executor = co_await boost::asio::this_coro::executor;
  boost::asio::steady_timer timer(executor, timeout);
  auto [order, timer_error, exception, result] =
      co_await boost::asio::experimental::make_parallel_group(
          timer.async_wait(boost::asio::deferred),
          boost::asio::co_spawn(executor, std::move(work), boost::asio::deferred))
          .async_wait(boost::asio::experimental::wait_for_one(), boost::asio::use_awaitable);
  co_await throw_if_cancelled();
  if (order[0] == 0) co_return fail(Code::kTimeout, "took longer than {} ms", timeout.count());
  if (exception) std::rethrow_exception(exception);
  co_return std::move(result);
}

// Threads for what blocks: SQLite, fsync, unpacking, exec. Destroyed after the loop ended.
class BlockingPool {
 public:
  explicit BlockingPool(size_t threads) : pool_(threads) {}
  boost::asio::thread_pool& threads() { return pool_; }
  void join() { pool_.join(); }

 private:
  boost::asio::thread_pool pool_;
};

// Runs `function` on the pool and comes back to the caller's loop with its value. Not cancellable: a cancelled
// caller waits for it. `function` must own what it uses.
template <class F>
Async<std::invoke_result_t<F>> on_pool(BlockingPool& pool, F function) {
  using R = std::invoke_result_t<F>;
  // An own cancellation slot: cancelling from this loop while the pool's thread runs would be a race.
  boost::asio::cancellation_signal never;
  co_return co_await boost::asio::co_spawn(
      pool.threads(),
      [](F body) -> Async<R> { co_return body(); }(std::move(function)),
      boost::asio::bind_cancellation_slot(never.slot(), boost::asio::use_awaitable));
}

// Retry delays: doubling from `min` to `max`, each drawn between half and the whole of it.
struct Backoff {
  Duration min{100};
  Duration max{10'000};
  Duration current{0};
  // `unit`: a random number in [0, 1).
  Duration next(double unit);
  void reset() { current = Duration(0); }
};

}  // namespace hob
