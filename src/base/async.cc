#include "base/async.h"

#include <algorithm>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/system/system_error.hpp>
#include <cstdio>
#include <exception>
#include <list>

namespace hob {

namespace asio = boost::asio;

namespace {
// An exception that reached the top of a coroutine is a bug: failures are Results.
[[noreturn]] void die(const std::string& name, const char* what) {
  std::fprintf(stderr, "coroutine %s ended by an exception: %s\n", name.c_str(), what);
  assertion_failed("no exception leaves a coroutine", __FILE__, __LINE__);
}
}  // namespace

struct AsyncScope::State {
  explicit State(const Executor& executor) : empty(executor) {}
  struct Child {
    std::string name;
    asio::cancellation_signal signal;
  };
  std::list<Child> children;
  Event empty;
  bool cancelled = false;
};

AsyncScope::AsyncScope(Executor executor)
    : executor_(std::move(executor)), state_(std::make_shared<State>(executor_)) {}

AsyncScope::~AsyncScope() { HOB_ASSERT(state_->children.empty()); }

void AsyncScope::spawn(std::string_view name, Async<> work) {
  if (state_->cancelled) return;
  state_->children.emplace_back();
  const auto child = std::prev(state_->children.end());
  child->name = name;
  asio::co_spawn(executor_, std::move(work),
                 asio::bind_cancellation_slot(
                     child->signal.slot(), [state = state_, child](std::exception_ptr exception) {
                       try {
                         if (exception) std::rethrow_exception(exception);
                       } catch (const boost::system::system_error& error) {
                         if (error.code() != asio::error::operation_aborted) {
                           die(child->name, error.what());
                         }
                       } catch (const std::exception& error) {
                         die(child->name, error.what());
                       }
                       state->children.erase(child);
                       if (state->children.empty()) state->empty.set();
                     }));
}

void AsyncScope::cancel() {
  state_->cancelled = true;
  // A child that ends while being told erases itself from the list, so step before telling. A child
  // that ends *another* child cannot: coroutines resume through the loop, not inside emit().
  for (auto child = state_->children.begin(); child != state_->children.end();) {
    const auto current = child++;
    current->signal.emit(asio::cancellation_type::terminal);
  }
}

Async<> AsyncScope::join() {
  const auto state = state_;
  // Whoever joins is cancelled, too, now and then: it must wait all the same, since its frame may
  // hold this scope.
  const bool throws = co_await asio::this_coro::throw_if_cancelled();
  co_await asio::this_coro::throw_if_cancelled(false);
  bool cancelled = false;
  while (!state->children.empty()) {
    state->empty.reset();
    try {
      co_await state->empty.wait();
    } catch (const boost::system::system_error&) {
      cancelled = true;
    }
  }
  co_await asio::this_coro::throw_if_cancelled(throws);
  if (cancelled) throw boost::system::system_error(asio::error::operation_aborted);
}

size_t AsyncScope::size() const { return state_->children.size(); }

Async<> throw_if_cancelled() {
  if ((co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none) {
    throw boost::system::system_error(asio::error::operation_aborted);
  }
}

Async<> sleep_for(Duration delay) {
  asio::steady_timer timer(co_await asio::this_coro::executor, delay);
  co_await timer.async_wait(asio::use_awaitable);
}

Event::Event(const Executor& executor) : timer_(executor, asio::steady_timer::time_point::max()) {}

void Event::set() {
  set_ = true;
  timer_.cancel();
}

Async<> Event::wait() {
  if (set_) co_return;
  boost::system::error_code error;
  co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, error));
  // The timer's own cancel() and the coroutine's cancellation give the same error: the latter shows
  // in the state.
  co_await throw_if_cancelled();
}

Async<bool> Event::wait_for(Duration timeout) {
  if (set_) co_return true;
  asio::steady_timer deadline(co_await asio::this_coro::executor, timeout);
  co_await asio::experimental::make_parallel_group(timer_.async_wait(asio::deferred),
                                                   deadline.async_wait(asio::deferred))
      .async_wait(asio::experimental::wait_for_one(), asio::use_awaitable);
  co_await throw_if_cancelled();
  co_return set_;
}

Duration Backoff::next(double unit) {
  current = std::clamp(current * 2, min, max);
  return current / 2 + Duration(static_cast<Duration::rep>(
                           unit * static_cast<double>((current - current / 2).count())));
}

}  // namespace hob
