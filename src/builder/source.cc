#include "builder/source.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "builder/ignore.h"

namespace hob::builder {

namespace {

constexpr std::string_view kArchiveSuffix = ".oci.tar";

struct DirectoryCloser {
  void operator()(DIR* directory) const { ::closedir(directory); }
};
using Directory = std::unique_ptr<DIR, DirectoryCloser>;

Result<std::string> read_all(const Fd& file, size_t bytes_max, const std::string& path) {
  std::string text;
  char piece[64 * 1024];
  while (true) {
    const ssize_t got = ::read(file.get(), piece, sizeof piece);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "reading " + path);
    if (got == 0) return text;
    text.append(piece, static_cast<size_t>(got));
    if (text.size() > bytes_max) {
      return fail(Code::kLimit, "{} is larger than {} bytes", path, bytes_max);
    }
  }
}

// Follows no link on the way, whoever puts one there meanwhile.
Fd open_beneath(const Fd& root, const std::string& path, uint64_t flags) {
  open_how how{};
  how.flags = flags | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  return Fd(static_cast<int>(
      ::syscall(SYS_openat2, root.get(), path.empty() ? "." : path.c_str(), &how, sizeof how)));
}

class Folder final : public Source {
 public:
  explicit Folder(Fd root) : root_(std::move(root)) {}

  const std::vector<SourceFile>& files() const override { return files_; }

  Result<std::string> read(const std::string& path, size_t bytes_max) const override {
    const SourceFile* file = find(path);
    if (file == nullptr || file->kind != SourceFile::Kind::kFile) {
      return fail(Code::kNotFound, "there is no file {}", path);
    }
    const Fd opened = open_beneath(root_, path, O_RDONLY | O_NONBLOCK);
    if (!opened) return fail_errno(errno, "opening " + path);
    return read_all(opened, bytes_max, path);
  }

  Result<void> list() {
    HOB_CHECK(walk("", 0));
    std::ranges::sort(files_, {}, &SourceFile::path);
    return {};
  }

 private:
  Result<void> add_rules(int directory, const std::string& where) {
    for (const char* name : {".gitignore", ".hobignore"}) {
      const Fd file(::openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
      if (!file) continue;
      const std::string path = where.empty() ? name : where + "/" + name;
      HOB_TRY(const std::string text, read_all(file, kIgnoreBytesMax, path));
      HOB_CHECK(context(rules_.add(where, text), "{}", path));
    }
    return {};
  }

  Result<void> walk(const std::string& where, int depth) {
    if (depth > kSourceDepthMax) {
      return fail(Code::kLimit, "{} is nested deeper than {} folders", where, kSourceDepthMax);
    }
    Fd file = open_beneath(root_, where, O_RDONLY | O_DIRECTORY);
    if (!file) return fail_errno(errno, "opening " + where);
    const int opened = file.release();
    const Directory directory(::fdopendir(opened));
    HOB_CHECK(add_rules(opened, where));
    std::vector<std::string> folders;
    while (const dirent* entry = ::readdir(directory.get())) {
      const std::string name = entry->d_name;
      // What `hob build` leaves beside the source is not part of the next.
      if (name == "." || name == ".." || name == ".git" || name.ends_with(kArchiveSuffix)) continue;
      HOB_CHECK(add(opened, where.empty() ? name : where + "/" + name, name, folders));
    }
    for (const std::string& folder : folders) HOB_CHECK(walk(folder, depth + 1));
    return {};
  }

  Result<void> add(int directory, const std::string& path, const std::string& name,
                   std::vector<std::string>& folders) {
    struct stat status {};
    if (::fstatat(directory, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return {};  // gone
    if (rules_.ignored(path, S_ISDIR(status.st_mode))) return {};
    SourceFile file{.path = path, .executable = (status.st_mode & S_IXUSR) != 0};
    if (S_ISDIR(status.st_mode)) {
      file.kind = SourceFile::Kind::kDirectory;
      folders.push_back(path);
    } else if (S_ISLNK(status.st_mode)) {
      char target[PATH_MAX];
      const ssize_t length = ::readlinkat(directory, name.c_str(), target, sizeof target);
      if (length < 0) return {};
      file.kind = SourceFile::Kind::kLink;
      file.target.assign(target, static_cast<size_t>(length));
    } else if (S_ISREG(status.st_mode)) {
      file.size = static_cast<uint64_t>(status.st_size);
    } else {
      return {};
    }
    bytes_ += file.size;
    files_.push_back(std::move(file));
    if (files_.size() > kSourceFilesMax) {
      return fail(Code::kLimit,
                  "more than {} files; name what the application does not need in "
                  ".hobignore (node_modules, data)",
                  kSourceFilesMax);
    }
    if (bytes_ > kSourceBytesMax) {
      return fail(Code::kLimit,
                  "more than {} MiB (at {}); name what the application does not need "
                  "in .hobignore",
                  kSourceBytesMax >> 20, path);
    }
    return {};
  }

  Fd root_;
  IgnoreRules rules_;
  std::vector<SourceFile> files_;
  uint64_t bytes_ = 0;
};

}  // namespace

const SourceFile* Source::find(std::string_view path) const {
  const std::vector<SourceFile>& all = files();
  const auto found = std::ranges::lower_bound(
      all, path, {}, [](const SourceFile& file) { return std::string_view(file.path); });
  return found == all.end() || found->path != path ? nullptr : &*found;
}

std::string Source::first_match(std::string_view pattern) const {
  for (const SourceFile& file : files()) {
    if (file.kind != SourceFile::Kind::kDirectory && glob_matches(pattern, file.path)) {
      return file.path;
    }
  }
  return {};
}

Result<std::unique_ptr<Source>> open_folder(const std::filesystem::path& folder) {
  Fd root(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) {
    if (errno == ENOENT) return fail(Code::kNotFound, "there is no folder {}", folder.string());
    return fail_errno(errno, "opening " + folder.string());
  }
  auto made = std::make_unique<Folder>(std::move(root));
  HOB_CHECK(made->list());
  return made;
}

}  // namespace hob::builder
