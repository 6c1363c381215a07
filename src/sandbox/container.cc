// The container driver: crun under hob-monitor.
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "guest/image_user.h"
#include "guest/task_root.h"
#include "sandbox/bundle.h"
#include "sandbox/command_line.h"
#include "sandbox/id_ranges.h"
#include "sandbox/launchers.h"
#include "sandbox/limits.h"
#include "sandbox/monitored_sandbox.h"
#include "sandbox/mounts.h"
#include "sandbox/scratch_disk.h"

namespace hob::sandbox {
namespace {

namespace fs = std::filesystem;

class ContainerLauncher final : public Launcher {
 public:
  ContainerLauncher(ContainerOptions options, Cgroups cgroups, fs::path crun, fs::path monitor)
      : options_(std::move(options)),
        cgroups_(std::move(cgroups)),
        ids_(options_.shared_directory, options_.instance),
        disks_(options_.directory / "disks"),
        crun_(std::move(crun)),
        monitor_(std::move(monitor)) {}

  Result<void> open(const std::vector<std::string>& kept) override {
    HOB_CHECK(disks_.open());
    return ids_.release_others(kept);
  }
  Result<MonitorPlan> prepare(const TaskSpec& spec, const fs::path& bundle) override;
  Result<void> signal(const std::string& task, const fs::path& bundle, int number) const override;
  bool was_out_of_memory(const std::string& task, const fs::path&) const override {
    return cgroups_.was_out_of_memory(task);
  }
  Result<void> release(const std::string& task) override {
    HOB_CHECK(remove_tree(crun_state() / task));
    return ids_.release(task);
  }
  void remove_common() override {
    std::error_code ignored;
    for (const fs::path& path : {mount_point(), crun_state(), options_.run_directory})
      fs::remove(path, ignored);
  }

 private:
  fs::path crun_state() const { return options_.run_directory / "crun"; }
  fs::path mount_point() const { return options_.run_directory / "task"; }

  const ContainerOptions options_;
  const Cgroups cgroups_;
  IdRanges ids_;
  ScratchDisks disks_;
  const fs::path crun_, monitor_;
};

Result<MonitorPlan> ContainerLauncher::prepare(const TaskSpec& spec, const fs::path& bundle) {
  HOB_CHECK(make_directories(options_.run_directory, 0711));
  HOB_CHECK(make_directories(crun_state(), 0700));
  HOB_CHECK(make_directories(mount_point(), 0711));
  BundlePlan plan;
  HOB_TRY(plan.arguments, merge_command(spec));
  HOB_TRY(plan.first_id, ids_.claim(spec.task));
  HOB_TRY(Fd scratch, disks_.make(spec.task, spec.storage_mib));
  HOB_TRY(plan.mounts, enter_task_mounts({.mount_point = mount_point(),
                                          .hybrid_cgroup_tree = cgroups_.hybrid_tree(),
                                          .network_namespace = spec.network_namespace,
                                          .layers = spec.image.layers,
                                          .first_id = plan.first_id,
                                          .scratch = std::move(scratch)}));
  HOB_TRY(const guest::TaskRoot root, guest::TaskRoot::open(plan.mounts.root));
  const image::ImageConfig& image = spec.image.config;
  HOB_TRY(plan.user,
          guest::resolve_user(image.user, root.read("/etc/passwd", guest::kAccountFileBytesMax),
                              root.read("/etc/group", guest::kAccountFileBytesMax)));
  HOB_TRY(plan.environment, merge_environment(spec, plan.user.home));
  if (!image.working_directory.empty()) plan.working_directory = image.working_directory;
  HOB_CHECK(root.make_directories(plan.working_directory, plan.first_id));
  HOB_CHECK(root.check_program(plan.arguments.front(), variable(plan.environment, "PATH"),
                               plan.working_directory));
  plan.host_name = host_name(spec);
  const fs::path& files = plan.mounts.files;
  HOB_CHECK(write_task_file(files / "hosts", hosts_file(spec), plan.first_id));
  HOB_CHECK(write_task_file(files / "hostname", plan.host_name + "\n", plan.first_id));
  HOB_CHECK(write_task_file(files / "resolv.conf", resolv_file(spec), plan.first_id));
  plan.network_namespace = spec.network_namespace;
  plan.cgroup_path = cgroups_.path_of(spec.task);
  plan.cgroup_version = cgroups_.version();
  plan.swap_accounted = cgroups_.accounts_swap();
  plan.cpu = spec.cpu;
  plan.memory_mib = spec.memory_mib;
  plan.processes_max = spec.processes_max;
  plan.open_files_max = open_files_max();
  HOB_CHECK(write_task_file(bundle / "config.json", bundle_config(plan)));
  return MonitorPlan{.task = spec.task,
                     .monitor = monitor_,
                     .runtime = {crun_, "--root", crun_state(), "--cgroup-manager=cgroupfs", "run",
                                 "--detach", "--bundle", bundle, "--pid-file",
                                 monitor_files(bundle, spec.task).container_pid, spec.task},
                     .bundle = bundle};
}

Result<void> ContainerLauncher::signal(const std::string& task, const fs::path& bundle,
                                       int number) const {
  const auto process = read_number(monitor_files(bundle, task).container_pid);
  if (!process) return {};
  const Fd handle(static_cast<int>(::syscall(SYS_pidfd_open, *process, 0)));
  // Asked after the handle was taken, so that a number used again is not taken for the task.
  if (!handle || !cgroups_.contains(task, *process)) return {};
  if (::syscall(SYS_pidfd_send_signal, handle.get(), number, nullptr, 0) != 0 && errno != ESRCH)
    return fail_errno(errno, "sending a signal");
  return {};
}

}  // namespace

Result<std::unique_ptr<Launcher>> make_container_launcher(ContainerOptions options,
                                                          const Cgroups& cgroups) {
  if (options.run_directory.empty()) options.run_directory = "/run/hob-" + options.instance;
  HOB_TRY(fs::path crun, find_program("crun"));
  HOB_TRY(fs::path monitor, find_own_program("hob-monitor"));
  return std::make_unique<ContainerLauncher>(std::move(options), cgroups, std::move(crun),
                                             std::move(monitor));
}

std::unique_ptr<Sandbox> make_container_sandbox(ContainerOptions options, const Executor& executor,
                                                BlockingPool& pool) {
  const fs::path directory = options.directory;
  return make_monitored_sandbox(
      directory,
      [options = std::move(options)]() -> Result<std::unique_ptr<TaskFiles>> {
        HOB_TRY(const Cgroups cgroups, Cgroups::detect(options.instance));
        HOB_TRY(auto launcher, make_container_launcher(options, cgroups));
        return TaskFiles::open(options.directory, cgroups, std::move(launcher));
      },
      executor, pool);
}

}  // namespace hob::sandbox
