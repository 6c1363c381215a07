#include "guest/task_root.h"

#include <elf.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

namespace hob::guest {

namespace {

constexpr size_t kHeadBytes =
    256;  // the kernel looks at as many to tell what a program is (BINPRM_BUF_SIZE)

#if defined(__x86_64__)
constexpr Elf64_Half kMachine = EM_X86_64;
constexpr Elf64_Half kMachine32 = EM_386;
constexpr const char* kArchitecture = "x86_64";
#elif defined(__aarch64__)
constexpr Elf64_Half kMachine = EM_AARCH64;
constexpr Elf64_Half kMachine32 = EM_ARM;
constexpr const char* kArchitecture = "aarch64";
#endif

std::string join(const std::string& directory, const std::string& name) {
  return directory.ends_with('/') ? directory + name : directory + "/" + name;
}

bool is_executable_file(const Fd& file) {
  struct stat info {};
  return ::fstat(file.get(), &info) == 0 && S_ISREG(info.st_mode) && (info.st_mode & 0111) != 0;
}

std::string read_start(const Fd& file, size_t bytes_max) {
  std::string content(bytes_max, '\0');
  size_t have = 0;
  while (have < bytes_max) {
    const ssize_t got =
        ::pread(file.get(), content.data() + have, bytes_max - have, static_cast<off_t>(have));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    have += static_cast<size_t>(got);
  }
  content.resize(have);
  return content;
}

// Why the kernel would refuse to execute a file that begins so; nullopt: it would not. An unknown
// format is left to the kernel, which may have a handler for it.
std::optional<std::string> refusal(const std::string& head) {
  if (head.empty()) return "exec format error: the file is empty";
  if (!head.starts_with(ELFMAG) || head.size() < offsetof(Elf64_Ehdr, e_version))
    return std::nullopt;
  Elf64_Half machine = 0;
  std::memcpy(&machine, head.data() + offsetof(Elf64_Ehdr, e_machine), sizeof(machine));
  if (machine == kMachine || machine == kMachine32) return std::nullopt;
  return fmt::format("exec format error: it is built for another architecture than {}",
                     kArchitecture);
}

}  // namespace

Result<TaskRoot> TaskRoot::open(const std::filesystem::path& root) {
  Fd fd(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "opening " + root.string());
  return TaskRoot(std::move(fd));
}

Fd TaskRoot::open_inside(const std::string& path, int flags) const {
  open_how how{};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  return Fd(static_cast<int>(::syscall(SYS_openat2, root_.get(), path.c_str(), &how, sizeof(how))));
}

std::string TaskRoot::read(const std::string& path, size_t bytes_max) const {
  // O_NONBLOCK: a FIFO of that name must not hold us.
  const Fd file = open_inside(path, O_RDONLY | O_NONBLOCK);
  struct stat info {};
  if (!file || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) return {};
  return read_start(file, std::min(bytes_max, static_cast<size_t>(info.st_size)));
}

Result<void> TaskRoot::make_directories(const std::string& path, uid_t owner) const {
  if (!path.starts_with('/'))
    return fail(Code::kInvalid, "the working directory '{}' is not absolute", path);
  for (size_t at = 1; at <= path.size(); ++at) {
    if (at < path.size() && path[at] != '/') continue;
    const std::string part = path.substr(0, at);
    if (open_inside(part, O_PATH | O_DIRECTORY)) continue;
    if (errno != ENOENT) return fail(Code::kInvalid, "mkdir {}: {}", part, std::strerror(errno));
    const size_t slash = part.rfind('/');
    const std::string name = part.substr(slash + 1);
    const Fd parent = open_inside(slash == 0 ? "/" : part.substr(0, slash), O_RDONLY | O_DIRECTORY);
    // A dangling link of that name makes mkdir fail, which is right.
    if (!parent || ::mkdirat(parent.get(), name.c_str(), 0755) != 0 ||
        ::fchownat(parent.get(), name.c_str(), owner, owner, AT_SYMLINK_NOFOLLOW) != 0) {
      return fail(Code::kInvalid, "mkdir {}: {}", part, std::strerror(errno));
    }
  }
  return {};
}

Result<void> TaskRoot::check_program(const std::string& program, const std::string& search_path,
                                     const std::string& directory) const {
  const auto check = [&](const Fd& file) -> Result<void> {
    const auto refused = refusal(read_start(file, kHeadBytes));
    if (refused) return fail(Code::kInvalid, "exec: \"{}\": {}", program, *refused);
    return {};
  };
  if (program.contains('/')) {
    const Fd file = open_inside(program.starts_with('/') ? program : join(directory, program),
                                O_RDONLY | O_NONBLOCK);
    if (!file) return fail(Code::kInvalid, "exec: \"{}\": {}", program, std::strerror(errno));
    if (!is_executable_file(file))
      return fail(Code::kInvalid, "exec: \"{}\": permission denied", program);
    return check(file);
  }
  for (size_t at = 0; at <= search_path.size();) {
    const size_t end = std::min(search_path.find(':', at), search_path.size());
    const std::string folder = search_path.substr(at, end - at);
    at = end + 1;
    const Fd file =
        open_inside(join(folder.empty() ? directory : folder, program), O_RDONLY | O_NONBLOCK);
    if (file && is_executable_file(file)) return check(file);
  }
  return fail(Code::kInvalid, "exec: \"{}\": executable file not found in $PATH", program);
}

}  // namespace hob::guest
