// CloudWatch Logs' filter patterns for unstructured text: which lines does a search want?
//
// Terms stand apart by spaces; a term in "double quotes" may hold anything (\" and \\ escape). A
// line matches when it contains every plain term, at least one of the ?optional ones (if there are
// any) and none of the -excluded ones, case and all. Patterns for JSON ({ … }), for columns ([ … ])
// and regular expressions (%…%) are refused. Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hob::observe {

inline constexpr size_t kPatternBytesMax = 1024;  // service model: FilterPattern

struct FilterPattern {
  std::vector<std::string> all{};
  std::vector<std::string> any{};
  std::vector<std::string> none{};
  bool operator==(const FilterPattern&) const = default;
};

// Empty: matches everything. kInvalid: too long, a quote that is not closed, or a kind of pattern
// that is not built.
Result<FilterPattern> parse_filter_pattern(std::string_view text);
bool matches(const FilterPattern& pattern, std::string_view line);

}  // namespace hob::observe
