#include "sandbox/monitored_sandbox.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <cerrno>
#include <map>

#include "base/assert.h"
#include "base/log.h"

namespace hob::sandbox {

namespace {

namespace asio = boost::asio;

// Something to wait for on the loop: the task's monitor, and its log.
struct Watch {
  Fd monitor{};  // none: the task has ended
  Fd log{};
  Fd both{};  // epoll of the two
};

Result<Watch> make_watch(const TaskFiles& files, const std::string& task) {
  Watch watch;
  HOB_TRY(watch.monitor, files.open_monitor(task));
  if (!watch.monitor) return watch;
  HOB_TRY(watch.log, files.log(task).watch());
  watch.both = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!watch.both) return fail_errno(errno, "epoll_create1");
  for (const Fd* fd : {&watch.monitor, &watch.log}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd->get();
    if (::epoll_ctl(watch.both.get(), EPOLL_CTL_ADD, fd->get(), &event) != 0)
      return fail_errno(errno, "epoll_ctl");
  }
  files.log(task).rotate();  // what changed before we watched
  return watch;
}

// True: the monitor has ended.
bool look(const Watch& watch) {
  char events[4096];
  while (::read(watch.log.get(), events, sizeof(events)) > 0) {
  }
  epoll_event ready[2];
  const int count = ::epoll_wait(watch.both.get(), ready, 2, 0);
  for (int i = 0; i < count; ++i) {
    if (ready[i].data.fd == watch.monitor.get()) return true;
  }
  return false;
}

class MonitoredSandbox final : public Sandbox {
 public:
  MonitoredSandbox(std::filesystem::path directory, OpenTaskFiles open_files, Executor executor,
                   BlockingPool& pool)
      : directory_(std::move(directory)),
        open_files_(std::move(open_files)),
        executor_(std::move(executor)),
        pool_(pool) {}

  Async<Result<void>> open() override {
    HOB_ASSERT(files_ == nullptr);
    HOB_CO_TRY(files_, co_await on_pool(pool_, open_files_));
    for (std::string& task : files_->tasks()) tasks_.emplace(std::move(task), nullptr);
    co_return Result<void>{};
  }

  Async<Result<void>> start(TaskSpec spec) override {
    const std::string task = spec.task;
    if (!tasks_.emplace(task, nullptr).second)
      co_return fail(Code::kExists, "task {} is here already", task);
    auto started = co_await on_pool(
        pool_, [files = files_, spec = std::move(spec)] { return files->start(spec); });
    if (!started) tasks_.erase(task);
    co_return started;
  }

  Async<Result<TaskExit>> wait(std::string task) override {
    HOB_CO_TRY(const Watch watch, co_await on_pool(pool_, [files = files_, task] {
                 return make_watch(*files, task);
               }));
    if (watch.monitor) {
      asio::posix::stream_descriptor changed(executor_, ::dup(watch.both.get()));
      while (!look(watch)) {
        boost::system::error_code error;
        co_await changed.async_wait(asio::posix::stream_descriptor::wait_read,
                                    asio::redirect_error(asio::use_awaitable, error));
        co_await throw_if_cancelled();
        if (error)
          co_return fail(Code::kUnavailable, "waiting for task {}: {}", task, error.message());
        files_->log(task).rotate();
      }
    }
    co_return co_await on_pool(pool_, [files = files_, task] { return files->exit_of(task); });
  }

  Async<Result<void>> freeze(std::string task) override {
    HOB_CO_TRY(const std::shared_ptr<Freezer> freezer, freezer_of(task));
    freezer->ask_freeze();
    Result<void> frozen = co_await on_pool(pool_, [freezer] { return freezer->freeze(); });
    if (!frozen && frozen.error().code == Code::kNotFound) co_return Result<void>{};  // it ended
    co_return frozen;
  }

  // On the loop: the pool may be busy with images, and somebody's request waits.
  Async<Result<void>> thaw(std::string task) override {
    HOB_CO_TRY(const std::shared_ptr<Freezer> freezer, freezer_of(task));
    co_return freezer->thaw();
  }

  Async<> catch_up(std::string task) override {
    co_await on_pool(pool_, [files = files_, task] { files->catch_up(task); });
  }

  // Awake first: a microVM that stands still hears nothing.
  Async<Result<void>> signal(std::string task, int number) override {
    // Where nothing can be frozen nothing is.
    if (const auto freezer = freezer_of(task)) HOB_CO_CHECK((*freezer)->thaw());
    co_return co_await on_pool(
        pool_, [files = files_, task, number] { return files->signal(task, number); });
  }

  Async<Result<void>> remove(std::string task) override {
    // Calls off a freeze that is under way: it would hold up the end.
    if (const auto freezer = freezer_of(task)) {
      if (const Result<void> thawed = (*freezer)->thaw(); !thawed)
        log::warn("a task is not thawed", {{"task", task}, {"error", thawed.error().message}});
    }
    auto removed = co_await on_pool(pool_, [files = files_, task] { return files->remove(task); });
    if (removed) tasks_.erase(task);
    co_return removed;
  }

  Async<Result<std::vector<AdoptedTask>>> adopt() override {
    std::vector<std::string> found =
        co_await on_pool(pool_, [files = files_] { return files->tasks(); });
    std::vector<AdoptedTask> adopted;
    for (std::string& task : found) {
      const bool frozen = co_await settle(task);
      adopted.push_back({.task = std::move(task), .frozen = frozen});
    }
    co_return adopted;
  }

  std::filesystem::path log_path(const std::string& task) const override {
    return TaskLog(directory_ / "logs" / task).path();
  }

  Async<Result<void>> remove_log(std::string task) override {
    if (!is_task_id(task)) co_return fail(Code::kInvalid, "'{}' is no task id", task);
    co_return co_await on_pool(pool_,
                               [path = log_path(task).parent_path()] { return remove_tree(path); });
  }

 private:
  // Made when it is first needed, and the same until the task is removed: a thaw must know of the
  // freeze it calls off.
  Result<std::shared_ptr<Freezer>> freezer_of(const std::string& task) {
    const auto found = tasks_.find(task);
    if (found == tasks_.end()) return fail(Code::kNotFound, "there is no task {}", task);
    if (!found->second) {
      HOB_TRY(found->second, files_->freezer(task));
    }
    return found->second;
  }

  // Whether a task found is frozen.
  Async<bool> settle(const std::string& task) {
    const auto freezer = freezer_of(task);
    if (!freezer) co_return false;
    const auto state = co_await on_pool(pool_, [freezer = *freezer] { return freezer->state(); });
    if (!state || *state == Freezer::State::kThawed) co_return false;
    const Result<void> whole = co_await freeze(task);
    if (!whole) {
      log::warn("a task found half frozen is awake again",
                {{"task", task}, {"error", whole.error().message}});
    }
    co_return whole.has_value();
  }

  const std::filesystem::path directory_;
  const OpenTaskFiles open_files_;
  Executor executor_;
  BlockingPool& pool_;
  std::shared_ptr<TaskFiles> files_;  // shared with what is on the pool
  // Those here or being started, each with its freezer; nullptr: not needed yet.
  std::map<std::string, std::shared_ptr<Freezer>> tasks_;
};

}  // namespace

std::unique_ptr<Sandbox> make_monitored_sandbox(std::filesystem::path directory,
                                                OpenTaskFiles open_files, const Executor& executor,
                                                BlockingPool& pool) {
  return std::make_unique<MonitoredSandbox>(std::move(directory), std::move(open_files), executor,
                                            pool);
}

}  // namespace hob::sandbox
