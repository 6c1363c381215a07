#include "store/cache.h"

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <map>

#include "store/memory_store.h"

namespace hob::store {
namespace {

// A small history, so that a cache which is not run for a while is compacted.
class CacheTest : public testing::Test {
 protected:
  CacheTest() : store_(make_memory_store(loop_.get_executor(), 10)), scope_(loop_.get_executor()) {}

  std::unique_ptr<Cache> make(std::vector<std::string> prefixes) {
    return std::make_unique<Cache>(*store_, loop_.get_executor(), std::move(prefixes),
                                   [this](const std::string& key, const Entry* entry) {
                                     told_ += fmt::format("{}{} ", key,
                                                          entry ? "=" + entry->value : " gone");
                                   });
  }
  void commit(Transaction transaction) {
    scope_.spawn("commit", [this, transaction = std::move(transaction)]() -> Async<> {
      EXPECT_TRUE(co_await store_->commit(transaction));
    });
    poll();
  }
  void poll() {
    loop_.restart();
    loop_.poll();
  }
  void finish(Cache& cache) {
    scope_.spawn("stop", [&cache]() -> Async<> { co_await cache.stop(); });
    loop_.restart();
    loop_.run();
  }
  static std::string show(const Cache& cache) {
    std::string text;
    for (const auto& [key, entry] : cache.entries()) text += key + "=" + entry.value + " ";
    return text;
  }

  boost::asio::io_context loop_;
  std::unique_ptr<Store> store_;
  AsyncScope scope_;
  std::string told_;
};

TEST_F(CacheTest, ListsThenFollowsItsPrefixesOnly) {
  commit({.put = {{"/c/a/1", "x"}, {"/c/b/1", "y"}, {"/c/z", "other"}}});
  auto cache = make({"/c/a/", "/c/b/"});
  EXPECT_EQ(cache->revision(), 0);
  cache->start();
  poll();
  EXPECT_EQ(show(*cache), "/c/a/1=x /c/b/1=y ");
  commit({.put = {{"/c/a/2", "z"}, {"/c/zz", "other"}}, .remove = {"/c/b/1"}});
  EXPECT_EQ(show(*cache), "/c/a/1=x /c/a/2=z ");
  EXPECT_EQ(cache->revision(), 2);
  EXPECT_EQ(told_, "/c/a/1=x /c/b/1=y /c/a/2=z /c/b/1 gone ");
  finish(*cache);
}

TEST_F(CacheTest, WaitsForARevision) {
  auto cache = make({"/a/"});
  cache->start();
  poll();
  int reached = 0;
  for (int i = 1; i <= 2; ++i) {
    scope_.spawn("waiter", [&, i]() -> Async<> {
      co_await cache->reach(i);
      ++reached;
    });
  }
  poll();
  EXPECT_EQ(reached, 0);
  commit({.put = {{"/a/1", "x"}}});
  EXPECT_EQ(reached, 1);
  commit({.put = {{"/a/1", "y"}}});
  EXPECT_EQ(reached, 2);
  finish(*cache);
}

TEST_F(CacheTest, AfterCompactionItReportsTheDifference) {
  commit({.put = {{"/a/gone", "1"}, {"/a/kept", "1"}, {"/a/changed", "1"}}});
  auto cache = make({"/a/"});
  cache->start();
  poll();
  told_.clear();
  // All of it before the cache runs again, and more than the history holds.
  scope_.spawn("burst", [this]() -> Async<> {
    (void)co_await store_->commit(
        {.put = {{"/a/changed", "2"}, {"/a/new", "1"}}, .remove = {"/a/gone"}});
    for (int i = 0; i < 20; ++i)
      (void)co_await store_->commit({.put = {{"/a/changed", fmt::format("{}", i)}}});
  });
  scope_.spawn("reach", [&]() -> Async<> { co_await cache->reach(22); });
  loop_.restart();
  while (scope_.size() > 0) loop_.run_one();
  EXPECT_EQ(show(*cache), "/a/changed=19 /a/kept=1 /a/new=1 ");
  EXPECT_EQ(told_, "/a/gone gone /a/changed=19 /a/new=1 ");
  finish(*cache);
}

}  // namespace
}  // namespace hob::store
