// add_upper(): an overlay's upper directory as an image layer.
#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <map>

#include "builder/layer.h"

namespace hob::builder {

namespace {

constexpr int kDepthMax = 256;
constexpr size_t kAttributeBytesMax = 4096;

struct DirectoryCloser {
  void operator()(DIR* directory) const { ::closedir(directory); }
};
using Directory = std::unique_ptr<DIR, DirectoryCloser>;

std::string path_of(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

class Upper {
 public:
  Upper(LayerWriter& writer, const UpperOptions& options) : writer_(writer), options_(options) {}

  Result<void> add() {
    Fd root(::open(options_.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!root) return fail_errno(errno, "opening " + options_.directory.string());
    return walk(std::move(root), "", 0);
  }

 private:
  Result<void> walk(Fd opened, const std::string& where, int depth) {
    if (depth > kDepthMax) {
      return fail(Code::kLimit, "folders nested deeper than {}: {}…", kDepthMax,
                  where.substr(0, 100));
    }
    const int fd = opened.release();
    const Directory directory(::fdopendir(fd));
    std::vector<std::string> names;
    while (const dirent* entry = ::readdir(directory.get())) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
    }
    std::ranges::sort(names);
    for (const std::string& name : names) {
      HOB_CHECK(add_one(fd, name, where.empty() ? name : where + "/" + name, depth));
    }
    return {};
  }

  // Neither one of the wanted paths, nor below one, nor on the way to one.
  bool unwanted(const std::string& path) const {
    return !options_.only.empty() &&
           std::ranges::none_of(options_.only, [&](const std::string& each) {
             return path == each || path.starts_with(each + "/") || each.starts_with(path + "/");
           });
  }

  bool left_out(const std::string& path) const {
    return std::ranges::find(options_.leave_out, path) != options_.leave_out.end();
  }

  Result<void> add_one(int parent, const std::string& name, const std::string& path, int depth) {
    if (left_out(path) || unwanted(path)) return {};
    if (name.starts_with(".wh.")) {
      return fail(Code::kInvalid,
                  "{}: names that begin with \".wh.\" mean deletions in an image; "
                  "rename it",
                  path);
    }
    struct stat status {};
    if (::fstatat(parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
      return fail_errno(errno, "looking at " + path);
    }
    if (S_ISCHR(status.st_mode) && status.st_rdev == makedev(0, 0)) return whiteout(path, name);
    LayerWriter::Entry entry{.path = path,
                             .mode = status.st_mode,
                             .owner = status.st_uid - options_.first_id,
                             .group = status.st_gid - options_.first_id,
                             .modified = status.st_mtim.tv_sec};
    if (S_ISDIR(status.st_mode)) return add_directory(parent, name, entry, depth);
    if (S_ISREG(status.st_mode)) return add_file(parent, name, entry, status);
    if (S_ISLNK(status.st_mode)) {
      char target[PATH_MAX];
      const ssize_t length = ::readlinkat(parent, name.c_str(), target, sizeof target);
      if (length < 0) return fail_errno(errno, "reading the link " + path);
      entry.target.assign(target, static_cast<size_t>(length));
      return writer_.add(entry);
    }
    if (S_ISFIFO(status.st_mode)) return writer_.add(entry);
    return {};  // sockets end with who made them; devices cannot be made
  }

  Result<void> whiteout(const std::string& path, const std::string& name) {
    const std::string above = path.substr(0, path.size() - name.size());
    return writer_.add({.path = above + ".wh." + name, .mode = S_IFREG | 0644});
  }

  Result<void> add_directory(int parent, const std::string& name, const LayerWriter::Entry& entry,
                             int depth) {
    Fd opened(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!opened) return fail_errno(errno, "opening " + entry.path);
    HOB_CHECK(writer_.add(entry));
    char mark = 0;
    if (::fgetxattr(opened.get(), "trusted.overlay.opaque", &mark, 1) == 1 && mark == 'y') {
      HOB_CHECK(writer_.add({.path = entry.path + "/.wh..wh..opq", .mode = S_IFREG | 0644}));
    }
    if (std::ranges::find(options_.empty_out, entry.path) != options_.empty_out.end()) return {};
    return walk(std::move(opened), entry.path, depth + 1);
  }

  Result<void> add_file(int parent, const std::string& name, LayerWriter::Entry& entry,
                        const struct stat& status) {
    if (status.st_nlink > 1) {
      const auto [first, fresh] = links_.emplace(status.st_ino, entry.path);
      if (!fresh) {
        entry.hard_link = true;
        entry.target = first->second;
        return writer_.add(entry);
      }
    }
    const Fd file(::openat(parent, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!file) return fail_errno(errno, "opening " + entry.path);
    add_capability(file, entry);
    entry.size = static_cast<uint64_t>(status.st_size);
    HOB_CHECK(writer_.add(entry));
    uint64_t left = entry.size;
    std::string piece(256 * 1024, '\0');
    while (left > 0) {
      const ssize_t got = ::read(file.get(), piece.data(), std::min<uint64_t>(left, piece.size()));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return fail_errno(errno, "reading " + entry.path);
      if (got == 0)
        return fail(Code::kUnavailable, "{} became shorter while it was read", entry.path);
      HOB_CHECK(writer_.write(std::string_view(piece.data(), static_cast<size_t>(got))));
      left -= static_cast<uint64_t>(got);
    }
    return {};
  }

  // File capabilities set in a user namespace name its root (version 3); in an image they name
  // none.
  static void add_capability(const Fd& file, LayerWriter::Entry& entry) {
    char value[kAttributeBytesMax];
    const ssize_t length =
        ::getxattr(path_of(file.get()).c_str(), "security.capability", value, sizeof value);
    if (length < static_cast<ssize_t>(XATTR_CAPS_SZ_2)) return;
    uint32_t magic = 0;
    std::memcpy(&magic, value, sizeof magic);
    magic = (magic & VFS_CAP_FLAGS_MASK) | VFS_CAP_REVISION_2;
    std::memcpy(value, &magic, sizeof magic);
    entry.attributes.emplace_back("security.capability", std::string(value, XATTR_CAPS_SZ_2));
  }

  LayerWriter& writer_;
  const UpperOptions& options_;
  std::map<ino_t, std::string> links_;
};

}  // namespace

Result<void> add_upper(LayerWriter& writer, const UpperOptions& options) {
  return Upper(writer, options).add();
}

}  // namespace hob::builder
