// Containers and microVMs of one instance: each task by the launcher that started it.
#include "base/log.h"
#include "sandbox/launchers.h"
#include "sandbox/microvm_layout.h"
#include "sandbox/monitored_sandbox.h"

namespace hob::sandbox {
namespace {

namespace fs = std::filesystem;

class MixedLauncher final : public Launcher {
 public:
  // `microvms`: or why there are none here.
  MixedLauncher(std::unique_ptr<Launcher> containers, Result<std::unique_ptr<Launcher>> microvms,
                bool starts_microvms)
      : containers_(std::move(containers)),
        microvms_(std::move(microvms)),
        starts_microvms_(starts_microvms) {}

  Result<void> open(const std::vector<std::string>& kept) override {
    HOB_CHECK(containers_->open(kept));
    return microvms_ ? (*microvms_)->open(kept) : Result<void>();
  }
  Result<MonitorPlan> prepare(const TaskSpec& spec, const fs::path& bundle) override {
    const bool microvm = spec.isolation == Isolation::kDefault
                             ? starts_microvms_
                             : spec.isolation == Isolation::kMicrovm;
    if (!microvm) return containers_->prepare(spec, bundle);
    if (!microvms_)
      return fail(Code::kUnavailable, "this host runs no microVMs: {}", microvms_.error().message);
    return (*microvms_)->prepare(spec, bundle);
  }
  Result<void> signal(const std::string& task, const fs::path& bundle, int number) const override {
    return of(bundle).signal(task, bundle, number);
  }
  void catch_up(const fs::path& bundle) const override { of(bundle).catch_up(bundle); }
  bool was_out_of_memory(const std::string& task, const fs::path& bundle) const override {
    return of(bundle).was_out_of_memory(task, bundle);
  }
  Result<void> release(const std::string& task) override {
    HOB_CHECK(containers_->release(task));
    return microvms_ ? (*microvms_)->release(task) : Result<void>();
  }
  void remove_common() override {
    containers_->remove_common();
    if (microvms_) (*microvms_)->remove_common();
  }

 private:
  // Only a microVM's bundle has a machine in it.
  const Launcher& of(const fs::path& bundle) const {
    std::error_code ignored;
    return microvms_ && fs::exists(bundle / kMachineFile, ignored) ? **microvms_ : *containers_;
  }

  const std::unique_ptr<Launcher> containers_;
  const Result<std::unique_ptr<Launcher>> microvms_;
  const bool starts_microvms_;
};

}  // namespace

std::unique_ptr<Sandbox> make_mixed_sandbox(ContainerOptions containers, MicrovmOptions microvm,
                                            bool microvms, const Executor& executor,
                                            BlockingPool& pool) {
  const fs::path directory = containers.directory;
  return make_monitored_sandbox(
      directory,
      [=]() -> Result<std::unique_ptr<TaskFiles>> {
        HOB_TRY(const Cgroups cgroups, Cgroups::detect(containers.instance));
        HOB_TRY(auto for_containers, make_container_launcher(containers, cgroups));
        auto for_microvms = make_microvm_launcher(microvm, cgroups);
        if (!for_microvms) {
          // A host that never runs any need not have what they need.
          if (microvms) return fail(for_microvms.error());
          log::info("no microVMs on this host", {{"reason", for_microvms.error().message}});
        }
        return TaskFiles::open(directory, cgroups,
                               std::make_unique<MixedLauncher>(std::move(for_containers),
                                                               std::move(for_microvms), microvms));
      },
      executor, pool);
}

}  // namespace hob::sandbox
