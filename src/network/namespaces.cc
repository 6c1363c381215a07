#include "network/namespaces.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>

#include "base/assert.h"
#include "base/file.h"
#include "network/vpc.h"

namespace hob::network {

namespace {

constexpr const char* kOwnNamespace = "/proc/thread-self/ns/net";

// Brings the thread back where it was.
class ComeBack {
 public:
  static Result<ComeBack> from_here() {
    Fd here(::open(kOwnNamespace, O_RDONLY | O_CLOEXEC));
    if (!here) return fail_errno(errno, "opening the thread's network namespace");
    return ComeBack(std::move(here));
  }
  ComeBack(ComeBack&&) = default;
  ComeBack& operator=(ComeBack&&) = delete;
  ~ComeBack() {
    if (!here_) return;
    const bool back = ::setns(here_.get(), CLONE_NEWNET) == 0;
    HOB_ASSERT(back);  // a thread of the pool in a tenant's namespace must not go on
  }

 private:
  explicit ComeBack(Fd here) : here_(std::move(here)) {}
  Fd here_;
};

}  // namespace

Result<void> in_namespace(const std::filesystem::path& handle,
                          const std::function<Result<void>()>& body) {
  const Fd there(::open(handle.c_str(), O_RDONLY | O_CLOEXEC));
  if (!there)
    return fail_errno(errno, fmt::format("opening the network namespace {}", handle.string()));
  HOB_TRY(const ComeBack come_back, ComeBack::from_here());
  if (::setns(there.get(), CLONE_NEWNET) != 0) {
    return fail_errno(errno, fmt::format("entering the network namespace {}", handle.string()));
  }
  return body();
}

Result<void> make_namespace(const std::filesystem::path& handle,
                            const std::function<Result<void>()>& body) {
  if (is_namespace(handle))
    return fail(Code::kExists, "a network namespace is bound at {}", handle.string());
  const Fd file(::open(handle.c_str(), O_RDONLY | O_CREAT | O_CLOEXEC, 0600));
  if (!file) return fail_errno(errno, fmt::format("making {}", handle.string()));
  HOB_TRY(const ComeBack come_back, ComeBack::from_here());
  if (::unshare(CLONE_NEWNET) != 0) return fail_errno(errno, "making a network namespace");
  Result<void> made = body();
  if (made && ::mount(kOwnNamespace, handle.c_str(), nullptr, MS_BIND, nullptr) != 0) {
    made = fail_errno(errno, fmt::format("binding a network namespace at {}", handle.string()));
  }
  if (!made) ::unlink(handle.c_str());
  return made;
}

bool is_namespace(const std::filesystem::path& handle) {
  struct statfs info{};
  return ::statfs(handle.c_str(), &info) == 0 && info.f_type == NSFS_MAGIC;
}

Result<void> remove_namespace(const std::filesystem::path& handle) {
  // One mount for each set_up that raced or propagated; the loop ends with EINVAL when none is
  // left.
  while (is_namespace(handle) && ::umount2(handle.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) {
  }
  if (::unlink(handle.c_str()) != 0 && errno != ENOENT) {
    return fail_errno(errno, fmt::format("removing {}", handle.string()));
  }
  return {};
}

Result<void> set_sysctl(std::string_view name, std::string_view value) {
  const std::string path = fmt::format("/proc/sys/net/{}", name);
  const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) return fail_errno(errno, fmt::format("opening {}", path));
  if (::write(file.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size())) {
    return fail_errno(errno, fmt::format("writing {} to {}", value, path));
  }
  return {};
}

Result<std::string> get_sysctl(std::string_view name) {
  HOB_TRY(std::string value, read_file(fmt::format("/proc/sys/net/{}", name), 4096));
  while (!value.empty() && value.back() == '\n') value.pop_back();
  return value;
}

Result<Fd> socket_in(const std::filesystem::path& handle,
                     const std::function<Result<Fd>()>& function) {
  Fd made;
  HOB_CHECK(in_namespace(handle, [&]() -> Result<void> {
    HOB_TRY(made, function());
    return {};
  }));
  return made;
}

}  // namespace hob::network
