#include "builder/build_store.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include "base/digest.h"
#include "base/file.h"
#include "builder/records.h"
#include "image/byte_source.h"
#include "image/content_digest.h"
#include "image/unpack.h"
#include "sandbox/task_files.h"

namespace hob::builder {

namespace {

namespace fs = std::filesystem;

constexpr size_t kRecordBytesMax = 4096;
constexpr const char* kBootId = "/proc/sys/kernel/random/boot_id";

class FileBytes final : public image::ByteSource {
 public:
  explicit FileBytes(Fd file) : file_(std::move(file)) {}
  Result<std::string_view> read() override {
    while (true) {
      const ssize_t got = ::read(file_.get(), piece_.data(), piece_.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return fail_errno(errno, "reading a layer");
      return std::string_view(piece_.data(), static_cast<size_t>(got));
    }
  }

 private:
  Fd file_;
  std::array<char, 256 * 1024> piece_{};
};

std::string hex_of(std::string_view digest) { return std::string(image::digest_hex(digest)); }

Result<void> rename_into(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) == 0) return {};
  // Another build made the same meanwhile.
  if (errno == EEXIST || errno == ENOTEMPTY) return remove_tree(from);
  return fail_errno(errno, "renaming to " + to.string());
}

}  // namespace

Result<BuildStore> BuildStore::open(fs::path directory, Options options) {
  HOB_CHECK(make_directories(directory, 0700));
  BuildStore store(std::move(directory));
  store.boot_ = options.boot;
  if (store.boot_.empty()) {
    HOB_TRY(store.boot_, read_file(kBootId, kRecordBytesMax));
  }
  for (const char* name : {"blobs", "trees", "keys", "whole", "tmp"}) {
    HOB_CHECK(make_directories(store.directory_ / name, 0700));
  }
  store.clear_temporaries();
  const fs::path lock = store.directory_ / "lock";
  store.lock_ = Fd(::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!store.lock_) return fail_errno(errno, "opening " + lock.string());
  if (::flock(store.lock_.get(), LOCK_EX | LOCK_NB) == 0) HOB_CHECK(store.prune(options));
  if (::flock(store.lock_.get(), LOCK_SH) != 0) return fail_errno(errno, "locking the store");
  return store;
}

// Keys first: what no key leads to is nobody's, so whatever is left of it may be removed later.
Result<void> BuildStore::prune(const Options& options) const {
  struct Key {
    fs::file_time_type asked{};
    fs::path path{};
    Layer layer{};
  };
  std::vector<Key> keys;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory_ / "keys", ignored)) {
    Key key{.asked = entry.last_write_time(ignored), .path = entry.path()};
    const Result<std::string> text = read_file(key.path, kRecordBytesMax);
    const Result<Layer> layer = text ? decode_layer(*text) : fail(text.error());
    if (layer && image::is_digest(layer->diff_id) && image::is_digest(layer->digest)) {
      key.layer = *layer;
      keys.push_back(std::move(key));
    } else {
      fs::remove(key.path, ignored);
    }
  }
  std::ranges::sort(keys, std::ranges::greater(), &Key::asked);
  std::set<std::string> trees;
  std::set<std::string> blobs;
  uint64_t bytes = 0;
  for (const Key& key : keys) {
    if (!trees.contains(hex_of(key.layer.diff_id))) bytes += key.layer.size + key.layer.bytes;
    if (bytes > options.bytes_max) {
      fs::remove(key.path, ignored);
      continue;
    }
    trees.insert(hex_of(key.layer.diff_id));
    blobs.insert(hex_of(key.layer.digest));
  }
  const fs::path mark = directory_ / "pruned";
  const bool fresh =
      fs::exists(mark, ignored) &&
      fs::file_time_type::clock::now() - fs::last_write_time(mark, ignored) < options.prune_every;
  if (fresh && bytes <= options.bytes_max) return {};
  HOB_CHECK(sandbox::write_task_file(mark, "", 0));
  remove_unless("trees", trees);
  remove_unless("blobs", blobs);
  trees.merge(blobs);
  remove_unless("whole", trees);
  return {};
}

void BuildStore::remove_unless(const char* kind, const std::set<std::string>& names) const {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory_ / kind, ignored)) {
    const std::string name = entry.path().filename();
    if (names.contains(name)) continue;
    const fs::path gone = temporary("gone-" + name);  // never half there under its name
    fs::rename(entry.path(), gone, ignored);
    static_cast<void>(remove_tree(gone));  // what stays is tried again by the next open()
  }
}

