#include "base/async.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/testing_loop.h"

namespace hob {
namespace {

using namespace std::chrono_literals;
using testing::run_loop;

TEST(AsyncScope, JoinsWhatItStarted) {
  run_loop([](Executor executor) -> Async<> {
    AsyncScope scope(executor);
    int ended = 0;
    for (int i = 0; i < 10; ++i) {
      scope.spawn("child", [&ended]() -> Async<> {
        co_await sleep_for(1ms);
        ++ended;
      });
    }
    EXPECT_EQ(scope.size(), 10u);
    co_await scope.join();
    EXPECT_EQ(ended, 10);
  });
}

TEST(AsyncScope, CancelsAtWhateverItWaitsFor) {
  run_loop([](Executor executor) -> Async<> {
    AsyncScope scope(executor);
    Event never(executor);
    Channel<int> empty(executor, 1);
    Channel<int> full(executor, 1);
    (void)full.try_push(1);
    int cleaned = 0;
    struct Cleanup {
      int& count;
      ~Cleanup() { ++count; }
    };
    scope.spawn("sleeps", [&]() -> Async<> {
      const Cleanup cleanup{cleaned};
      co_await sleep_for(1h);
    });
    scope.spawn("waits", [&]() -> Async<> {
      const Cleanup cleanup{cleaned};
      co_await never.wait();
      ADD_FAILURE();
    });
    scope.spawn("waits a while", [&]() -> Async<> {
      const Cleanup cleanup{cleaned};
      (void)co_await never.wait_for(1h);
      ADD_FAILURE();
    });
    scope.spawn("pops", [&]() -> Async<> {
      const Cleanup cleanup{cleaned};
      (void)co_await empty.pop();
      ADD_FAILURE();
    });
    scope.spawn("pushes", [&]() -> Async<> {
      const Cleanup cleanup{cleaned};
      (void)co_await full.push(2);
      ADD_FAILURE();
    });
    scope.spawn("within", [&]() -> Async<> {
      const Cleanup cleanup{cleaned};
      (void)co_await within(1h, [](Event& event) -> Async<Result<void>> {
        co_await event.wait();
        co_return Result<void>{};
      }(never));
      ADD_FAILURE();
    });
    co_await sleep_for(5ms);
    scope.cancel();
    co_await scope.join();
    EXPECT_EQ(cleaned, 6);
    scope.spawn("too late", []() -> Async<> {
      ADD_FAILURE();
      co_return;
    });
    EXPECT_EQ(scope.size(), 0u);
  });
}

TEST(AsyncScope, AChildThatHasNotBegunIsCancelledToo) {
  run_loop([](Executor executor) -> Async<> {
    AsyncScope scope(executor);
    scope.spawn("child", []() -> Async<> {
      co_await sleep_for(1h);
      ADD_FAILURE();
    });
    scope.cancel();
    co_await scope.join();
  });
}

TEST(Event, WakesAllAndStaysSet) {
  run_loop([](Executor executor) -> Async<> {
    Event event(executor);
    AsyncScope scope(executor);
    int woken = 0;
    for (int i = 0; i < 3; ++i) {
      scope.spawn("waiter", [&]() -> Async<> {
        co_await event.wait();
        ++woken;
      });
    }
    co_await sleep_for(1ms);
    EXPECT_EQ(woken, 0);
    event.set();
    co_await scope.join();
    EXPECT_EQ(woken, 3);
    co_await event.wait();
    EXPECT_TRUE(co_await event.wait_for(0ms));
    event.reset();
    EXPECT_FALSE(co_await event.wait_for(1ms));
  });
}

TEST(Channel, KeepsOrderAndItsBound) {
  run_loop([](Executor executor) -> Async<> {
    Channel<int> channel(executor, 2);
    AsyncScope scope(executor);
    scope.spawn("producer", [&]() -> Async<> {
      for (int i = 0; i < 100; ++i) EXPECT_TRUE(co_await channel.push(i));
      channel.close();
      EXPECT_FALSE(co_await channel.push(100));
    });
    for (int i = 0; i < 100; ++i) {
      const std::optional<int> item = co_await channel.pop();
      EXPECT_EQ(item, i);
      EXPECT_LE(channel.size(), 2u);
    }
    EXPECT_EQ(co_await channel.pop(), std::nullopt);
    co_await scope.join();
  });
}

Async<Result<int>> answer_after(Duration delay, int value) {
  co_await sleep_for(delay);
  co_return value;
}

TEST(Within, GivesTheResultOrATimeout) {
  run_loop([](Executor) -> Async<> {
    const Result<int> quick = co_await within(1h, answer_after(1ms, 7));
    EXPECT_EQ(quick.value_or(0), 7);
    const Result<int> slow = co_await within(1ms, answer_after(1h, 7));
    EXPECT_FALSE(slow.has_value());
    if (!slow) EXPECT_EQ(slow.error().code, Code::kTimeout);
  });
}

TEST(OnPool, RunsElsewhereAndComesBack) {
  run_loop([](Executor) -> Async<> {
    BlockingPool pool(2);
    const std::thread::id here = std::this_thread::get_id();
    const std::thread::id there = co_await on_pool(pool, [] { return std::this_thread::get_id(); });
    EXPECT_NE(here, there);
    EXPECT_EQ(here, std::this_thread::get_id());
  });
}

TEST(OnPool, ACancelledCallerWaitsForIt) {
  run_loop([](Executor executor) -> Async<> {
    BlockingPool pool(1);
    AsyncScope scope(executor);
    std::atomic<bool> ended = false;
    scope.spawn("child", [&]() -> Async<> {
      (void)co_await on_pool(pool, [&ended] {
        std::this_thread::sleep_for(20ms);  // work that cannot be interrupted
        ended = true;
        return 0;
      });
      co_await sleep_for(1h);
      ADD_FAILURE();
    });
    co_await sleep_for(5ms);
    scope.cancel();
    co_await scope.join();
    EXPECT_TRUE(ended);
  });
}

TEST(Backoff, DoublesWithinItsBounds) {
  Backoff backoff{.min = 100ms, .max = 1000ms};
  EXPECT_EQ(backoff.next(0), 50ms);
  EXPECT_EQ(backoff.next(0), 100ms);
  EXPECT_EQ(backoff.next(0), 200ms);
  EXPECT_EQ(backoff.next(0.5), 600ms);
  EXPECT_EQ(backoff.next(0), 500ms);
  backoff.reset();
  EXPECT_EQ(backoff.next(0.999), 99ms);
}

}  // namespace
}  // namespace hob
