#include "guest/ram_disk.h"

#include <fmt/core.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <map>

#include "base/file.h"

namespace hob::guest {
namespace {

namespace fs = std::filesystem;

constexpr size_t kModuleBytesMax = 16 * 1024 * 1024;
constexpr size_t kProgramBytesMax = 16 * 1024 * 1024;
constexpr size_t kAlignment = 4;
constexpr std::array kWanted = {
    "virtio_mmio", "virtio_blk", "virtio_net", "vmw_vsock_virtio_transport", "erofs", "overlay"};

void pad(std::string& archive) {
  archive.resize((archive.size() + kAlignment - 1) / kAlignment * kAlignment);
}

void append(std::string& archive, unsigned number, const RamDiskFile& file) {
  archive += fmt::format(
      "070701{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
      number, file.mode, 0, 0, 1, 0, file.content.size(), 0, 0, file.device_major,
      file.device_minor, file.path.size() + 1, 0);
  archive += file.path;
  archive += '\0';
  pad(archive);
  archive += file.content;
  pad(archive);
}

// Modules are named with "_" where their files may have "-".
std::string module_name(const fs::path& file) {
  std::string name = file.stem().string();
  std::ranges::replace(name, '-', '_');
  return name;
}

// What a module says of itself: "depends=a,b", in a list of texts that each end with a zero.
std::vector<std::string> dependencies(const std::string& module) {
  std::vector<std::string> names;
  const std::string key = std::string(1, '\0') + "depends=";
  const size_t at = module.find(key);
  if (at == std::string::npos) return names;
  const std::string list = module.c_str() + at + key.size();
  for (size_t start = 0; start < list.size();) {
    const size_t end = std::min(list.find(',', start), list.size());
    names.push_back(list.substr(start, end - start));
    start = end + 1;
  }
  return names;
}

class Order {
 public:
  explicit Order(const fs::path& directory) {
    std::error_code ignored;
    for (const auto& entry : fs::recursive_directory_iterator(directory, ignored)) {
      if (entry.path().extension() == ".ko") files_[module_name(entry.path())] = entry.path();
    }
  }
  // `depth` ends what goes in a circle.
  Result<void> add(const std::string& name, int depth = 0) {
    constexpr int kDepthMax = 16;
    const auto file = files_.find(name);
    if (file == files_.end() || depth > kDepthMax)
      return fail(Code::kNotFound, "the kernel has no module {}", name);
    if (std::ranges::find(order_, file->second) != order_.end()) return {};
    HOB_TRY(const std::string content, read_file(file->second, kModuleBytesMax));
    for (const std::string& other : dependencies(content)) HOB_CHECK(add(other, depth + 1));
    order_.push_back(file->second);
    return {};
  }
  std::vector<fs::path> take() { return std::move(order_); }

 private:
  std::map<std::string, fs::path> files_;
  std::vector<fs::path> order_;
};

}  // namespace

std::string ram_disk(const std::vector<RamDiskFile>& files) {
  std::string archive;
  unsigned number = 0;
  for (const RamDiskFile& file : files) append(archive, ++number, file);
  append(archive, 0, {.path = "TRAILER!!!"});
  return archive;
}

Result<std::vector<fs::path>> modules_in_order(const fs::path& directory) {
  Order order(directory);
  for (const char* name : kWanted) HOB_CHECK(order.add(name));
  return order.take();
}

Result<std::string> make_ram_disk(const fs::path& hob_guest, const fs::path& modules) {
  std::vector<RamDiskFile> files = {
      {.path = "dev", .mode = S_IFDIR | 0755},
      // The kernel opens it for init's first words; it mounts /dev itself only with a root disk.
      {.path = "dev/console", .mode = S_IFCHR | 0600, .device_major = 5, .device_minor = 1},
      {.path = "modules", .mode = S_IFDIR | 0755}};
  HOB_TRY(std::string program, read_file(hob_guest, kProgramBytesMax));
  files.push_back({.path = "init", .mode = S_IFREG | 0755, .content = std::move(program)});
  HOB_TRY(const std::vector<fs::path> order, modules_in_order(modules));
  for (size_t i = 0; i < order.size(); ++i) {
    HOB_TRY(std::string content, read_file(order[i], kModuleBytesMax));
    files.push_back({.path = fmt::format("modules/{:02}-{}", i, order[i].filename().string()),
                     .mode = S_IFREG | 0644,
                     .content = std::move(content)});
  }
  return ram_disk(files);
}

}  // namespace hob::guest
