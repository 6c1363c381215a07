// The initial RAM disk of microVMs: hob-guest and the kernel modules that it loads. For `hob kernel
// install`; the files are Debian's and ours, and trusted.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"

namespace hob::guest {

struct RamDiskFile {
  std::string path{};  // "modules/00-virtio.ko"; its directory comes before it
  unsigned mode = 0;   // with its type: S_IFREG | 0644
  std::string content{};
  unsigned device_major = 0, device_minor = 0;
};
// A cpio archive as kernels unpack it ("newc", Documentation/driver-api/early-userspace).
std::string ram_disk(const std::vector<RamDiskFile>& files);

// The modules that hob-guest needs and what they depend on, in the order to load them. `directory`:
// a kernel's, lib/modules/VERSION. kNotFound: one is not there.
Result<std::vector<std::filesystem::path>> modules_in_order(const std::filesystem::path& directory);

// All of it.
Result<std::string> make_ram_disk(const std::filesystem::path& hob_guest,
                                  const std::filesystem::path& modules);

}  // namespace hob::guest
