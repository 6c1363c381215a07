#include "image/layer_tree.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "image/limits.h"

namespace hob::image {

namespace {

constexpr const char* kOpaqueAttribute = "trusted.overlay.opaque";
constexpr mode_t kImpliedDirectoryMode =
    0755;  // of a parent that the archive does not list; Docker's choice
constexpr size_t kDirectoryNameBytesMax = 64 * 1024 * 1024;  // kept until the end, for their times
constexpr size_t kRemoveDepthMax = 2'000;                    // below what PATH_MAX allows

// What the disk does to us is kUnavailable, what the archive asks of it kCorrupt.
std::unexpected<Error> broken(int error, const char* doing) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return fail(Code::kUnavailable, "{}: the disk is full ({})", doing, std::strerror(error));
    case EIO:
    case EROFS:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EPERM:
    case EACCES:
      return fail(Code::kUnavailable, "{}: {}", doing, std::strerror(error));
    default:
      return fail(Code::kCorrupt, "{}: {}", doing, std::strerror(error));
  }
}

int open_beneath(int directory, const char* path) {
  open_how how{};
  how.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
  return static_cast<int>(::syscall(SYS_openat2, directory, path, &how, sizeof how));
}

bool is_whiteout(const struct stat& status) {
  return S_ISCHR(status.st_mode) && status.st_rdev == makedev(0, 0);
}

Result<void> set_opaque(int directory) {
  if (::fsetxattr(directory, kOpaqueAttribute, "y", 1, 0) != 0)
    return broken(errno, "marking a directory opaque");
  return {};
}

