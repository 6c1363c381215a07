// What every store must do, as tests. A store's own test file says how to make one and
// instantiates:
//
//   struct Sqlite { Result<std::unique_ptr<Store>> open(const Executor&); static constexpr bool
//   kDurable = true; … }; INSTANTIATE_TYPED_TEST_SUITE_P(Sqlite, StoreSuite, Sqlite);
//   INSTANTIATE_TYPED_TEST_SUITE_P(Sqlite, DurableStoreSuite, Sqlite);
//
// A Maker is made once a test; open() again after the store is destroyed opens the same data
// (kDurable), with at most kHistory changes held for watches.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/async.h"
#include "base/file.h"
#include "store/store.h"

namespace hob::store {

inline constexpr size_t kSuiteHistory = 200;

// A loop, a store on it, and a way to run a coroutine to its end.
template <class Maker>
class StoreSuite : public testing::Test {
 protected:
  StoreSuite() { open(); }
  ~StoreSuite() override { store_.reset(); }

  void open() {
    store_.reset();
    Result<std::unique_ptr<Store>> opened = maker_.open(loop_.get_executor());
    ASSERT_TRUE(opened) << opened.error().message;
    store_ = std::move(*opened);
  }
  Store& store() { return *store_; }
  Executor executor() { return loop_.get_executor(); }
  void run_loop() {
    loop_.restart();
    loop_.run();
  }
  template <class T>
  T run(Async<T> work) {
    std::optional<T> out;
    AsyncScope scope(executor());
    scope.spawn("test", keep(std::move(work), out));
    run_loop();
    return std::move(*out);
  }
  Revision put(std::string key, std::string value) {
    Result<Revision> done = run(store().commit({.put = {{std::move(key), std::move(value)}}}));
    EXPECT_TRUE(done) << done.error().message;
    return done.value_or(-1);
  }
  // "k=v@revision …"
  std::string show(const std::string& prefix) {
    Result<Listing> listing = run(store().list(prefix));
    std::string text;
    for (const Entry& entry : listing->entries) {
      text += fmt::format("{}{}={}@{}", text.empty() ? "" : " ", entry.key, entry.value,
                          entry.revision);
    }
    return text;
  }
  static std::string show(const Result<std::vector<Change>>& changes) {
    if (!changes) return word(changes.error().code);
    std::string text;
    for (const Change& change : *changes) {
      text += fmt::format("{}{}{}@{}", text.empty() ? "" : " ", change.key,
                          change.value ? "=" + *change.value : " gone", change.revision);
    }
    return text;
  }

  Maker maker_;
  boost::asio::io_context loop_;
  std::unique_ptr<Store> store_;