// Names begin with the number of the process that made them.
void BuildStore::clear_temporaries() const {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory_ / "tmp", ignored)) {
    const std::string name = entry.path().filename();
    pid_t owner = 0;
    std::from_chars(name.data(), name.data() + name.size(), owner);
    const bool ended = owner > 0 && ::kill(owner, 0) != 0 && errno == ESRCH;
    // One that had our number is gone too: containers give the same numbers at every start.
    if (ended || owner == ::getpid()) {
      static_cast<void>(remove_tree(entry.path()));  // what stays is tried again
    }
  }
}

fs::path BuildStore::temporary(std::string_view name) const {
  return directory_ / "tmp" / fmt::format("{}-{}", ::getpid(), name);
}

fs::path BuildStore::tree(const Layer& layer) const {
  return directory_ / "trees" / hex_of(layer.diff_id);
}

fs::path BuildStore::blob(const Layer& layer) const {
  return directory_ / "blobs" / hex_of(layer.digest);
}

std::optional<Layer> BuildStore::find(std::string_view key) const {
  const fs::path file = directory_ / "keys" / hex(sha256(key));
  const Result<std::string> text = read_file(file, kRecordBytesMax);
  if (!text) return std::nullopt;
  const Result<Layer> layer = decode_layer(*text);
  if (!layer || !image::is_digest(layer->diff_id) || !image::is_digest(layer->digest)) {
    return std::nullopt;
  }
  std::error_code ignored;
  if (!fs::exists(tree(*layer), ignored) || !fs::exists(blob(*layer), ignored)) return std::nullopt;
  if (!check_whole(*layer)) return std::nullopt;
  ::utimensat(AT_FDCWD, file.c_str(), nullptr, 0);
  return *layer;
}

void BuildStore::forget(std::string_view key) const {
  std::error_code ignored;
  fs::remove(directory_ / "keys" / hex(sha256(key)), ignored);
}

// Has the layer's tree and its compressed file been seen whole in this run of the machine? One
// process at a time looks at a tree, and the others believe it: one that a build may stand on is
// never replaced.
Result<void> BuildStore::check_whole(const Layer& layer) const {
  const fs::path tree_mark = directory_ / "whole" / hex_of(layer.diff_id);
  const fs::path blob_mark = directory_ / "whole" / hex_of(layer.digest);
  const Fd lock(::open(tree_mark.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock || ::flock(lock.get(), LOCK_EX) != 0) return fail_errno(errno, "locking a layer");
  const auto is_marked = [&](const fs::path& mark) {
    const Result<std::string> seen = read_file(mark, kRecordBytesMax);
    return seen && *seen == boot_;
  };
  std::error_code ignored;
  const bool has_tree = is_marked(tree_mark) && fs::exists(tree(layer), ignored);
  if (has_tree && is_marked(blob_mark)) return {};
  const fs::path unpacked = temporary("tree");
  if (const Result<void> made = unpack(layer, unpacked); !made) {
    HOB_CHECK(remove_tree(unpacked));
    return made;
  }
  if (has_tree) {
    HOB_CHECK(remove_tree(unpacked));
  } else {
    const fs::path old = temporary("old-tree");
    if (::rename(tree(layer).c_str(), old.c_str()) == 0) HOB_CHECK(remove_tree(old));
    HOB_CHECK(rename_into(unpacked, tree(layer)));
  }
  HOB_CHECK(sandbox::write_task_file(tree_mark, boot_, 0));
  return sandbox::write_task_file(blob_mark, boot_, 0);
}

// kCorrupt: the compressed file is not the layer's.
Result<void> BuildStore::unpack(const Layer& layer, const fs::path& to) const {
  Fd file(::open(blob(layer).c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return fail_errno(errno, "opening " + blob(layer).string());
  HOB_CHECK(make_directories(to, 0755));
  FileBytes bytes(std::move(file));
  HOB_TRY(const image::UnpackedLayer made, image::unpack_layer(bytes, to, {}));
  if (made.diff_id != layer.diff_id) return fail(Code::kCorrupt, "a layer is not what it was");
  return {};
}

Result<void> BuildStore::put(std::string_view key, const Layer& layer,
                             const fs::path& compressed) const {
  if (::rename(compressed.c_str(), blob(layer).c_str()) != 0) {
    return fail_errno(errno, "keeping " + compressed.string());
  }
  if (const Result<void> whole = check_whole(layer); !whole) {
    std::error_code ignored;
    fs::remove(blob(layer), ignored);
    return whole;
  }
  const fs::path record = temporary("key");
  HOB_CHECK(sandbox::write_task_file(record, encode(layer), 0));
  return rename_into(record, directory_ / "keys" / hex(sha256(key)));
}

}  // namespace hob::builder
