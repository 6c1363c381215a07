// Task start beside bare crun: from "assigned" (attach to the VPC, start by the driver) to "its
// process runs", against `crun run` of the very bundle that the driver made, in the same mounts. No
// pull in either. Root only.
//
//   task_start_bench [rounds]     prints the medians in ms and their ratio; the two take turns.
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/file.h"
#include "base/process.h"
#include "network/vpc.h"
#include "sandbox/sandbox.h"

namespace hob {
namespace {

namespace fs = std::filesystem;
using Milliseconds = std::chrono::duration<double, std::milli>;

constexpr int kRoundsDefault = 30;

void check(const auto& result, const char* doing) {
  if (result) return;
  std::fprintf(stderr, "%s: %s\n", doing, result.error().message.c_str());
  std::exit(1);
}

double timed(const auto& work) {
  const auto from = std::chrono::steady_clock::now();
  work();
  return Milliseconds(std::chrono::steady_clock::now() - from).count();
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

class Bench {
 public:
  Bench() : pool_(2) {
    char name[] = "/tmp/hob-task-start-XXXXXX";
    directory_ = ::mkdtemp(name);
    const std::string instance = fmt::format("{:05x}b", ::getpid() & 0xfffff);
    vpc_.emplace(network::VpcOptions{.instance = instance, .run_directory = directory_ / "run"});
    check(vpc_->set_up(), "setting up the VPC");
    sandbox_ = sandbox::make_container_sandbox(
        {.directory = directory_ / "data", .instance = instance}, loop_.get_executor(), pool_);
    check(run(sandbox_->open()), "opening the driver");
    const fs::path layer = directory_ / "layer/bin";
    fs::create_directories(layer);
    fs::copy("/bin/busybox", layer / "busybox");
  }
  ~Bench() {
    pool_.join();
    check(vpc_->tear_down(), "tearing down the VPC");
    check(remove_tree(directory_), "removing the directory");
  }

  sandbox::TaskSpec spec(int number) const {
    sandbox::TaskSpec made;
    made.task = fmt::format("{:08x}{:024x}", number, ::getpid());
    made.address = fmt::format("198.18.1.{}", number % 250 + 1);
    made.image.layers = {directory_ / "layer"};
    made.command = {"/bin/busybox", "sleep", "1000"};
    return made;
  }
  void attach(sandbox::TaskSpec& task) {
    auto attached =
        vpc_->attach({.task = task.task, .address = task.address, .gateway = "198.18.0.1"});
    check(attached, "attaching");
    task.network_namespace = *attached;
  }
  void start(const sandbox::TaskSpec& task) { check(run(sandbox_->start(task)), "starting"); }
  void remove(const sandbox::TaskSpec& task) {
    check(run(sandbox_->remove(task.task)), "removing");
    check(vpc_->detach(task.task), "detaching");
  }
  // crun run of the running task's bundle, under another name and cgroup, from inside its monitor's
  // mounts.
  double bare(const sandbox::TaskSpec& task) {
    double took = 0;
    const fs::path bundle = directory_ / "data/tasks" / task.task;
    const fs::path copy = directory_ / "bare";
    fs::create_directories(copy);
    std::string config = *read_file(bundle / "config.json", 1 << 20);
    const std::string cgroup = "/" + task.task + "\"";
    config.replace(config.find(cgroup), cgroup.size(), "/bare\"");
    check(write_file_durably(copy / "config.json", config, 0600), "writing a bundle");
    const std::string monitor = *read_file(bundle / "monitor.pid", 64);
    std::thread([&] {
      const Fd mounts(::open(("/proc/" + monitor + "/ns/mnt").c_str(), O_RDONLY | O_CLOEXEC));
      if (::unshare(CLONE_FS) != 0 || ::setns(mounts.get(), CLONE_NEWNS) != 0) std::exit(1);
      const std::string state = (directory_ / "bare-state").string();
      const auto crun = [&](std::vector<std::string> words) {
        words.insert(words.begin(), {"crun", "--root", state, "--cgroup-manager=cgroupfs"});
        const auto exit = run_blocking({.argv = words}, std::chrono::seconds(20));
        check(exit, "crun");
        if (exit->status != 0)
          check(Result<void>(fail(Code::kUnavailable, "{}", exit->errors)), "crun");
      };
      took = timed([&] { crun({"run", "--detach", "--bundle", copy, "bare"}); });
      crun({"delete", "--force", "bare"});
    }).join();
    return took;
  }

 private:
  template <class T>
  T run(Async<T> work) {
    std::optional<T> result;
    boost::asio::co_spawn(loop_, std::move(work), [&](std::exception_ptr failed, T value) {
      if (failed) std::rethrow_exception(failed);
      result = std::move(value);
    });
    loop_.restart();
    loop_.run();
    return std::move(*result);
  }

  boost::asio::io_context loop_;
  BlockingPool pool_;
  fs::path directory_;
  std::optional<network::Vpc> vpc_;
  std::unique_ptr<sandbox::Sandbox> sandbox_;
};

void measure(int rounds) {
  Bench bench;
  std::vector<double> attach;
  std::vector<double> start;
  std::vector<double> both;
  std::vector<double> bare;
  for (int round = 0; round <= rounds; ++round) {
    sandbox::TaskSpec task = bench.spec(round);
    const double attached = timed([&] { bench.attach(task); });
    const double started = timed([&] { bench.start(task); });
    const double alone = bench.bare(task);
    bench.remove(task);
    if (round == 0) continue;  // warms both
    attach.push_back(attached);
    start.push_back(started);
    both.push_back(attached + started);
    bare.push_back(alone);
  }
  std::printf(
      "task start, median of %d: attach %.1f ms, start %.1f ms, both %.1f ms; bare crun run %.1f "
      "ms; ratio %.2f\n",
      rounds, median(attach), median(start), median(both), median(bare),
      median(both) / median(bare));
}

}  // namespace
}  // namespace hob

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : hob::kRoundsDefault;
  hob::measure(std::max(1, rounds));
}
