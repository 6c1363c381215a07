// Which versions of a runtime an application accepts: npm's ranges ("^20.9 || >=22.12", "18.x",
// "1.2 - 2") and Python's specifiers (">=3.10,<4", "~=3.11", "==3.*"). Pure; any thread.
#pragma once

#include <array>
#include <compare>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hob::builder {

inline constexpr size_t kRangeBytesMax = 256;

struct Version {
  std::array<uint32_t, 3> parts{};
  auto operator<=>(const Version&) const = default;
};

// "22", "v22.17", "3.11.2", what follows a third number is passed over. nullopt: it does not begin
// with a number. `count`: how many numbers there were.
std::optional<Version> parse_version(std::string_view text, int* count = nullptr);

class VersionRange {
 public:
  // kInvalid: neither kind of range ("lts/*" is none).
  static Result<VersionRange> parse(std::string_view text);
  bool contains(const Version& version) const;

 private:
  // least <= version < below
  struct Interval {
    Version least{};
    std::optional<Version> below{};
    std::optional<Version> except{};  // "!="
  };
  // One interval of each inner list holds: all of them together, any of the outer.
  std::vector<std::vector<Interval>> any_of_;
  friend class RangeReader;
};

}  // namespace hob::builder
