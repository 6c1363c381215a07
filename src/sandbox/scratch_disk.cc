#include "sandbox/scratch_disk.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <linux/mount.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/process.h"
#include "sandbox/limits.h"

namespace hob::sandbox {

namespace {

namespace fs = std::filesystem;

constexpr int kLoopRetriesMax = 64;  // between asking for a free device and taking it, others may

Result<void> copy_sparse(const Fd& from, const Fd& to, off_t size) {
  if (::ftruncate(to.get(), size) != 0) return fail_errno(errno, "sizing a scratch disk");
  for (off_t at = 0; at < size;) {
    const off_t data = ::lseek(from.get(), at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return {};  // holes to the end
    if (data < 0) return fail_errno(errno, "reading the scratch disk template");
    const off_t hole = ::lseek(from.get(), data, SEEK_HOLE);
    if (hole < 0) return fail_errno(errno, "reading the scratch disk template");
    off_t in = data;
    off_t out = data;
    while (in < hole) {
      const ssize_t copied =
          ::copy_file_range(from.get(), &in, to.get(), &out, static_cast<size_t>(hole - in), 0);
      if (copied <= 0)
        return fail_errno(copied < 0 ? errno : EIO, "copying the scratch disk template");
    }
    at = hole;
  }
  return {};
}

struct LoopDevice {
  Fd fd{};
  std::string path{};
};

Result<LoopDevice> attach_loop(const Fd& file) {
  const Fd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control) return fail_errno(errno, "opening /dev/loop-control (is the loop module loaded?)");
  for (int attempt = 0; attempt < kLoopRetriesMax; ++attempt) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return fail_errno(errno, "looking for a free loop device");
    LoopDevice device{.path = fmt::format("/dev/loop{}", number)};
    device.fd = Fd(::open(device.path.c_str(), O_RDWR | O_CLOEXEC));
    if (!device.fd) return fail_errno(errno, "opening " + device.path);
    loop_config config{};
    config.fd = static_cast<uint32_t>(file.get());
    config.block_size = 4096;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    if (::ioctl(device.fd.get(), LOOP_CONFIGURE, &config) == 0) return device;
    if (errno != EBUSY) return fail_errno(errno, "attaching a scratch disk to " + device.path);
  }
  return fail(Code::kUnavailable, "no loop device stayed free for {} attempts", kLoopRetriesMax);
}

Result<Fd> mount_ext4(const std::string& device) {
  const auto set = [](const Fd& context, const char* key, const char* value) {
    const auto command = value != nullptr ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;
    return ::syscall(SYS_fsconfig, context.get(), command, key, value, 0) == 0;
  };
  const Fd context(static_cast<int>(::syscall(SYS_fsopen, "ext4", FSOPEN_CLOEXEC)));
  if (!context) return fail_errno(errno, "mounting a scratch disk");
  // discard: what the task deletes shrinks the file. noinit_itable: no background thread fills in
  // tables that a short life never needs.
  const bool configured =
      set(context, "source", device.c_str()) && set(context, "discard", nullptr) &&
      set(context, "noinit_itable", nullptr) &&
      ::syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0;
  if (!configured) return fail_errno(errno, "mounting the scratch disk " + device);
  Fd mounted(static_cast<int>(::syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC,
                                        MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME)));
  if (!mounted) return fail_errno(errno, "mounting the scratch disk " + device);
  return mounted;
}

}  // namespace

Result<void> ScratchDisks::open() {
  HOB_CHECK(make_directories(directory_, 0700));
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory_, ignored)) {
    if (entry.path().extension() != ".ext4") HOB_CHECK(remove_tree(entry.path()));
  }
  return {};
}

Result<fs::path> ScratchDisks::template_of(int mib) {
  const fs::path finished = directory_ / fmt::format("{}.ext4", mib);
  std::error_code ignored;
  if (fs::exists(finished, ignored)) return finished;
  // Two starts may make it at once: each under a name of its own, the last rename wins, both are
  // the same.
  std::string making = (directory_ / "making-XXXXXX").string();
  const Fd file(::mkostemp(making.data(), O_CLOEXEC));
  if (!file) return fail_errno(errno, "making a scratch disk template");
  if (::ftruncate(file.get(), off_t{mib} * 1024 * 1024) != 0)
    return fail_errno(errno, "sizing " + making);
  // No journal: the disk dies with its task, so nothing is ever recovered. No reserve: all of it is
  // the task's.
  HOB_TRY(const Exit made, run_blocking({.argv = {"mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0",
                                                  "-O", "^has_journal,^resize_inode", "-E",
                                                  "lazy_itable_init=1,nodiscard", making}},
                                        kRuntimeTimeout));
  if (made.status != 0) {
    ::unlink(making.c_str());
    return fail(Code::kUnavailable, "mkfs.ext4 of {} MiB ended with status {}: {}", mib,
                made.status, made.errors);
  }
  if (::rename(making.c_str(), finished.c_str()) != 0)
    return fail_errno(errno, "renaming " + making);
  return finished;
}

Result<Fd> ScratchDisks::copy(const fs::path& path, int mib) {
  if (mib < kScratchMibMin || mib > kScratchMibMax) {
    return fail(Code::kInvalid, "a writable layer of {} MiB; it has {} to {}", mib, kScratchMibMin,
                kScratchMibMax);
  }
  HOB_TRY(const fs::path source, template_of(mib));
  const Fd from(::open(source.c_str(), O_RDONLY | O_CLOEXEC));
  if (!from) return fail_errno(errno, "opening " + source.string());
  ::unlink(path.c_str());
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file) return fail_errno(errno, "making " + path.string());
  HOB_CHECK(copy_sparse(from, file, off_t{mib} * 1024 * 1024));
  return file;
}

Result<Fd> ScratchDisks::make(const std::string& name, int mib) {
  const fs::path path = directory_ / (name + ".disk");
  const Result<Fd> file = copy(path, mib);
  ::unlink(path.c_str());
  if (!file) return fail(file.error());
  HOB_TRY(const LoopDevice device, attach_loop(*file));
  return mount_ext4(device.path);
}

Result<void> ScratchDisks::make_file(const fs::path& path, int mib) {
  HOB_CHECK(copy(path, mib));
  return {};
}

}  // namespace hob::sandbox
