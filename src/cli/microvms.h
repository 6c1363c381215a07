// Can tasks run in microVMs here, and do they?
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"

namespace hob::cli {

// Whether images can be made into disks. The error says what to install.
Result<void> check_image_tools();

// Whether all that microVMs need is here: `kernel`, tools, a KVM that works. The error says what to
// do. Takes up to a second.
Result<void> check_microvms(const std::filesystem::path& kernel);

// Whether tasks of an instance that do not ask run in microVMs: as it was told ("microvm",
// "container"), else where they can.
bool runs_microvms(const std::string& isolation, bool able);

}  // namespace hob::cli
