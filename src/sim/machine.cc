#include "sim/machine.h"

#include <array>
#include <utility>
#include <vector>

#include "sim/virtual_time.h"

namespace hob::sim {

namespace {

constexpr std::array<std::pair<Behaviour, const char*>, 6> kRepositories{{
    {Behaviour::kGood, "good"},
    {Behaviour::kExits, "exits"},
    {Behaviour::kMute, "mute"},
    {Behaviour::kMissing, "missing"},
    {Behaviour::kSlow, "slow"},
    {Behaviour::kDeaf, "deaf"},
}};
constexpr int kFreezeMsMax = 3;
constexpr int kStopMsMax = 2'000;
constexpr int kSlowStartMsMax = 30'000;

}  // namespace

Behaviour behaviour_of(const std::string& repository) {
  for (const auto& [behaviour, name] : kRepositories) {
    if (repository == name) return behaviour;
  }
  return Behaviour::kGood;
}

std::string repository_of(Behaviour behaviour) {
  for (const auto& [each, name] : kRepositories) {
    if (each == behaviour) return name;
  }
  return "good";
}

std::shared_ptr<Machine::Container> Machine::find(const std::string& task) const {
  const auto found = containers_.find(task);
  return found == containers_.end() ? nullptr : found->second;
}

Async<> Machine::take_ms(int max) {
  if (max > 0) co_await sleep_for(Duration(random_.below(max + 1)));
}

void Machine::end(Container& container, sandbox::TaskExit exit) {
  if (container.exit) return;
  container.exit = exit;
  container.frozen = false;
  container.ended.set();
}

void Machine::end(const std::string& task, int exit_code) {
  if (const auto container = find(task)) end(*container, {.exit_code = exit_code});
}

void Machine::power_cut() {
  for (auto& [task, container] : containers_) end(*container, {.exit_code = 137});
  containers_.clear();
  networks_.clear();
}

Async<Result<image::LocalImage>> Machine::pull(image::PullRequest request) {
  co_await take_ms(faults_.pull_ms_max);
  if (behaviour_of(request.repository) == Behaviour::kMissing)
    co_return fail(Code::kNotFound, "{}: not found", request.repository);
  if (random_.chance(faults_.pull_fail_percent))
    co_return fail(Code::kUnavailable, "connection refused");
  image::LocalImage image{.digest = request.reference};
  image.config.command = {request.repository};
  co_return image;
}

Async<Result<std::filesystem::path>> Machine::attach(network::TaskAddress address) {
  networks_.insert(address.task);
  co_return std::filesystem::path("/netns/" + address.task);
}

Async<Result<void>> Machine::detach(std::string task) {
  networks_.erase(task);
  co_return Result<void>{};
}

Async<Result<std::vector<std::string>>> Machine::attached() {
  co_return std::vector<std::string>(networks_.begin(), networks_.end());
}

Async<Result<void>> Machine::probe(link::Probe probe, std::string address) {
  co_await take_ms(2);
  for (const auto& [task, container] : containers_) {
    if (container->address != address || !container->answers(virtual_time::now_us())) continue;
    if (random_.chance(faults_.probe_fail_percent)) break;
    co_return Result<void>{};
  }
  co_return fail(Code::kUnavailable, "TCP connect to port {}: Connection refused", probe.port);
}

Async<Result<void>> Machine::start(sandbox::TaskSpec spec) {
  co_await take_ms(faults_.start_ms_max);
  if (containers_.contains(spec.task)) co_return fail(Code::kExists, "{} is here", spec.task);
  const auto container = std::make_shared<Container>(executor_);
  container->address = mutation_ == Mutation::kKeepAddress ? "198.18.0.9" : spec.address;
  container->behaviour = behaviour_of(spec.image.config.command.at(0));
  const int slow = container->behaviour == Behaviour::kSlow ? kSlowStartMsMax : 0;
  container->listens_at_us =
      virtual_time::now_us() + 1000 * random_.below(faults_.start_ms_max + slow + 1);
  containers_[spec.task] = container;
  if (container->behaviour == Behaviour::kExits) end(*container, {.exit_code = 3});
  co_return Result<void>{};
}

Async<Result<sandbox::TaskExit>> Machine::wait(std::string task) {
  const auto container = find(task);
  if (!container) co_return fail(Code::kNotFound, "no {}", task);
  co_await container->ended.wait();
  if (mutation_ == Mutation::kStuckTask) co_await Event(executor_).wait();
  if (!container->exit) co_return fail(Code::kNotFound, "no {}", task);
  co_return *container->exit;
}

Async<Result<void>> Machine::freeze(std::string task) {
  const auto container = find(task);
  if (!container) co_return fail(Code::kNotFound, "no {}", task);
  const int mine = ++container->orders;
  co_await take_ms(kFreezeMsMax);
  if (mine != container->orders) co_return fail(Code::kCancelled, "it was thawed");
  if (random_.chance(faults_.freeze_fail_percent))
    co_return fail(Code::kTimeout, "a process did not stand still");
  if (container->runs()) container->frozen = true;
  co_return Result<void>{};
}

Async<Result<void>> Machine::thaw(std::string task) {
  const auto container = find(task);
  if (!container) co_return fail(Code::kNotFound, "no {}", task);
  if (random_.chance(faults_.thaw_fail_percent)) co_return fail(Code::kUnavailable, "no memory");
  ++container->orders;
  container->frozen = false;
  co_return Result<void>{};
}

Async<Result<void>> Machine::signal(std::string task, int number) {
  const auto container = find(task);
  if (!container) co_return fail(Code::kNotFound, "no {}", task);
  ++container->orders;
  container->frozen = false;
  if (!container->told_to_stop_us) container->told_to_stop_us = virtual_time::now_us();
  if (number != 9) {
    if (container->behaviour == Behaviour::kDeaf) co_return Result<void>{};
    co_await take_ms(kStopMsMax);
  }
  end(*container, {.exit_code = 128 + number});
  co_return Result<void>{};
}

Async<Result<void>> Machine::remove(std::string task) {
  if (const auto container = find(task)) {
    if (mutation_ == Mutation::kKeepContainer) co_return Result<void>{};
    if (!container->told_to_stop_us) container->told_to_stop_us = virtual_time::now_us();
    end(*container, {.exit_code = 137});
    containers_.erase(task);
  }
  co_return Result<void>{};
}

Async<Result<std::vector<sandbox::AdoptedTask>>> Machine::adopt() {
  std::vector<sandbox::AdoptedTask> tasks;
  for (const auto& [task, container] : containers_)
    tasks.push_back({.task = task, .frozen = container->frozen});
  co_return tasks;
}

}  // namespace hob::sim
