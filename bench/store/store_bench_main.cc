// Durable commits/s of 16 writers: the store's group commit beside SQLite used directly, one commit
// per transaction.
//
// Both: WAL, synchronous=FULL, one kilobyte put under one of 1,000 keys per transaction, the same
// directory, rounds in turn. SQLite is tried both ways in which people use it from many threads:
// one connection behind a mutex, and a connection for each thread; the faster counts.
//
// usage: store_bench DIRECTORY [ROUNDS] [MILLISECONDS]
#include <sqlite3.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/assert.h"
#include "base/file.h"
#include "store/sqlite_store.h"

namespace {

using SteadyClock = std::chrono::steady_clock;
constexpr int kWriters = 16;
constexpr int kKeys = 1000;
// Never the same twice: SQLite writes nothing for a row that is as it was.
std::string value_of(int64_t commit) { return fmt::format("{:1024}", commit); }

double per_second(int64_t commits, SteadyClock::duration took) {
  return static_cast<double>(commits) / std::chrono::duration<double>(took).count();
}

double run_hob(const std::filesystem::path& directory, SteadyClock::duration length) {
  boost::asio::io_context loop(1);
  auto store = hob::store::open_sqlite(directory / "hob.db", loop.get_executor());
  HOB_ASSERT(store.has_value());
  int64_t begun = 0;
  int64_t commits = 0;
  const auto start = SteadyClock::now();
  hob::AsyncScope scope(loop.get_executor());
  for (int writer = 0; writer < kWriters; ++writer) {
    scope.spawn("writer", [&, writer]() -> hob::Async<> {
      for (int i = writer; SteadyClock::now() - start < length; i += kWriters) {
        const auto done = co_await (*store)->commit(
            {.put = {{fmt::format("/bench/{}", i % kKeys), value_of(++begun)}}});
        HOB_ASSERT(done.has_value());
        ++commits;
      }
    });
  }
  loop.run();
  return per_second(commits, SteadyClock::now() - start);
}

class Connection {
 public:
  explicit Connection(const std::filesystem::path& file) {
    HOB_ASSERT(sqlite3_open(file.c_str(), &database_) == SQLITE_OK);
    sqlite3_busy_timeout(database_, 60'000);
    run("PRAGMA journal_mode=WAL");
    run("PRAGMA synchronous=FULL");
    run("CREATE TABLE IF NOT EXISTS record(key TEXT PRIMARY KEY, value BLOB)");
    prepare("BEGIN IMMEDIATE", &begin_);
    prepare("INSERT INTO record VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value=excluded.value",
            &put_);
    prepare("COMMIT", &commit_);
  }
  ~Connection() {
    for (sqlite3_stmt* statement : {begin_, put_, commit_}) sqlite3_finalize(statement);
    sqlite3_close(database_);
  }
  Connection(const Connection&) = delete;
  void put(const std::string& key, const std::string& value) {
    step(begin_);
    sqlite3_bind_text(put_, 1, key.data(), static_cast<int>(key.size()), SQLITE_STATIC);
    sqlite3_bind_blob(put_, 2, value.data(), static_cast<int>(value.size()), SQLITE_STATIC);
    step(put_);
    step(commit_);
  }

 private:
  void run(const char* sql) {
    HOB_ASSERT(sqlite3_exec(database_, sql, nullptr, nullptr, nullptr) == SQLITE_OK);
  }
  void prepare(const char* sql, sqlite3_stmt** statement) {
    HOB_ASSERT(sqlite3_prepare_v2(database_, sql, -1, statement, nullptr) == SQLITE_OK);
  }
  static void step(sqlite3_stmt* statement) {
    HOB_ASSERT(sqlite3_step(statement) == SQLITE_DONE);
    sqlite3_reset(statement);
  }
  sqlite3* database_ = nullptr;
  sqlite3_stmt* begin_ = nullptr;
  sqlite3_stmt* put_ = nullptr;
  sqlite3_stmt* commit_ = nullptr;
};

enum class Sharing { kOneConnection, kOneEach };

double run_sqlite(const std::filesystem::path& directory, SteadyClock::duration length,
                  Sharing sharing) {
  const std::filesystem::path file = directory / "sqlite.db";
  Connection shared(file);
  std::mutex mutex;
  static std::atomic<int64_t> begun = 0;  // over all rounds, since the file stays
  std::atomic<int64_t> commits = 0;
  const auto start = SteadyClock::now();
  std::vector<std::thread> threads;
  for (int writer = 0; writer < kWriters; ++writer) {
    threads.emplace_back([&, writer] {
      std::unique_ptr<Connection> own;
      if (sharing == Sharing::kOneEach) own = std::make_unique<Connection>(file);
      for (int i = writer; SteadyClock::now() - start < length; i += kWriters) {
        const std::string key = fmt::format("/bench/{}", i % kKeys);
        const std::string value = value_of(begun.fetch_add(1, std::memory_order_relaxed));
        if (own) {
          own->put(key, value);
        } else {
          const std::lock_guard lock(mutex);
          shared.put(key, value);
        }
        commits.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return per_second(commits, SteadyClock::now() - start);
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: store_bench DIRECTORY [ROUNDS] [MILLISECONDS]\n");
    return 2;
  }
  const std::filesystem::path directory = std::filesystem::path(argv[1]) / "store-bench";
  const int rounds = argc > 2 ? std::max(1, std::atoi(argv[2])) : 5;
  const auto length = std::chrono::milliseconds(argc > 3 ? std::max(1, std::atoi(argv[3])) : 1000);
  if (!hob::remove_tree(directory) || !hob::make_directories(directory, 0700)) {
    std::fprintf(stderr, "store_bench: cannot write in %s\n", argv[1]);
    return 1;
  }
  std::vector<double> hob;
  std::vector<double> one;
  std::vector<double> each;
  for (int round = 0; round < rounds; ++round) {
    hob.push_back(run_hob(directory, length));
    one.push_back(run_sqlite(directory, length, Sharing::kOneConnection));
    each.push_back(run_sqlite(directory, length, Sharing::kOneEach));
    std::printf(
        "round %d: hob %.0f, sqlite, one connection %.0f, sqlite, one each %.0f commits/s\n",
        round + 1, hob.back(), one.back(), each.back());
  }
  const double best = std::max(median(one), median(each));
  std::printf("durable commits/s, %d writers: hob %.0f, sqlite %.0f, ratio %.2f (at least 1)\n",
              kWriters, median(hob), best, median(hob) / best);
  (void)hob::remove_tree(directory);
  return 0;
}
