#include "sandbox/erofs_images.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <sstream>
#include <thread>

#include "base/digest.h"
#include "base/file.h"
#include "base/process.h"
#include "sandbox/limits.h"

namespace hob::sandbox {
namespace {

namespace fs = std::filesystem;

constexpr Duration kMakeTimeout = std::chrono::minutes(10);  // an image of many GiB, a slow disk
constexpr size_t kListBytesMax = kLayersMax * 4'096;
constexpr const char* kImage = ".erofs";
constexpr const char* kLayers = ".layers";
constexpr const char* kPlace = ".mnt";

std::string list_of(const std::vector<fs::path>& layers) {
  std::string list;
  for (const fs::path& layer : layers) list += layer.string() + "\n";
  return list;
}

// All layers as one tree, in the mount namespace that this thread leaves the machine's for.
Result<void> mount_merged(const std::vector<fs::path>& layers, const fs::path& place) {
  // With it the thread has a working directory of its own, too.
  if (::unshare(CLONE_NEWNS) != 0 ||
      ::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0)
    return fail_errno(errno, "leaving the machine's mounts");
  if (::mount("layers", place.c_str(), "tmpfs", 0, "mode=700") != 0 || ::chdir(place.c_str()) != 0)
    return fail_errno(errno, "mounting " + place.string());
  // Short names: overlayfs takes a page of options.
  std::string lower;
  for (size_t i = 0; i < layers.size(); ++i) {
    const std::string name = std::to_string(i);
    if (::symlink(layers[i].c_str(), name.c_str()) != 0) return fail_errno(errno, "naming layers");
    lower += (i > 0 ? ":" : "") + name;
  }
  if (::mkdir("merged", 0755) != 0 ||
      ::mount("layers", "merged", "overlay", MS_RDONLY, ("lowerdir=" + lower).c_str()) != 0)
    return fail_errno(errno, fmt::format("mounting an overlay of {} layers", layers.size()));
  return {};
}

}  // namespace

Result<void> ErofsImages::open() {
  HOB_CHECK(make_directories(directory_, 0700));
  return sweep();
}

Result<void> ErofsImages::sweep() {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory_, ignored)) {
    const fs::path path = entry.path();
    if (path.extension() == kImage) continue;
    bool whole = path.extension() == kLayers;
    if (whole) {
      const auto list = read_file(path, kListBytesMax);
      std::istringstream lines(list.value_or(""));
      for (std::string layer; std::getline(lines, layer);) whole &= fs::exists(layer, ignored);
    }
    if (whole) continue;
    if (path.extension() == kLayers) fs::remove(fs::path(path).replace_extension(kImage), ignored);
    HOB_CHECK(remove_tree(path));
  }
  return {};
}

Result<fs::path> ErofsImages::image_of(const std::vector<fs::path>& layers) {
  if (layers.empty() || layers.size() > kLayersMax)
    return fail(Code::kInvalid, "an image of {} layers; it has 1 to {}", layers.size(), kLayersMax);
  const fs::path path = directory_ / (hex(sha256(list_of(layers))) + kImage);
  // One that is there waits for none that is being made.
  std::error_code ignored;
  if (fs::exists(path, ignored)) return path;
  const std::lock_guard lock(mutex_);
  if (fs::exists(path, ignored)) return path;
  HOB_CHECK(sweep());  // room for it
  Result<void> made;
  // What is mounted for it goes with the thread.
  std::thread([&] { made = make(layers, path); }).join();
  fs::remove(fs::path(path).replace_extension(kPlace), ignored);
  HOB_CHECK(context(std::move(made), "making a disk of the image"));
  return path;
}

Result<void> ErofsImages::make(const std::vector<fs::path>& layers, const fs::path& path) {
  const fs::path making = fs::path(path).replace_extension(".new");
  const fs::path place = fs::path(path).replace_extension(kPlace);
  HOB_CHECK(make_directories(place, 0700));
  fs::path tree = layers.front();
  if (layers.size() > 1) {
    HOB_CHECK(mount_merged(layers, place));
    tree = place / "merged";
  }
  // Not compressed: what is read is what is there, and a layer's files are unpacked beside it
  // anyway.
  HOB_TRY(const Exit made, run_blocking({.argv = {"mkfs.erofs", making, tree}}, kMakeTimeout));
  if (made.status != 0)
    return fail(Code::kUnavailable, "mkfs.erofs ended with status {}: {}", made.status,
                made.errors);
  HOB_CHECK(write_file_durably(fs::path(path).replace_extension(kLayers), list_of(layers), 0600));
  // What is there is taken for whole, after a power cut too.
  const Fd file(::open(making.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file || ::fsync(file.get()) != 0) return fail_errno(errno, "flushing it");
  if (::rename(making.c_str(), path.c_str()) != 0) return fail_errno(errno, "renaming it");
  return sync_directory(directory_);
}

}  // namespace hob::sandbox
