// PUT /snapshot/create and /snapshot/load.
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/file.h"
#include "microvm/api/answers.h"
#include "microvm/api/api.h"
#include "microvm/api/snapshot_request.h"
#include "microvm/snapshot/state_file.h"

namespace hob::microvm {
namespace {

constexpr unsigned kStateFileMode = 0600;

Result<void> check_path(const std::string& path) {
  if (path.contains('\0')) return fail(Code::kInvalid, "the state file's path has a zero byte");
  return {};
}

// A FIFO or a device would be waited for, and with it the API.
Result<std::string> read_state_file(const std::string& path) {
  HOB_CHECK(check_path(path));
  const Fd file(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  struct stat status {};
  if (!file || fstat(file.get(), &status) < 0) return fail_errno(errno, "opening " + path);
  if (!S_ISREG(status.st_mode)) return fail(Code::kInvalid, "{} is no regular file", path);
  if (static_cast<uint64_t>(status.st_size) > kStateBytesMax)
    return fail(Code::kLimit, "{} is over {} bytes", path, kStateBytesMax);
  std::string content(static_cast<size_t>(status.st_size), ' ');
  size_t done = 0;
  while (done < content.size()) {
    const ssize_t got = read(file.get(), content.data() + done, content.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "reading " + path);
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  content.resize(done);
  return content;
}

}  // namespace

MicrovmApi::Answer MicrovmApi::put_snapshot_create(const HttpRequest&, const Json& body) {
  HOB_TRY(const SnapshotCreation creation, body_of(read_snapshot_creation(body)));
  const Stopwatch watch;
  if (auto created = create_snapshot(creation); !created)
    return fail(Code::kInvalid, "Create snapshot error: {}", created.error().message);
  (creation.kind == SnapshotKind::kFull ? took_.full_snapshot : took_.diff_snapshot) =
      watch.elapsed();
  return HttpResponse{};
}

Result<void> MicrovmApi::create_snapshot(const SnapshotCreation& creation) {
  if (machine_->running())
    return fail(Code::kInvalid,
                "Cannot save the microVM state: Operation not allowed: save/restore unavailable "
                "while running");
  HOB_CHECK(check_path(creation.state_path));
  SnapshotState state{.configuration = configuration_, .boot_source = boot_source_};
  for (const OpenDrive& open : drives_) state.drives.push_back(open.drive);
  state.vsock = vsock_;
  state.balloon = balloon_;
  state.entropy = entropy_;
  state.mmds = mmds_;
  state.pmems = pmems_;
  for (const OpenInterface& open : interfaces_) state.interfaces.push_back(open.interface);
  HOB_TRY(state.machine, context(machine_->save(), "Cannot save the microVM state"));
  HOB_CHECK(machine_->collect_dirty());
  // The state last: where it is, the memory is whole.
  HOB_CHECK(write_memory(machine_->memory(), creation.memory_path, creation.kind));
  HOB_CHECK(write_file_durably(creation.state_path, write_state(state), kStateFileMode));
  for (DirtyPages& pages : machine_->memory().dirty()) pages.clear();
  return {};
}

MicrovmApi::Answer MicrovmApi::put_snapshot_load(const HttpRequest&, const Json& body) {
  HOB_TRY(const SnapshotLoading loading, body_of(read_snapshot_loading(body)));
  deprecated_ = loading.deprecated;
  if (configured_)
    return fail(Code::kInvalid,
                "Load snapshot error: Loading a microVM snapshot not allowed after configuring "
                "boot-specific resources.");
  if (auto loaded = load_snapshot(loading); !loaded) {
    // Half of a machine may be there: as Firecracker, this process is of no more use.
    std::string reason = "Load snapshot error: " + loaded.error().message;
    on_end_({.failed = true, .reason = reason});
    return fail(Code::kInvalid, "{}", reason);
  }
  return HttpResponse{};
}

Result<void> MicrovmApi::load_snapshot(const SnapshotLoading& loading) {
  const Stopwatch watch;
  HOB_TRY(const std::string file, read_state_file(loading.state_path));
  HOB_TRY(SnapshotState state, read_state(file));
  HOB_CHECK(check(state.configuration));
  configuration_ = state.configuration;
  configuration_.track_dirty_pages = loading.track_dirty;
  if (loading.huge_pages) configuration_.huge_pages = *loading.huge_pages;
  boot_source_ = std::move(state.boot_source);
  if (state.balloon) HOB_CHECK(set_balloon(*state.balloon));
  for (Drive& drive : state.drives) {
    HOB_CHECK(check_id(drive.id));
    HOB_CHECK(set_drive(std::move(drive)));
  }
  HOB_CHECK(restore_interfaces(loading, std::move(state.interfaces)));
  if (loading.vsock_path) {
    if (!state.vsock) return fail(Code::kInvalid, "the snapshot has no vsock device");
    state.vsock->path = *loading.vsock_path;
  }
  if (state.vsock) HOB_CHECK(set_vsock(*std::move(state.vsock)));
  if (state.entropy) HOB_CHECK(set_entropy(*state.entropy));
  for (PmemConfiguration& pmem : state.pmems) {
    HOB_CHECK(check_id(pmem.id));
    HOB_CHECK(set_pmem(std::move(pmem)));
  }
  // The metadata itself is told anew, as to Firecracker.
  if (state.mmds) HOB_CHECK(set_mmds(*std::move(state.mmds)));
  HOB_TRY(MachineOptions options, machine_options());
  HOB_TRY(GuestMemory memory, load_memory(loading));
  HOB_TRY(machine_, Machine::restore(
                        std::move(options), std::move(memory), state.machine,
                        loading.clock_forward ? Machine::Clock::kForward : Machine::Clock::kAsSaved,
                        loop_, on_end_));
  HOB_CHECK(narrow_filter());
  if (loading.resume) machine_->resume();
  took_.load = watch.elapsed();
  logger_.log(LogLevel::kInfo, "main", "The microVM was loaded.");
  return write_metrics_regularly();
}

Result<void> MicrovmApi::restore_interfaces(const SnapshotLoading& loading,
                                            std::vector<NetworkInterface> saved) {
  for (const SnapshotLoading::Interface& override : loading.interfaces) {
    const auto found = std::ranges::find(saved, override.id, &NetworkInterface::id);
    if (found == saved.end())
      return fail(Code::kInvalid, "the snapshot has no network interface {}", override.id);
    found->tap = override.tap;
  }
  for (NetworkInterface& interface : saved) {
    HOB_CHECK(check_id(interface.id));
    HOB_CHECK(set_interface(std::move(interface)));
  }
  return {};
}

Result<GuestMemory> MicrovmApi::load_memory(const SnapshotLoading& loading) {
  const uint64_t bytes = configuration_.memory_mib << 20;
  const GuestMemory::Pages pages = pages_of(configuration_.huge_pages);
  if (!loading.handled) {
    if (pages == GuestMemory::Pages::kHuge)
      return fail(Code::kInvalid,
                  "Cannot restore hugetlbfs backed snapshot by mapping the memory file. Please use "
                  "uffd.");
    return map_memory(loading.memory_path, bytes, loading.track_dirty);
  }
  HOB_TRY(HandledMemory handled,
          handled_memory(loading.memory_path, bytes, pages, loading.track_dirty));
  faults_ = std::move(handled.faults);
  fault_handler_ = std::move(handled.handler);
  return std::move(handled.memory);
}

}  // namespace hob::microvm
