// A container's file system inside the microVM: the image's EROFS below, a part of the scratch disk
// above, and what every container finds mounted in it.
#pragma once

#include <filesystem>
#include <string>

#include "base/file.h"
#include "base/result.h"
#include "guest/protocol.h"

namespace hob::guest {

struct ContainerRoot {
  std::filesystem::path root{};   // the overlay
  std::filesystem::path files{};  // resolv.conf, hosts, hostname to be mounted into it
};

// Mounts the scratch disk; once, before any container.
Result<void> mount_scratch(const std::string& device);
// Mounts the root of container number `index`. An image that two have is mounted once.
Result<ContainerRoot> mount_root(const Start& start, int index);
// In the container's first process, in a mount namespace of its own: makes `root` its root and
// mounts what Docker mounts. The old root is gone.
Result<void> enter_root(const ContainerRoot& root);

}  // namespace hob::guest
