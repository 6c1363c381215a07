#include "guest/container_root.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace hob::guest {
namespace {

namespace fs = std::filesystem;

constexpr const char* kScratch = "/run/scratch";
constexpr const char* kImages = "/run/images";
constexpr const char* kRoots = "/run/roots";
constexpr std::array kNetworkFiles = {"resolv.conf", "hosts", "hostname"};

Result<void> make(const fs::path& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST)
    return fail_errno(errno, "making " + path.string());
  return {};
}

Result<void> put(const fs::path& path, std::string_view text) {
  const Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file || ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return fail_errno(errno, "writing " + path.string());
  return {};
}

Result<void> mount_at(const char* type, const char* source, const fs::path& target,
                      unsigned long flags, const char* options = nullptr) {
  if (::mount(source, target.c_str(), type, flags, options) != 0)
    return fail_errno(errno, fmt::format("mounting {} at {}", type, target.string()));
  return {};
}

// A copy of the mount of `path`, to be put elsewhere after the root has changed.
Fd take_mount(const fs::path& path) {
  return Fd(static_cast<int>(
      ::syscall(SYS_open_tree, AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
}

Result<void> put_mount(const Fd& mount, const fs::path& target) {
  if (::syscall(SYS_move_mount, mount.get(), "", AT_FDCWD, target.c_str(),
                MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS) != 0)
    return fail_errno(errno, "mounting " + target.string());
  return {};
}

Result<void> mount_kernel_files() {
  constexpr unsigned long kPlain = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  for (const char* folder : {"/proc", "/dev", "/sys"}) HOB_CHECK(make(folder, 0755));
  HOB_CHECK(mount_at("proc", "proc", "/proc", kPlain));
  HOB_CHECK(mount_at("tmpfs", "tmpfs", "/dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=64m"));
  for (const char* folder : {"/dev/pts", "/dev/mqueue", "/dev/shm"}) HOB_CHECK(make(folder, 0755));
  HOB_CHECK(mount_at("devpts", "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC,
                     "newinstance,ptmxmode=0666,mode=0620,gid=5"));
  HOB_CHECK(mount_at("mqueue", "mqueue", "/dev/mqueue", kPlain));
  HOB_CHECK(mount_at("tmpfs", "shm", "/dev/shm", kPlain, "mode=1777,size=64m"));
  HOB_CHECK(mount_at("sysfs", "sysfs", "/sys", kPlain | MS_RDONLY));
  return mount_at("cgroup2", "cgroup", "/sys/fs/cgroup", kPlain | MS_RDONLY);
}

Result<void> make_devices() {
  struct Device {
    const char* path;
    unsigned major, minor;
  };
  for (const Device& device :
       {Device{"/dev/null", 1, 3}, Device{"/dev/zero", 1, 5}, Device{"/dev/full", 1, 7},
        Device{"/dev/random", 1, 8}, Device{"/dev/urandom", 1, 9}, Device{"/dev/tty", 5, 0}}) {
    if (::mknod(device.path, S_IFCHR | 0666, ::makedev(device.major, device.minor)) != 0)
      return fail_errno(errno, fmt::format("making {}", device.path));
  }
  struct Link {
    const char* path;
    const char* target;
  };
  for (const Link& link :
       {Link{"/dev/fd", "/proc/self/fd"}, Link{"/dev/stdin", "/proc/self/fd/0"},
        Link{"/dev/stdout", "/proc/self/fd/1"}, Link{"/dev/stderr", "/proc/self/fd/2"},
        Link{"/dev/ptmx", "pts/ptmx"}, Link{"/dev/core", "/proc/kcore"}}) {
    if (::symlink(link.target, link.path) != 0)
      return fail_errno(errno, fmt::format("making {}", link.path));
  }
  return {};
}

// Docker's lists. What this kernel has not got is passed over.
Result<void> hide_kernel_files() {
  for (const char* path :
       {"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
        "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
        "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"}) {
    struct stat info {};
    if (::stat(path, &info) != 0) continue;
    if (S_ISDIR(info.st_mode)) {
      HOB_CHECK(mount_at("tmpfs", "tmpfs", path, MS_RDONLY, "size=0"));
    } else if (::mount("/dev/null", path, nullptr, MS_BIND, nullptr) != 0) {
      return fail_errno(errno, fmt::format("hiding {}", path));
    }
  }
  for (const char* path :
       {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}) {
    if (::mount(path, path, nullptr, MS_BIND | MS_REC, nullptr) != 0) {
      if (errno == ENOENT) continue;
      return fail_errno(errno, fmt::format("protecting {}", path));
    }
    if (::mount(nullptr, path, nullptr,
                MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0)
      return fail_errno(errno, fmt::format("protecting {}", path));
  }
  return {};
}

}  // namespace

Result<void> mount_scratch(const std::string& device) {
  for (const char* folder : {kScratch, kImages, kRoots}) HOB_CHECK(make(folder, 0755));
  return mount_at("ext4", ("/dev/" + device).c_str(), kScratch, MS_NODEV | MS_NOATIME, "discard");
}

Result<ContainerRoot> mount_root(const Start& start, int index) {
  const Container& container = start.containers[static_cast<size_t>(index)];
  const fs::path image = fs::path(kImages) / container.image_device;
  if (container.image_device.empty() || container.image_device.contains('/'))
    return fail(Code::kInvalid, "'{}' is no device", container.image_device);
  if (::mkdir(image.c_str(), 0755) == 0) {
    HOB_CHECK(mount_at("erofs", ("/dev/" + container.image_device).c_str(), image, MS_RDONLY));
  } else if (errno != EEXIST) {
    return fail_errno(errno, "making " + image.string());
  }
  const fs::path own = fs::path(kScratch) / std::to_string(index);
  const ContainerRoot made{.root = fs::path(kRoots) / std::to_string(index),
                           .files = own / "files"};
  for (const fs::path& folder : {own, own / "upper", own / "work", made.files, made.root})
    HOB_CHECK(make(folder, 0755));
  // As the image has its root: overlayfs shows the upper directory's own attributes.
  struct stat info {};
  if (::stat(image.c_str(), &info) != 0 ||
      ::chown((own / "upper").c_str(), info.st_uid, info.st_gid) != 0 ||
      ::chmod((own / "upper").c_str(), info.st_mode & 07777) != 0)
    return fail_errno(errno, "preparing the container's writable layer");
  HOB_CHECK(mount_at("overlay", "overlay", made.root, MS_NODEV,
                     fmt::format("lowerdir={},upperdir={},workdir={}", image.string(),
                                 (own / "upper").string(), (own / "work").string())
                         .c_str()));
  HOB_CHECK(put(made.files / "hosts", start.hosts));
  HOB_CHECK(put(made.files / "hostname", start.host_name + "\n"));
  HOB_CHECK(put(made.files / "resolv.conf", start.name_servers));
  return made;
}

Result<void> enter_root(const ContainerRoot& root) {
  ::umask(0);
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return fail_errno(errno, "leaving the machine's mounts");
  std::array<Fd, kNetworkFiles.size()> files;
  for (size_t i = 0; i < files.size(); ++i) {
    files[i] = take_mount(root.files / kNetworkFiles[i]);
    if (!files[i]) return fail_errno(errno, fmt::format("taking {}", kNetworkFiles[i]));
  }
  if (::chdir(root.root.c_str()) != 0 || ::syscall(SYS_pivot_root, ".", ".") != 0 ||
      ::umount2(".", MNT_DETACH) != 0 || ::chdir("/") != 0)
    return fail_errno(errno, "changing the root");
  // From here on links of the image's end inside it.
  HOB_CHECK(mount_kernel_files());
  HOB_CHECK(make_devices());
  HOB_CHECK(make("/etc", 0755));
  for (size_t i = 0; i < files.size(); ++i) {
    const fs::path target = fs::path("/etc") / kNetworkFiles[i];
    // A dangling link or nothing: a file to mount over. What is there stays.
    const Fd place(::open(target.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644));
    HOB_CHECK(put_mount(files[i], target));
  }
  HOB_CHECK(hide_kernel_files());
  ::umask(022);
  return {};
}

}  // namespace hob::guest
