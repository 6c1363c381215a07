#include "sandbox/vm_run/jail.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.h"
#include "sandbox/microvm_layout.h"

namespace hob::sandbox {
namespace {

constexpr int kRootBytesBesides = 256 << 10;  // folders and device files, beside the program
constexpr int kRootFilesMax = 64;             // it begins with about 20
constexpr unsigned long kDataFlags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

// Not without its limits.
Result<void> enter_cgroups(const std::vector<std::string>& files) {
  for (const std::string& file : files) {
    const Fd processes(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
    if (!processes || ::write(processes.get(), "0", 1) != 1)
      return fail_errno(errno, "entering " + file);
  }
  return {};
}

Result<void> bind(const std::string& from, const std::string& to, unsigned long flags) {
  if (::mount(from.c_str(), to.c_str(), nullptr, MS_BIND, nullptr) != 0 ||
      ::mount(nullptr, to.c_str(), nullptr, MS_BIND | MS_REMOUNT | kDataFlags | flags, nullptr) !=
          0)
    return fail_errno(errno, "mounting " + from + " in the jail");
  return {};
}

Result<void> bind_file(const std::string& from, const std::string& to, unsigned long flags) {
  const Fd place(::open(to.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, S_IRUSR));
  if (!place) return fail_errno(errno, "making " + to);
  return bind(from, to, flags);
}

// As hob-jailer calls it.
std::string root_of(const JailPlan& plan) {
  const std::string program = plan.vmm.substr(plan.vmm.rfind('/') + 1);
  return fmt::format("{}/{}/{}/root", kJailFolder, program, plan.id);
}

Result<void> make_root(const JailPlan& plan) {
  struct stat program {};
  if (::stat(plan.vmm.c_str(), &program) != 0) return fail_errno(errno, plan.vmm);
  if (::unshare(CLONE_NEWNS) != 0 ||
      ::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0)
    return fail_errno(errno, "leaving the machine's mounts");
  const std::string options = fmt::format("size={},nr_inodes={},mode=700",
                                          program.st_size + kRootBytesBesides, kRootFilesMax);
  HOB_CHECK(make_directories(kJailFolder, S_IRWXU));
  if (::mount("jail", kJailFolder, "tmpfs", MS_NOSUID, options.c_str()) != 0)
    return fail_errno(errno, "mounting the jail");
  const std::string root = root_of(plan);
  HOB_CHECK(make_directories(root + "/" + kRunFolder, S_IRWXU));
  HOB_CHECK(bind(kRunFolder, root + "/" + kRunFolder, 0));
  HOB_CHECK(bind_file(kScratchFile, root + "/" + kScratchFile, 0));
  HOB_CHECK(bind_file(kMachineFile, root + "/" + kMachineFile, MS_RDONLY));
  HOB_CHECK(bind_file(plan.kernel, root + "/" + kKernelFile, MS_RDONLY));
  HOB_CHECK(bind_file(plan.initrd, root + "/" + kInitrdFile, MS_RDONLY));
  return bind_file(plan.image, root + "/" + kImageFile, MS_RDONLY);
}

Result<void> execute(const JailPlan& plan) {
  HOB_CHECK(enter_cgroups(plan.cgroups));
  HOB_CHECK(make_root(plan));
  const std::string user = std::to_string(plan.user);
  std::vector<std::string> words = {plan.jailer,
                                    "--id",
                                    plan.id,
                                    "--exec-file",
                                    plan.vmm,
                                    "--uid",
                                    user,
                                    "--gid",
                                    user,
                                    "--chroot-base-dir",
                                    kJailFolder,
                                    "--resource-limit",
                                    "fsize=" + plan.file_bytes_max};
  if (!plan.network.empty()) words.insert(words.end(), {"--netns", plan.network});
  words.insert(words.end(), {"--", "--api-sock", kApiSocketFile, "--config-file", kMachineFile});
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(argv[0], argv.data());
  return fail_errno(errno, plan.jailer);
}

}  // namespace

Error execute_jailed(const JailPlan& plan) { return execute(plan).error(); }

}  // namespace hob::sandbox
