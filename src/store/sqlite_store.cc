#include "store/sqlite_store.h"

#include <boost/asio/post.hpp>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/log.h"
#include "store/image.h"
#include "store/sqlite_file.h"

namespace hob::store {

namespace {

// What the writer thread is given, and gives back with `result`.
struct Batch {
  std::vector<Write> writes{};
  Revision revision = 0;
  Result<void> result{};
};

// The thread that waits for the disk: one batch at a time, in order.
class Writer {
 public:
  using Done = std::function<void(Batch)>;
  // `done` is called on the writer's thread.
  Writer(SqliteFile file, Done done)
      : file_(std::move(file)), done_(std::move(done)), thread_([this] { run(); }) {}
  // Finishes the batch it has.
  ~Writer() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }
  void give(Batch batch) {
    {
      const std::lock_guard lock(mutex_);
      HOB_ASSERT(!batch_.has_value());
      batch_ = std::move(batch);
    }
    wake_.notify_one();
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return stopping_ || batch_.has_value(); });
      if (!batch_.has_value()) return;
      Batch batch = std::move(*batch_);
      batch_.reset();
      lock.unlock();
      batch.result = file_.write(batch.writes, batch.revision);
      done_(std::move(batch));
      lock.lock();
    }
  }

  SqliteFile file_;
  Done done_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::optional<Batch> batch_;
  bool stopping_ = false;
  std::thread thread_;
};

class SqliteStore final : public Store {
 public:
  SqliteStore(SqliteFile file, SqliteFile::Content content, Executor executor,
              const SqliteOptions& options)
      : executor_(std::move(executor)), image_(executor_, options.history_changes_max) {
    image_.load(std::move(content.records), content.revision);
    writer_.emplace(std::move(file), [this, alive = std::weak_ptr<void>(alive_)](Batch batch) {
      boost::asio::post(executor_, [this, alive, batch = std::move(batch)]() mutable {
        if (!alive.expired()) finish(std::move(batch));
      });
    });
  }
  ~SqliteStore() override {
    writer_.reset();
    HOB_ASSERT(alive_.use_count() == 1);
  }

  Async<Result<std::optional<Entry>>> get(std::string key) override { co_return image_.get(key); }

  Async<Result<Listing>> list(std::string prefix) override { co_return image_.list(prefix); }

  Async<Result<Revision>> commit(Transaction transaction) override {
    HOB_CO_CHECK(check_limits(transaction));
    if (pending_.size() >= kPendingTransactionsMax) {
      co_return fail(Code::kLimit, "{} writes wait for the disk already", pending_.size());
    }
    const auto waiting = std::make_shared<Waiting>(executor_, std::move(transaction));
    pending_.push_back(waiting);
    schedule();
    while (!waiting->answer) co_await waiting->answered.wait();
    co_return std::move(*waiting->answer);
  }

  std::unique_ptr<Watch> watch(std::string prefix, Revision from) override {
    return image_.watch(std::move(prefix), from);
  }

 private:
  struct Waiting {
    Waiting(const Executor& executor, Transaction t)
        : transaction(std::move(t)), answered(executor) {}
    Transaction transaction;
    Result<Revision> planned{};  // what it gets once its batch is durable
    std::optional<Result<Revision>> answer{};
    Event answered;
  };
  using WaitingPtr = std::shared_ptr<Waiting>;

  // Not at once, but behind what is ready to run on this loop: writers that the last commit woke
  // get into this one.
  void schedule() {
    if (scheduled_ || !writing_.empty() || pending_.empty()) return;
    scheduled_ = true;
    boost::asio::post(executor_, [this, alive = std::weak_ptr<void>(alive_)] {
      if (!alive.expired()) start();
    });
  }

  void start() {
    scheduled_ = false;
    HOB_ASSERT(writing_.empty());
    Plan plan(image_);
    while (!pending_.empty() && writing_.size() < kBatchTransactionsMax &&
           plan.bytes() < kBatchBytesMax) {
      const WaitingPtr waiting = std::move(pending_.front());
      pending_.pop_front();
      waiting->planned = plan.add(std::move(waiting->transaction));
      writing_.push_back(waiting);
    }
    // Whoever lost against another of this batch, or only looked, waits for it, too: what it read
    // is then so.
    Batch batch{.writes = plan.writes(), .revision = plan.revision()};
    if (batch.writes.empty()) return finish(std::move(batch));
    writer_->give(std::move(batch));
  }

  void finish(Batch batch) {
    if (batch.result)
      image_.apply(std::move(batch.writes));
    else
      log::error("store commit failed", {{"error", batch.result.error().message}});
    for (const WaitingPtr& waiting : std::exchange(writing_, {})) {
      if (batch.result)
        waiting->answer = std::move(waiting->planned);
      else
        waiting->answer = fail(batch.result.error());
      waiting->answered.set();
    }
    schedule();
  }

  Executor executor_;
  Image image_;
  std::shared_ptr<void> alive_ =
      std::make_shared<int>(0);  // what was posted for a store that is gone does nothing
  std::deque<WaitingPtr> pending_;
  std::vector<WaitingPtr> writing_;
  bool scheduled_ = false;
  std::optional<Writer> writer_;
};

}  // namespace

Result<std::unique_ptr<Store>> open_sqlite(std::filesystem::path path, Executor executor,
                                           SqliteOptions options) {
  HOB_TRY(SqliteFile file, SqliteFile::open(path));
  HOB_TRY(SqliteFile::Content content, file.load());
  return std::make_unique<SqliteStore>(std::move(file), std::move(content), std::move(executor),
                                       options);
}

}  // namespace hob::store