Result<void> remove_beneath(int parent, const std::string& name, size_t depth_left) {
  if (::unlinkat(parent, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  if (errno != EISDIR && errno != EPERM) return broken(errno, "replacing an earlier entry");
  if (depth_left == 0)
    return fail(Code::kLimit, "directories are nested over {} deep", kRemoveDepthMax);
  for (;;) {  // names are gathered anew until none is left, so that removing does not upset the
              // reading
    const Fd directory(open_beneath(parent, name.c_str()));
    if (!directory) return broken(errno, "replacing an earlier directory");
    bool found = false;
    alignas(8) char buffer[32768];
    for (;;) {
      const long got = ::syscall(SYS_getdents64, directory.get(), buffer, sizeof buffer);
      if (got < 0) return broken(errno, "reading a directory");
      if (got == 0) break;
      for (long at = 0; at < got;) {
        struct Head {
          uint64_t inode;
          int64_t offset;
          unsigned short length;
          unsigned char type;
        } head{};
        std::memcpy(&head, buffer + at, 19);  // the kernel's linux_dirent64: the name follows at 19
        const std::string child(buffer + at + 19);
        at += head.length;
        if (child == "." || child == "..") continue;
        found = true;
        HOB_CHECK(remove_beneath(directory.get(), child, depth_left - 1));
      }
    }
    if (!found) break;
  }
  if (::unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0)
    return broken(errno, "replacing an earlier directory");
  return {};
}

}  // namespace

Result<std::vector<std::string>> split_entry_path(std::string_view path) {
  if (path.size() > kEntryNameBytesMax)
    return fail(Code::kLimit, "a name over {} bytes", kEntryNameBytesMax);
  if (path.find('\0') != std::string_view::npos)
    return fail(Code::kCorrupt, "a name with a zero byte");
  std::vector<std::string> pieces;
  while (!path.empty()) {
    const size_t slash = std::min(path.find('/'), path.size());
    const std::string_view piece = path.substr(0, slash);
    path.remove_prefix(std::min(slash + 1, path.size()));
    if (piece.empty() || piece == ".") continue;
    if (piece == "..") return fail(Code::kCorrupt, "a name with '..' leads out of the image");
    pieces.emplace_back(piece);
  }
  return pieces;
}

Result<LayerTree> LayerTree::open(const std::filesystem::path& root) {
  Fd fd(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return fail_errno(errno, "opening " + root.string());
  if (::fchmod(fd.get(), kImpliedDirectoryMode) != 0)
    return fail_errno(errno, "chmod " + root.string());
  return LayerTree(std::move(fd));
}

Result<Fd> LayerTree::walk(const std::vector<std::string>& pieces, size_t count, Missing missing) {
  Fd at(::openat(root_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!at) return broken(errno, "opening the layer's root");
  for (size_t i = 0; i < count; ++i) {
    const std::string& name = pieces[i];
    Fd next(open_beneath(at.get(), name.c_str()));
    if (!next) {
      const int error = errno;
      struct stat status{};
      const bool exists = ::fstatat(at.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
      if (exists && S_ISLNK(status.st_mode)) {
        return fail(Code::kCorrupt, "it goes through the symbolic link '{}'", name);
      }
      const bool may_make = missing == Missing::kMake && (!exists || is_whiteout(status));
      if (exists && !may_make)
        return fail(Code::kCorrupt, "it goes through '{}', which is no directory", name);
      if (!may_make || (error != ENOENT && error != ENOTDIR))
        return broken(error, "opening a directory");
      HOB_CHECK(make_directory(at.get(), name));
      next = Fd(open_beneath(at.get(), name.c_str()));
      if (!next) return broken(errno, "opening a new directory");
    }
    at = std::move(next);
  }
  return at;
}

Result<int> LayerTree::parent(const std::vector<std::string>& path, Missing missing) {
  const std::vector<std::string> wanted(path.begin(), path.end() - 1);
  if (cached_ && wanted == cached_path_) return cached_.get();
  HOB_TRY(cached_, walk(path, wanted.size(), missing));
  cached_path_ = wanted;
  return cached_.get();
}

Result<void> LayerTree::clear(int parent, const std::string& name) {
  // What is removed may be the cached directory or above it.
  struct stat status{};
  if (::fstatat(parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    return errno == ENOENT ? Result<void>() : broken(errno, "looking at an earlier entry");
  }
  return remove_beneath(parent, name, kRemoveDepthMax);
}

// In place of a whiteout of this layer, it must go on hiding what is below.
Result<void> LayerTree::make_directory(int parent, const std::string& name) {
  struct stat status{};
  const bool exists = ::fstatat(parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
  const bool hides = exists && is_whiteout(status);
  if (exists) HOB_CHECK(clear(parent, name));
  if (::mkdirat(parent, name.c_str(), kImpliedDirectoryMode) != 0)
    return broken(errno, "making a directory");
  const Fd made(open_beneath(parent, name.c_str()));
  if (!made) return broken(errno, "opening a new directory");
  if (::fchmod(made.get(), kImpliedDirectoryMode) != 0)
    return broken(errno, "chmod");  // whatever the umask
  if (hides) HOB_CHECK(set_opaque(made.get()));
  return {};
}

Result<void> LayerTree::directory(const std::vector<std::string>& path,
                                  const EntryMetadata& metadata) {
  Fd made;
  if (path.empty()) {
    made = Fd(::openat(root_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  } else {
    HOB_TRY(const int above, parent(path, Missing::kMake));
    made = Fd(open_beneath(above, path.back().c_str()));
    if (!made) {
      HOB_CHECK(make_directory(above, path.back()));
      made = Fd(open_beneath(above, path.back().c_str()));
    }
  }
  if (!made) return broken(errno, "opening a directory");
  HOB_CHECK(finish_file(made, metadata));
  std::string name = path.empty() ? "." : "";
  for (const std::string& piece : path) name.append(name.empty() ? "" : "/").append(piece);
  directory_name_bytes_ += name.size();
  if (directory_name_bytes_ > kDirectoryNameBytesMax) {
    return fail(Code::kLimit, "the names of directories are over {} bytes altogether",
                kDirectoryNameBytesMax);
  }
  directory_times_.emplace_back(std::move(name), metadata.modified);
  return {};
}

Result<Fd> LayerTree::file(const std::vector<std::string>& path) {
  if (path.empty()) return fail(Code::kCorrupt, "a file in the place of the root directory");
  HOB_TRY(const int above, parent(path, Missing::kMake));
  HOB_CHECK(clear(above, path.back()));
  Fd file(::openat(above, path.back().c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                   0600));
  if (!file) return broken(errno, "making a file");
  return file;
}

// The order matters: chown() drops set-id bits and capabilities.
Result<void> LayerTree::finish_file(const Fd& file, const EntryMetadata& metadata) {
  if (::fchown(file.get(), metadata.owner, metadata.group) != 0)
    return broken(errno, "setting the owner");
  if (::fchmod(file.get(), metadata.mode) != 0) return broken(errno, "setting the mode");
  for (const auto& [name, value] : metadata.attributes) {
    if (::fsetxattr(file.get(), name.c_str(), value.data(), value.size(), 0) == 0) continue;
    // A file system without this kind of attribute: the image runs as well as on any other machine
    // like this.
    if (errno == ENOTSUP) continue;
    return broken(errno, "setting an attribute");
  }
  const timespec times[2] = {metadata.modified, metadata.modified};
  if (::futimens(file.get(), times) != 0) return broken(errno, "setting the time");
  return {};
}

Result<void> LayerTree::symbolic_link(const std::vector<std::string>& path,
                                      const std::string& target, const EntryMetadata& metadata) {
  if (path.empty()) return fail(Code::kCorrupt, "a link in the place of the root directory");
  HOB_TRY(const int above, parent(path, Missing::kMake));
  const char* name = path.back().c_str();
  HOB_CHECK(clear(above, path.back()));
  if (::symlinkat(target.c_str(), above, name) != 0) return broken(errno, "making a symbolic link");
  if (::fchownat(above, name, metadata.owner, metadata.group, AT_SYMLINK_NOFOLLOW) != 0) {
    return broken(errno, "setting the owner");
  }
  const timespec times[2] = {metadata.modified, metadata.modified};
  if (::utimensat(above, name, times, AT_SYMLINK_NOFOLLOW) != 0)
    return broken(errno, "setting the time");
  return {};
}

Result<void> LayerTree::fifo(const std::vector<std::string>& path, const EntryMetadata& metadata) {
  if (path.empty()) return fail(Code::kCorrupt, "a pipe in the place of the root directory");
  HOB_TRY(const int above, parent(path, Missing::kMake));
  const char* name = path.back().c_str();
  HOB_CHECK(clear(above, path.back()));
  if (::mknodat(above, name, S_IFIFO | 0600, 0) != 0) return broken(errno, "making a pipe");
  if (::fchownat(above, name, metadata.owner, metadata.group, AT_SYMLINK_NOFOLLOW) != 0) {
    return broken(errno, "setting the owner");
  }
  // It was made this moment in a directory that nobody else can reach: the name is still the pipe.
  if (::fchmodat(above, name, metadata.mode, 0) != 0) return broken(errno, "setting the mode");
  const timespec times[2] = {metadata.modified, metadata.modified};
  if (::utimensat(above, name, times, AT_SYMLINK_NOFOLLOW) != 0)
    return broken(errno, "setting the time");
  return {};
}

Result<void> LayerTree::hard_link(const std::vector<std::string>& path,
                                  const std::vector<std::string>& target) {
  if (path.empty() || target.empty())
    return fail(Code::kCorrupt, "a hard link to or from the root directory");
  if (path == target) return fail(Code::kCorrupt, "a hard link to itself");
  const std::string linked = fmt::format("its target '{}'", target.back());
  HOB_TRY(const Fd from, context(walk(target, target.size() - 1, Missing::kRefuse), "{}", linked));
  struct stat status{};
  if (::fstatat(from.get(), target.back().c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    return fail(Code::kCorrupt, "{} is not in this layer", linked);
  }
  if (S_ISDIR(status.st_mode) || S_ISCHR(status.st_mode))
    return fail(Code::kCorrupt, "{} is no file", linked);
  HOB_TRY(const int above, parent(path, Missing::kMake));
  HOB_CHECK(clear(above, path.back()));
  if (::linkat(from.get(), target.back().c_str(), above, path.back().c_str(), 0) != 0) {
    return broken(errno, "making a hard link");
  }
  return {};
}

Result<void> LayerTree::whiteout(const std::vector<std::string>& path) {
  HOB_TRY(const int above, parent(path, Missing::kMake));
  const Fd directory(open_beneath(above, path.back().c_str()));
  if (directory) return set_opaque(directory.get());
  // A file of this layer with that name hides what is below by itself.
  if (::mknodat(above, path.back().c_str(), S_IFCHR | 0600, makedev(0, 0)) != 0 &&
      errno != EEXIST) {
    return broken(errno, "making a whiteout");
  }
  return {};
}

Result<void> LayerTree::opaque(const std::vector<std::string>& directory) {
  HOB_TRY(const Fd made, walk(directory, directory.size(), Missing::kMake));
  return set_opaque(made.get());
}

Result<void> LayerTree::finish() {
  for (const auto& [path, modified] : directory_times_) {
    // A later entry may have replaced the directory by something else.
    const Fd directory(open_beneath(root_.get(), path.c_str()));
    if (!directory) continue;
    const timespec times[2] = {modified, modified};
    if (::futimens(directory.get(), times) != 0) return broken(errno, "setting the time");
  }
  return {};
}

}  // namespace hob::image
