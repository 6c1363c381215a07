// The microVM driver: hob-vmm in hob-jailer's jail with hob-guest in it, under hob-vm-run and
// hob-monitor.
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "base/file.h"
#include "base/log.h"
#include "network/machine_link.h"
#include "network/subnets.h"
#include "sandbox/command_line.h"
#include "sandbox/erofs_images.h"
#include "sandbox/guest_order.h"
#include "sandbox/id_ranges.h"
#include "sandbox/launchers.h"
#include "sandbox/limits.h"
#include "sandbox/microvm_layout.h"
#include "sandbox/monitored_sandbox.h"
#include "sandbox/scratch_disk.h"
#include "sandbox/vmm.h"

namespace hob::sandbox {
namespace {

namespace fs = std::filesystem;

constexpr int kCpuUnitsPerCpu = 1'024;
constexpr Duration kCatchUpPatience{1'000};
constexpr int kHostPrefix = 32;  // the VPC is routed: no neighbour shares its Ethernet

int64_t wall_clock_nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// Files that are every task's. The folders above them are root's.
Result<void> let_all_read(const fs::path& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) return fail_errno(errno, file.string());
  constexpr mode_t kAllRead = S_IRUSR | S_IRGRP | S_IROTH;
  if ((status.st_mode & kAllRead) != kAllRead &&
      ::chmod(file.c_str(), (status.st_mode & 07777) | kAllRead) != 0)
    return fail_errno(errno, "letting microVMs read " + file.string());
  return {};
}

class MicrovmLauncher final : public Launcher {
 public:
  MicrovmLauncher(MicrovmOptions options, Cgroups cgroups, VmmPrograms programs, fs::path monitor)
      : options_(std::move(options)),
        cgroups_(std::move(cgroups)),
        ids_(options_.shared_directory, options_.instance),
        programs_(std::move(programs)),
        monitor_(std::move(monitor)),
        disks_(options_.directory / "disks"),
        images_(options_.directory / "images") {}

  Result<void> open(const std::vector<std::string>& kept) override {
    HOB_CHECK(ids_.release_others(kept));
    HOB_CHECK(disks_.open());
    return images_.open();
  }
  Result<MonitorPlan> prepare(const TaskSpec& spec, const fs::path& bundle) override;
  Result<void> signal(const std::string& task, const fs::path& bundle, int number) const override {
    // What must end is not left to the guest, which may hang or be hostile.
    if (number == SIGKILL) return cgroups_.kill_all(task);
    auto done = order_guest(bundle, {.signal = guest::Signal{.number = number}});
    if (!done && done.error().code == Code::kNotFound) return {};  // it has ended
    return done;
  }
  void catch_up(const fs::path& bundle) const override {
    const auto told =
        order_guest(bundle, {.clock_nanoseconds = wall_clock_nanoseconds()}, kCatchUpPatience);
    if (told || told.error().code == Code::kNotFound) return;
    log::warn("a microVM's clock is not set",
              {{"task", bundle.filename().string()}, {"error", told.error().message}});
  }
  bool was_out_of_memory(const std::string& task, const fs::path& bundle) const override {
    std::error_code ignored;
    return fs::exists(bundle / kOutOfMemoryFile, ignored) || cgroups_.was_out_of_memory(task);
  }
  Result<void> release(const std::string& task) override { return ids_.release(task); }
  void remove_common() override {}

 private:
  Result<guest::Order> start_order(const TaskSpec& spec) const;

