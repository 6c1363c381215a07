#include "image/layer_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.h"
#include "base/log.h"
#include "image/content_digest.h"

namespace hob::image {

namespace fs = std::filesystem;

namespace {

constexpr const char* kBootIdFile = "/proc/sys/kernel/random/boot_id";
constexpr size_t kBootIdBytesMax = 256;

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    names.push_back(at->path().filename().string());
  }
  return names;
}

}  // namespace

Result<void> LayerStore::open() {
  HOB_CHECK(make_directories(directory_, 0700));
  // Leftovers of pulls that were killed.
  HOB_CHECK(remove_tree(directory_ / "tmp"));
  for (const char* name : {"tmp", "layers", "layers/sha256", "layers/durable", "images"}) {
    HOB_CHECK(make_directories(directory_ / name, 0700));
  }
  HOB_TRY(const std::string boot, read_file(kBootIdFile, kBootIdBytesMax));
  const fs::path boot_file = directory_ / "layers" / "boot";
  const Result<std::string> last_boot = read_file(boot_file, kBootIdBytesMax);
  if (last_boot && *last_boot == boot) return {};
  for (const std::string& name : names_in(directory_ / "layers" / "sha256")) {
    const std::string diff_id = std::string(kDigestPrefix) + name;
    if (is_digest(diff_id) && fs::exists(mark(diff_id))) continue;
    log::info("removing a layer that may not be whole after a reboot", {{"layer", name}});
    HOB_CHECK(remove_tree(directory_ / "layers" / "sha256" / name));
  }
  return write_file_durably(boot_file, boot, 0600);
}

fs::path LayerStore::path(const std::string& diff_id) const {
  return directory_ / "layers" / "sha256" / digest_hex(diff_id);
}

fs::path LayerStore::mark(const std::string& diff_id) const {
  return directory_ / "layers" / "durable" / digest_hex(diff_id);
}

bool LayerStore::has(const std::string& diff_id) const {
  std::error_code error;
  return fs::is_directory(path(diff_id), error);
}

Result<fs::path> LayerStore::make_temporary() {
  uint64_t number = 0;
  {
    const std::scoped_lock lock(mutex_);
    number = ++temporaries_;
  }
  fs::path temporary = directory_ / "tmp" / std::to_string(number);
  if (::mkdir(temporary.c_str(), 0700) != 0)
    return fail_errno(errno, "making a directory for a layer");
  return temporary;
}

Result<void> LayerStore::place(const fs::path& temporary, const std::string& diff_id) {
  if (::rename(temporary.c_str(), path(diff_id).c_str()) == 0) return {};
  if (errno != EEXIST && errno != ENOTEMPTY)
    return fail_errno(errno, "putting a layer in its place");
  return remove_tree(temporary);
}

void LayerStore::make_durable(const std::string& diff_id) {
  const Fd layer(::open(path(diff_id).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!layer || ::syncfs(layer.get()) != 0) return;
  if (const auto written = write_file_durably(mark(diff_id), "", 0600); !written) {
    log::warn("a layer was not marked as flushed",
              {{"layer", diff_id}, {"error", written.error().message}});
  }
}

Result<std::vector<fs::path>> LayerStore::take_others(const std::set<std::string>& keep) {
  std::vector<fs::path> taken;
  for (const std::string& name : names_in(directory_ / "layers" / "sha256")) {
    const std::string diff_id = std::string(kDigestPrefix) + name;
    if (!is_digest(diff_id) || keep.contains(diff_id)) continue;
    {
      const std::scoped_lock lock(mutex_);
      if (used_.contains(diff_id)) continue;
    }
    std::error_code error;
    fs::remove(mark(diff_id), error);
    // Out of the way in one step, so that what is in its place is always whole.
    HOB_TRY(const fs::path grave, make_temporary());
    if (::rename(path(diff_id).c_str(), grave.c_str()) != 0)
      return fail_errno(errno, "removing a layer");
    taken.push_back(grave);
  }
  return taken;
}

LayerStore::Use::Use(LayerStore& store, std::vector<std::string> diff_ids)
    : store_(store), diff_ids_(std::move(diff_ids)) {
  const std::shared_lock no_pruning(store_.pruning_);
  const std::scoped_lock lock(store_.mutex_);
  for (const std::string& diff_id : diff_ids_) ++store_.used_[diff_id];
}

LayerStore::Use::~Use() {
  const std::scoped_lock lock(store_.mutex_);
  for (const std::string& diff_id : diff_ids_) {
    if (--store_.used_[diff_id] == 0) store_.used_.erase(diff_id);
  }
}

LayerStore::Claim::Claim(LayerStore& store, std::string diff_id)
    : store_(store), diff_id_(std::move(diff_id)) {
  std::unique_lock lock(store_.mutex_);
  store_.released_.wait(lock, [this] { return !store_.claimed_.contains(diff_id_); });
  store_.claimed_.insert(diff_id_);
}

LayerStore::Claim::~Claim() {
  {
    const std::scoped_lock lock(store_.mutex_);
    store_.claimed_.erase(diff_id_);
  }
  store_.released_.notify_all();
}

}  // namespace hob::image
