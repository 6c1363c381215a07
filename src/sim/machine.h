// A simulated machine: what the host agent's ports stand for, taking virtual time and failing as
// the faults of the hour say. It outlives agents, as containers do.
//
// What a container does depends on the name of its image's repository (behaviour_of). One loop.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "base/async.h"
#include "host/ports.h"
#include "sim/faults.h"
#include "sim/seeded_random.h"

namespace hob::sim {

enum class Behaviour {
  kGood,
  kExits,    // at once
  kMute,     // never listens
  kMissing,  // cannot be pulled: there is no such image
  kSlow,     // listens after up to half a minute
  kDeaf,     // does not hear SIGTERM
};
inline constexpr Behaviour kBehaviours[] = {Behaviour::kGood, Behaviour::kExits,
                                            Behaviour::kMute, Behaviour::kMissing,
                                            Behaviour::kSlow, Behaviour::kDeaf};
Behaviour behaviour_of(const std::string& repository);
std::string repository_of(Behaviour behaviour);

struct MachineFaults {
  int pull_fail_percent = 0;  // the registry does not answer
  int start_ms_max = 300;     // a container's start, and then its process until it listens
  int pull_ms_max = 500;
  int thaw_fail_percent = 0;
  int freeze_fail_percent = 0;
  int probe_fail_percent = 0;  // a healthy task that misses a probe
};

class Machine final : public host::ImagePort,
                      public host::NetworkPort,
                      public host::ProbePort,
                      public sandbox::Sandbox {
 public:
  Machine(const Executor& executor, SeededRandom& random, std::filesystem::path directory)
      : executor_(executor), random_(random), directory_(std::move(directory)) {}

  struct Container {
    explicit Container(const Executor& executor) : ended(executor) {}
    std::string address{};
    Behaviour behaviour = Behaviour::kGood;
    int64_t listens_at_us = 0;
    std::optional<sandbox::TaskExit> exit{};
    Event ended;
    bool frozen = false;
    int orders = 0;  // freezes and thaws: a thaw calls off the freeze before it
    std::optional<int64_t> told_to_stop_us{};
    bool runs() const { return !exit.has_value(); }
    bool answers(int64_t now_us) const {
      return runs() && !frozen && behaviour != Behaviour::kMute && now_us >= listens_at_us;
    }
  };
  const std::map<std::string, std::shared_ptr<Container>>& containers() const {
    return containers_;
  }
  const std::set<std::string>& networks() const { return networks_; }
  void set_faults(const MachineFaults& faults) { faults_ = faults; }
  void set_mutation(Mutation mutation) { mutation_ = mutation; }
  // The process of the task's container ends by itself.
  void end(const std::string& task, int exit_code);
  // Everything that ran is gone.
  void power_cut();

  Async<Result<image::LocalImage>> pull(image::PullRequest request) override;
  Async<Result<std::filesystem::path>> attach(network::TaskAddress address) override;
  Async<Result<void>> detach(std::string task) override;
  Async<Result<std::vector<std::string>>> attached() override;
  Async<Result<void>> probe(link::Probe probe, std::string address) override;
  host::ListeningPorts listening(const std::filesystem::path&) override { return {}; }
  Async<Result<void>> open() override { co_return Result<void>{}; }
  Async<Result<void>> start(sandbox::TaskSpec spec) override;
  Async<Result<sandbox::TaskExit>> wait(std::string task) override;
  Async<Result<void>> freeze(std::string task) override;
  Async<Result<void>> thaw(std::string task) override;
  Async<Result<void>> signal(std::string task, int number) override;
  Async<Result<void>> remove(std::string task) override;
  Async<Result<std::vector<sandbox::AdoptedTask>>> adopt() override;
  std::filesystem::path log_path(const std::string& task) const override {
    return directory_ / "logs" / task;
  }

 private:
  std::shared_ptr<Container> find(const std::string& task) const;
  Async<> take_ms(int max);
  void end(Container& container, sandbox::TaskExit exit);

  Executor executor_;
  SeededRandom& random_;
  std::filesystem::path directory_;
  MachineFaults faults_{};
  Mutation mutation_ = Mutation::kNone;
  std::map<std::string, std::shared_ptr<Container>> containers_;
  std::set<std::string> networks_;
};

}  // namespace hob::sim