  const MicrovmOptions options_;
  const Cgroups cgroups_;
  IdRanges ids_;
  const VmmPrograms programs_;
  const fs::path monitor_;
  ScratchDisks disks_;
  ErofsImages images_;
};

Result<guest::Order> MicrovmLauncher::start_order(const TaskSpec& spec) const {
  guest::Container container{.name = "task",
                             .image_device = "vdb",
                             .user = spec.image.config.user,
                             .working_directory = spec.image.config.working_directory,
                             .memory_bytes = int64_t{spec.memory_mib} << 20,
                             .processes_max = spec.processes_max,
                             .open_files_max = static_cast<int>(open_files_max())};
  HOB_TRY(container.arguments, merge_command(spec));
  // The guest looks for the user's home in the image.
  HOB_TRY(container.environment, merge_environment(spec, ""));
  std::erase(container.environment, "HOME=");
  guest::Start start{.host_name = host_name(spec),
                     .hosts = hosts_file(spec),
                     .name_servers = resolv_file(spec),
                     .scratch_device = "vda",
                     .clock_nanoseconds = wall_clock_nanoseconds()};
  if (!spec.network_namespace.empty()) {
    start.network = guest::Network{.address = spec.address,
                                   .prefix_length = kHostPrefix,
                                   .gateway = std::string(network::kVpcRouter)};
  }
  start.containers.push_back(std::move(container));
  return guest::Order{.start = std::move(start)};
}

Result<MonitorPlan> MicrovmLauncher::prepare(const TaskSpec& spec, const fs::path& bundle) {
  HOB_TRY(const guest::Order order, start_order(spec));
  VmmJail jail{.file_mib_max = spec.storage_mib,
               .network_namespace = spec.network_namespace,
               .kernel = options_.kernel,
               .initrd = options_.initrd};
  HOB_TRY(jail.user, ids_.claim(spec.task));
  const fs::path scratch = bundle / kScratchFile;
  HOB_CHECK(disks_.make_file(scratch, spec.storage_mib));
  if (::chown(scratch.c_str(), jail.user, jail.user) != 0)
    return fail_errno(errno, "chown of " + scratch.string());
  HOB_TRY(jail.image, images_.image_of(spec.image.layers));
  for (const fs::path* file : {&jail.kernel, &jail.initrd, &jail.image})
    HOB_CHECK(let_all_read(*file));
  HOB_TRY(jail.cgroups, cgroups_.make(spec.task, spec.cpu, host_memory_mib(spec.memory_mib)));
  VmmPlan machine{.vcpus = std::max(1, (spec.cpu + kCpuUnitsPerCpu - 1) / kCpuUnitsPerCpu),
                  .memory_mib = machine_memory_mib(spec.memory_mib)};
  if (!spec.network_namespace.empty()) {
    HOB_CHECK(context(network::link_machine(spec.network_namespace, jail.user),
                      "connecting the microVM"));
    machine.tap = network::kMachineTap;
    machine.mac = network::machine_hardware_address(spec.address);
  }
  HOB_CHECK(write_task_file(bundle / kMachineFile, vmm_configuration(machine)));
  HOB_CHECK(write_task_file(bundle / kStartFile, guest::encode(order)));
  const MonitorFiles files = monitor_files(bundle, spec.task);
  return MonitorPlan{.task = spec.task,
                     .monitor = monitor_,
                     .runtime = vmm_runtime(programs_, bundle, files.container_pid, jail),
                     .bundle = bundle,
                     .patience = kMicrovmStartTimeout};
}

}  // namespace

Result<std::unique_ptr<Launcher>> make_microvm_launcher(MicrovmOptions options,
                                                        const Cgroups& cgroups) {
  HOB_CHECK(context(find_program("mkfs.erofs"), "microVMs need erofs-utils"));
  VmmPrograms programs;
  HOB_TRY(programs.run, find_own_program("hob-vm-run"));
  HOB_TRY(programs.jailer, find_own_program("hob-jailer"));
  HOB_TRY(programs.vmm, find_own_program("hob-vmm"));
  HOB_TRY(fs::path monitor, find_own_program("hob-monitor"));
  return std::make_unique<MicrovmLauncher>(std::move(options), cgroups, std::move(programs),
                                           std::move(monitor));
}

std::unique_ptr<Sandbox> make_microvm_sandbox(MicrovmOptions options, const Executor& executor,
                                              BlockingPool& pool) {
  const fs::path directory = options.directory;
  return make_monitored_sandbox(
      directory,
      [options = std::move(options)]() -> Result<std::unique_ptr<TaskFiles>> {
        HOB_TRY(const Cgroups cgroups, Cgroups::detect(options.instance));
        HOB_TRY(auto launcher, make_microvm_launcher(options, cgroups));
        return TaskFiles::open(options.directory, cgroups, std::move(launcher));
      },
      executor, pool);
}

}  // namespace hob::sandbox
