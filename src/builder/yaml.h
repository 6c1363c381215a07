// YAML as people write configuration in it: one document of maps, lists and scalars, each with its
// place. Pure; any thread.
//
// Text stays text ("3.10" is not a number, "no" is not false): what a scalar means is decided by
// who knows what is expected there. Anchors, aliases, tags and several documents are refused:
// nothing we read needs them, and aliases make small files large.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hob::builder {

inline constexpr size_t kYamlBytesMax = 256 * 1024;
inline constexpr size_t kYamlNodesMax = 10'000;
inline constexpr int kYamlDepthMax = 16;

// Both count from 1.
struct YamlPlace {
  int line = 1;
  int column = 1;
};

struct YamlNode {
  enum class Kind { kScalar, kList, kMap };
  Kind kind = Kind::kScalar;
  YamlPlace place{};
  std::string text{};             // a scalar's
  bool empty = false;             // a scalar that is nothing at all ("key:"), or "~", "null"
  std::vector<YamlNode> keys{};   // a map's: scalars, each once
  std::vector<YamlNode> items{};  // a list's, or a map's values, as many as keys

  // A map's value; null: it has none of that name.
  const YamlNode* find(std::string_view key) const;
};

// "a list", "a map", "text".
const char* word(YamlNode::Kind kind);

// kInvalid: not such a document; "line 3, column 5: …". kLimit: over a limit above.
Result<YamlNode> parse_yaml(std::string_view text);

// kInvalid at a place: "line 3, column 5: what".
std::unexpected<Error> fail_at(YamlPlace place, std::string what);

}  // namespace hob::builder
