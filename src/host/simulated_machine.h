// For tests of the agent: a machine without containers. It implements every port but time; what a
// container does depends on the name of its image's repository. It outlives agents, as containers
// do.
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/file.h"
#include "host/ports.h"

namespace hob::host::testing {

class SimulatedMachine final : public ImagePort,
                               public NetworkPort,
                               public ProbePort,
                               public sandbox::Sandbox {
 public:
  explicit SimulatedMachine(const Executor& executor, std::filesystem::path directory)
      : executor_(executor),
        directory_(std::move(directory)),
        pull_gate_(executor),
        freeze_gate_(executor) {
    pull_gate_.set();
    freeze_gate_.set();
  }

  // How images behave; all else is healthy at once and ends at SIGTERM.
  std::set<std::string> missing{};        // there is no such image
  int pulls_unavailable = 0;              // so many pulls fail before one succeeds
  std::set<std::string> without_start{};  // no such program in them
  std::set<std::string> exit_at_once{};
  std::set<std::string> deaf{};      // ignore SIGTERM
  std::set<std::string> silent{};    // listen on another port
  std::set<std::string> restless{};  // cannot be frozen

  Event& pull_gate() { return pull_gate_; }
  bool runs(const std::string& task) const {
    const auto found = containers_.find(task);
    return found != containers_.end() && !found->second->exit;
  }
  bool has(const std::string& task) const { return containers_.contains(task); }
  size_t containers() const { return containers_.size(); }
  bool is_frozen(const std::string& task) const { return containers_.at(task)->frozen; }
  int probes(const std::string& task) const {
    return probes_.contains(task) ? probes_.at(task) : 0;
  }
  // Closed: a freeze takes until it is opened.
  Event& freeze_gate() { return freeze_gate_; }
  int thaws_unavailable = 0;  // so many thaws fail before one succeeds
  size_t networks() const { return networks_.size(); }
  int starts(const std::string& task) const {
    return starts_.contains(task) ? starts_.at(task) : 0;
  }
  const std::vector<int>& signals() const { return signals_; }
  void end(const std::string& task, sandbox::TaskExit exit) {
    Container& container = *containers_.at(task);
    container.exit = exit;
    container.ended.set();
  }
  // A container and a network that no agent knows of.
  void plant(const std::string& task) {
    containers_[task] = std::make_unique<Container>(executor_, "web");
    networks_.insert(task);
  }
  void print(const std::string& task, const std::string& text) {
    std::filesystem::create_directories(log_path(task).parent_path());
    std::ofstream file(log_path(task), std::ios::app);
    file << "2026-11-23T22:11:49.123456789+00:00 stdout F " << text << "\n";
  }
  bool has_log(const std::string& task) const { return std::filesystem::exists(log_path(task)); }

  // ImagePort
  Async<Result<image::LocalImage>> pull(image::PullRequest request) override {
    co_await pull_gate_.wait();
    if (missing.contains(request.repository))
      co_return fail(Code::kNotFound, "{}: not found", request.repository);
    if (pulls_unavailable > 0) {
      --pulls_unavailable;
      co_return fail(Code::kUnavailable, "connection refused");
    }
    image::LocalImage image{.digest = "sha256:of-" + request.repository};
    image.config.command = {request.repository};
    co_return image;
  }

  // NetworkPort
  Async<Result<std::filesystem::path>> attach(network::TaskAddress address) override {
    networks_.insert(address.task);
    co_return std::filesystem::path("/netns/" + address.task);
  }
  Async<Result<void>> detach(std::string task) override {
    networks_.erase(task);
    co_return Result<void>{};
  }
  Async<Result<std::vector<std::string>>> attached() override {
    co_return std::vector<std::string>(networks_.begin(), networks_.end());
  }

  // ProbePort: the address is the task's id in these tests.
  Async<Result<void>> probe(link::Probe probe, std::string address) override {
    const auto found = containers_.find(address);
    ++probes_[address];
    if (found == containers_.end() || found->second->exit || found->second->frozen ||
        silent.contains(found->second->image)) {
      co_return fail(Code::kUnavailable, "TCP connect to port {}: Connection refused", probe.port);
    }
    co_return Result<void>{};
  }
  ListeningPorts listening(const std::filesystem::path&) override { return {.reachable = {3000}}; }

  // Sandbox
  Async<Result<void>> open() override { co_return Result<void>{}; }
  Async<Result<void>> start(sandbox::TaskSpec spec) override {
    const std::string image = spec.image.config.command.at(0);
    if (without_start.contains(image)) co_return fail(Code::kInvalid, "exec: no such file");
    if (containers_.contains(spec.task)) co_return fail(Code::kExists, "{} is here", spec.task);
    containers_[spec.task] = std::make_unique<Container>(executor_, image);
    const int number = ++starts_[spec.task];
    print(spec.task, "start " + std::to_string(number));
    if (exit_at_once.contains(image)) end(spec.task, {.exit_code = 3});
    co_return Result<void>{};
  }
  Async<Result<sandbox::TaskExit>> wait(std::string task) override {
    const auto found = containers_.find(task);
    if (found == containers_.end()) co_return fail(Code::kNotFound, "no {}", task);
    const std::shared_ptr<Container> container = found->second;
    co_await container->ended.wait();
    if (!container->exit) co_return fail(Code::kNotFound, "no {}", task);
    co_return *container->exit;
  }
  Async<Result<void>> signal(std::string task, int number) override {
    signals_.push_back(number);
    const auto found = containers_.find(task);
    if (found == containers_.end()) co_return fail(Code::kNotFound, "no {}", task);
    found->second->frozen = false;
    if (number == 9 || !deaf.contains(found->second->image)) end(task, {.exit_code = 128 + number});
    co_return Result<void>{};
  }
  Async<Result<void>> freeze(std::string task) override {
    const auto found = containers_.find(task);
    if (found == containers_.end()) co_return fail(Code::kNotFound, "no {}", task);
    const std::shared_ptr<Container> container = found->second;
    if (restless.contains(container->image))
      co_return fail(Code::kTimeout, "a process did not stand still");
    const int mine = ++container->orders;
    co_await freeze_gate_.wait();
    if (mine != container->orders) co_return fail(Code::kCancelled, "it was thawed");
    container->frozen = true;
    co_return Result<void>{};
  }
  Async<Result<void>> thaw(std::string task) override {
    const auto found = containers_.find(task);
    if (found == containers_.end()) co_return fail(Code::kNotFound, "no {}", task);
    if (thaws_unavailable > 0) {
      --thaws_unavailable;
      co_return fail(Code::kUnavailable, "no memory");
    }
    ++found->second->orders;
    found->second->frozen = false;
    co_return Result<void>{};
  }
  Async<Result<void>> remove(std::string task) override {
    if (const auto found = containers_.find(task); found != containers_.end()) {
      found->second->ended.set();
      containers_.erase(found);
    }
    co_return Result<void>{};
  }
  Async<Result<std::vector<sandbox::AdoptedTask>>> adopt() override {
    std::vector<sandbox::AdoptedTask> tasks;
    for (const auto& [task, container] : containers_)
      tasks.push_back({.task = task, .frozen = container->frozen});
    co_return tasks;
  }
  std::filesystem::path log_path(const std::string& task) const override {
    return directory_ / task / "log";
  }
  Async<Result<void>> remove_log(std::string task) override {
    co_return remove_tree(directory_ / task);
  }

 private:
  struct Container {
    Container(const Executor& executor, std::string which)
        : image(std::move(which)), ended(executor) {}
    std::string image;
    std::optional<sandbox::TaskExit> exit{};
    Event ended;
    bool frozen = false;
    int orders = 0;  // freezes and thaws: a thaw calls off the freeze before it
  };

  Executor executor_;
  std::filesystem::path directory_;
  Event pull_gate_;
  Event freeze_gate_;
  std::map<std::string, std::shared_ptr<Container>> containers_;
  std::set<std::string> networks_;
  std::map<std::string, int> starts_;
  std::map<std::string, int> probes_;
  std::vector<int> signals_;
};

}  // namespace hob::host::testing