 private:
  template <class T>
  static Async<> keep(Async<T> work, std::optional<T>& out) {
    out.emplace(co_await std::move(work));
  }
};

TYPED_TEST_SUITE_P(StoreSuite);

TYPED_TEST_P(StoreSuite, PutsGetsRemovesAndCounts) {
  EXPECT_FALSE(this->run(this->store().get("/a"))->has_value());
  EXPECT_EQ(this->put("/a", "1"), 1);
  EXPECT_EQ(this->put("/b", ""), 2);
  EXPECT_EQ(this->put("/a", "2"), 3);
  const auto entry = *this->run(this->store().get("/a"));
  EXPECT_EQ(entry->value, "2");
  EXPECT_EQ(entry->revision, 3);
  EXPECT_EQ(*this->run(this->store().commit({.put = {{"/c", "3"}}, .remove = {"/a", "/missing"}})),
            4);
  EXPECT_EQ(this->show("/"), "/b=@2 /c=3@4");
  // Nothing changes, so nothing is counted.
  EXPECT_EQ(*this->run(this->store().commit({.remove = {"/a"}})), 4);
  EXPECT_EQ(*this->run(this->store().commit({})), 4);
}

TYPED_TEST_P(StoreSuite, ListsByPrefixInOrderAtOneRevision) {
  for (const char* key : {"/a/2", "/a/10", "/a", "/ab/1", "/b/1", "/a/1"}) this->put(key, "x");
  EXPECT_EQ(this->show("/a/"), "/a/1=x@6 /a/10=x@2 /a/2=x@1");
  EXPECT_EQ(this->show("/a"), "/a=x@3 /a/1=x@6 /a/10=x@2 /a/2=x@1 /ab/1=x@4");
  EXPECT_EQ(this->show("/c"), "");
  EXPECT_EQ(this->run(this->store().list("/c"))->revision, 6);
}

TYPED_TEST_P(StoreSuite, ExpectationsHoldOrNothingIsWritten) {
  const Revision a = this->put("/a", "1");
  struct Case {
    const char* name;
    std::map<std::string, Revision> expect;
    bool want;
  };
  for (const Case& c : {
           Case{"a key that must not exist and does", {{"/a", kAbsent}}, false},
           Case{"a key that must exist and does not", {{"/x", a}}, false},
           Case{"an older revision", {{"/a", a - 1}}, false},
           Case{"a newer revision", {{"/a", a + 1}}, false},
           Case{"one of two fails", {{"/a", a}, {"/x", 7}}, false},
           Case{"both hold", {{"/a", a}, {"/x", kAbsent}}, true},
       }) {
    const auto done =
        this->run(this->store().commit({.expect = c.expect, .put = {{"/y", c.name}}}));
    EXPECT_EQ(done.has_value(), c.want) << c.name;
    if (!done) {
      EXPECT_EQ(done.error().code, Code::kConflict) << c.name;
      EXPECT_FALSE(this->run(this->store().get("/y"))->has_value()) << c.name;
    }
  }
  EXPECT_EQ(this->run(this->store().get("/y"))->value().value, "both hold");
}

TYPED_TEST_P(StoreSuite, OfWritersWithOneExpectationOneWins) {
  int won = 0;
  int lost = 0;
  AsyncScope scope(this->executor());
  for (int i = 0; i < 50; ++i) {
    scope.spawn("writer", [this, i, &won, &lost]() -> Async<> {
      const auto done = co_await this->store().commit(
          {.expect = {{"/lock", kAbsent}}, .put = {{"/lock", fmt::format("{}", i)}}});
      if (done)
        ++won;
      else if (done.error().code == Code::kConflict)
        ++lost;
    });
  }
  this->run_loop();
  EXPECT_EQ(won, 1);
  EXPECT_EQ(lost, 49);
}

TYPED_TEST_P(StoreSuite, CountersUnderConflictLoseNoIncrement) {
  AsyncScope scope(this->executor());
  for (int i = 0; i < 16; ++i) {
    scope.spawn("writer", [this]() -> Async<> {
      for (int done = 0; done < 20;) {
        const auto now = co_await this->store().get("/n");
        const int value = *now ? std::stoi((*now)->value) : 0;
        const Revision revision = *now ? (*now)->revision : kAbsent;
        const auto wrote = co_await this->store().commit(
            {.expect = {{"/n", revision}}, .put = {{"/n", fmt::format("{}", value + 1)}}});
        if (wrote) ++done;
      }
    });
  }
  this->run_loop();
  EXPECT_EQ(this->run(this->store().get("/n"))->value().value, "320");
}

TYPED_TEST_P(StoreSuite, LimitsAreKept) {
  std::map<std::string, std::string> many;
  for (size_t i = 0; i < kTransactionKeysMax; ++i) many[fmt::format("/k{}", i)] = "";
  std::map<std::string, std::string> too_many = many;
  too_many["/one-more"] = "";
  struct Case {
    const char* name;
    Transaction transaction;
    const char* want;
  };
  for (const Case& c : {
           Case{"an empty key", {.put = {{"", "x"}}}, "invalid"},
           Case{"a key that is no path", {.put = {{"a", "x"}}}, "invalid"},
           Case{"put and removed", {.put = {{"/a", "x"}}, .remove = {"/a"}}, "invalid"},
           Case{
               "the longest key", {.put = {{"/" + std::string(kKeyBytesMax - 1, 'k'), "x"}}}, "ok"},
           Case{"a longer key", {.put = {{"/" + std::string(kKeyBytesMax, 'k'), "x"}}}, "limit"},
           Case{"the longest value", {.put = {{"/v", std::string(kValueBytesMax, 'v')}}}, "ok"},
           Case{"a longer value", {.put = {{"/v", std::string(kValueBytesMax + 1, 'v')}}}, "limit"},
           Case{"the most keys", {.put = many}, "ok"},
           Case{"more keys", {.put = too_many}, "limit"},
       }) {
    const auto done = this->run(this->store().commit(c.transaction));
    EXPECT_STREQ(done ? "ok" : word(done.error().code), c.want) << c.name;
  }
}

TYPED_TEST_P(StoreSuite, ValuesAreBytes) {
  const std::string bytes("\0\xff'\"\n\x80", 6);
  this->put("/bytes", bytes);
  this->put("/bytes'\x01", "quoted");
  if (TypeParam::kDurable) this->open();
  EXPECT_EQ(this->run(this->store().get("/bytes"))->value().value, bytes);
  EXPECT_EQ(this->run(this->store().get("/bytes'\x01"))->value().value, "quoted");
}

TYPED_TEST_P(StoreSuite, AWatchSeesItsPrefixInOrder) {
  const Revision from = this->put("/a/0", "before");
  auto watch = this->store().watch("/a/", from);
  this->put("/a/1", "x");
  this->put("/b/1", "not ours");
  (void)this->run(this->store().commit({.put = {{"/a/2", "y"}}, .remove = {"/a/0"}}));
  EXPECT_EQ(this->show(this->run(watch->next())), "/a/1=x@2 /a/2=y@4 /a/0 gone@4");
  auto from_now = this->store().watch("/a/", 4);
  this->put("/a/1", "z");
  EXPECT_EQ(this->show(this->run(watch->next())), "/a/1=z@5");
  EXPECT_EQ(this->show(this->run(from_now->next())), "/a/1=z@5");
}

TYPED_TEST_P(StoreSuite, AWatchTooFarBehindIsTold) {
  const Revision from = this->put("/a", "0");
  auto watch = this->store().watch("/", from);
  for (size_t i = 0; i < kSuiteHistory; ++i) this->put("/a", "x");
  EXPECT_EQ(this->run(watch->next())->size(), kSuiteHistory);
  for (size_t i = 0; i <= kSuiteHistory; ++i) this->put("/a", "x");
  EXPECT_EQ(this->show(this->run(watch->next())), "conflict");
  EXPECT_EQ(this->show(this->run(watch->next())), "conflict");
}

TYPED_TEST_P(StoreSuite, ACancelledWatchLosesNothing) {
  auto watch = this->store().watch("/", 0);
  {
    AsyncScope scope(this->executor());
    scope.spawn("watcher", [&watch]() -> Async<> { (void)co_await watch->next(); });
    this->loop_.restart();
    this->loop_.poll();
    boost::asio::post(this->loop_, [&scope] { scope.cancel(); });
    this->run_loop();
  }
  this->put("/a", "1");
  EXPECT_EQ(this->show(this->run(watch->next())), "/a=1@1");
}

TYPED_TEST_P(StoreSuite, ACancelledCommitIsWholeOrNot) {
  AsyncScope scope(this->executor());
  for (int i = 0; i < 20; ++i) {
    scope.spawn("writer", [this, i]() -> Async<> {
      (void)co_await this->store().commit(
          {.put = {{fmt::format("/{}/a", i), "1"}, {fmt::format("/{}/b", i), "1"}}});
    });
  }
  this->loop_.restart();
  this->loop_.poll_one();
  boost::asio::post(this->loop_, [&scope] { scope.cancel(); });
  this->run_loop();
  this->put("/end", "1");
  for (int i = 0; i < 20; ++i) {
    const size_t there = this->run(this->store().list(fmt::format("/{}/", i)))->entries.size();
    EXPECT_TRUE(there == 0 || there == 2) << i << ": " << there;
  }
}

TYPED_TEST_P(StoreSuite, WatchersUnderConcurrencyMissNothing) {
  constexpr int kWriters = 8;
  constexpr int kEach = 20;  // less than the history, in all
  std::vector<std::map<std::string, int>> seen(4);
  std::vector<std::unique_ptr<Watch>> watches;
  for (size_t w = 0; w < seen.size(); ++w) watches.push_back(this->store().watch("/w/", 0));
  AsyncScope scope(this->executor());
  for (int writer = 0; writer < kWriters; ++writer) {
    scope.spawn("writer", [this, writer]() -> Async<> {
      for (int i = 1; i <= kEach; ++i) {
        (void)co_await this->store().commit(
            {.put = {{fmt::format("/w/{}", writer), fmt::format("{}", i)}}});
      }
    });
  }
  for (size_t w = 0; w < seen.size(); ++w) {
    scope.spawn("watcher", [&watch = *watches[w], &mine = seen[w]]() -> Async<> {
      Revision last = 0;
      for (int count = 0; count < kWriters * kEach;) {
        const auto changes = co_await watch.next();
        if (!changes) {
          ADD_FAILURE() << changes.error().message;
          co_return;
        }
        for (const Change& change : *changes) {
          EXPECT_GT(change.revision, last);  // each commit here changes one key
          last = change.revision;
          EXPECT_EQ(std::stoi(*change.value), ++mine[change.key]) << change.key;
          ++count;
        }
      }
    });
  }
  this->run_loop();
  for (const auto& mine : seen) EXPECT_EQ(mine.size(), static_cast<size_t>(kWriters));
}

// What a durable store must do besides.
template <class Maker>
class DurableStoreSuite : public StoreSuite<Maker> {};
TYPED_TEST_SUITE_P(DurableStoreSuite);

TYPED_TEST_P(DurableStoreSuite, IsThereAfterReopening) {
  this->put("/a", "1");
  this->put("/b", "2");
  (void)this->run(this->store().commit({.remove = {"/b"}}));
  this->open();
  EXPECT_EQ(this->show("/"), "/a=1@1");
  EXPECT_EQ(this->run(this->store().list("/"))->revision, 3);
  // What happened before it was opened cannot be watched; what happens from there on can.
  EXPECT_EQ(this->show(this->run(this->store().watch("/", 2)->next())), "conflict");
  auto watch = this->store().watch("/", 3);
  EXPECT_EQ(this->put("/a", "3"), 4);
  EXPECT_EQ(this->show(this->run(watch->next())), "/a=3@4");
}

// A child commits pairs of keys from several writers and prints each acknowledgement; it is killed
// at a random moment. Whatever it acknowledged must be there, and never one key of a pair without
// the other.
TYPED_TEST_P(DurableStoreSuite, AcknowledgedIsThereAfterKill) {
  this->store_.reset();
  std::mt19937 random(20261123);
  std::map<int, int> acknowledged;  // writer -> the last number it was told of
  for (int round = 0; round < 12; ++round) {
    int fds[2];
    ASSERT_EQ(pipe(fds), 0);
    Fd read_end(fds[0]);
    Fd write_end(fds[1]);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      boost::asio::io_context loop;
      Result<std::unique_ptr<Store>> opened = this->maker_.open(loop.get_executor());
      if (!opened) _exit(1);
      AsyncScope scope(loop.get_executor());
      for (int writer = 0; writer < 8; ++writer) {
        const int first = acknowledged[writer] + 1;
        scope.spawn("writer",
                    [&store = **opened, writer, first, out = write_end.get()]() -> Async<> {
                      for (int i = first;; ++i) {
                        const std::string value = fmt::format("{}", i);
                        const auto done =
                            co_await store.commit({.put = {{fmt::format("/{}/x", writer), value},
                                                           {fmt::format("/{}/y", writer), value}}});
                        if (!done) _exit(2);
                        const int record[2] = {writer, i};
                        if (write(out, record, sizeof record) != sizeof record) _exit(3);
                      }
                    });
      }
      loop.run();
      _exit(4);
    }
    write_end.reset();
    // Killed after a random number of acknowledgements: no clock, so a slow machine tests the same.
    int left = static_cast<int>(random() % 200) + 1;
    int record[2];
    while (left-- > 0 && read(read_end.get(), record, sizeof record) == sizeof record)
      acknowledged[record[0]] = record[1];
    kill(child, SIGKILL);
    while (read(read_end.get(), record, sizeof record) == sizeof record)
      acknowledged[record[0]] = record[1];
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself: " << status;

    this->open();
    for (int writer = 0; writer < 8; ++writer) {
      const auto x = *this->run(this->store().get(fmt::format("/{}/x", writer)));
      const auto y = *this->run(this->store().get(fmt::format("/{}/y", writer)));
      ASSERT_EQ(x.has_value(), y.has_value());
      if (!x) {
        EXPECT_EQ(acknowledged[writer], 0);
        continue;
      }
      EXPECT_EQ(x->value, y->value) << "half a transaction";
      EXPECT_EQ(x->revision, y->revision);
      // The one after the last acknowledged may have been on its way.
      const int value = std::stoi(x->value);
      EXPECT_TRUE(value == acknowledged[writer] || value == acknowledged[writer] + 1)
          << "writer " << writer << ": acknowledged " << acknowledged[writer] << ", found "
          << value;
      acknowledged[writer] = value;
    }
    this->store_.reset();
  }
}

REGISTER_TYPED_TEST_SUITE_P(StoreSuite, PutsGetsRemovesAndCounts, ListsByPrefixInOrderAtOneRevision,
                            ExpectationsHoldOrNothingIsWritten, OfWritersWithOneExpectationOneWins,
                            CountersUnderConflictLoseNoIncrement, LimitsAreKept, ValuesAreBytes,
                            AWatchSeesItsPrefixInOrder, AWatchTooFarBehindIsTold,
                            ACancelledWatchLosesNothing, ACancelledCommitIsWholeOrNot,
                            WatchersUnderConcurrencyMissNothing);
REGISTER_TYPED_TEST_SUITE_P(DurableStoreSuite, IsThereAfterReopening, AcknowledgedIsThereAfterKill);

}  // namespace hob::store
