// Hob's version, as `hob --version`, hosts and edges tell it.
#pragma once

namespace hob {
inline constexpr const char* kVersion = "0.1.0";
}  // namespace hob
