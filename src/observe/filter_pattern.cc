#include "observe/filter_pattern.h"

#include <algorithm>

namespace hob::observe {

Result<FilterPattern> parse_filter_pattern(std::string_view text) {
  if (text.size() > kPatternBytesMax)
    return fail(Code::kInvalid, "The filter pattern is over {} bytes.", kPatternBytesMax);
  FilterPattern pattern;
  size_t i = 0;
  const auto skip_spaces = [&] {
    while (i < text.size() &&
           (text[i] == ' ' || text[i] == '\t' || text[i] == '\n' || text[i] == '\r'))
      ++i;
  };
  skip_spaces();
  if (i < text.size() && (text[i] == '{' || text[i] == '[' || text[i] == '%')) {
    return fail(
        Code::kInvalid,
        "Filter patterns for JSON, columns and regular expressions are not built yet; use terms, "
        "\"quoted terms\", -excluded and ?optional ones.");
  }
  while (i < text.size()) {
    std::vector<std::string>* list = &pattern.all;
    if (text[i] == '-') list = &pattern.none;
    if (text[i] == '?') list = &pattern.any;
    if (list != &pattern.all) ++i;
    std::string term;
    if (i < text.size() && text[i] == '"') {
      ++i;
      while (i < text.size() && text[i] != '"') {
        if (text[i] == '\\' && i + 1 < text.size()) ++i;
        term.push_back(text[i++]);
      }
      if (i == text.size())
        return fail(Code::kInvalid, "Invalid filter pattern: a quote is not closed.");
      ++i;
    } else {
      while (i < text.size() && text[i] != ' ' && text[i] != '\t' && text[i] != '\n' &&
             text[i] != '\r') {
        term.push_back(text[i++]);
      }
    }
    // A lone - or ? or an empty pair of quotes says nothing.
    if (!term.empty()) list->push_back(std::move(term));
    skip_spaces();
  }
  return pattern;
}

bool matches(const FilterPattern& pattern, std::string_view line) {
  const auto contains = [line](const std::string& term) {
    return line.find(term) != std::string_view::npos;
  };
  return std::ranges::all_of(pattern.all, contains) &&
         std::ranges::none_of(pattern.none, contains) &&
         (pattern.any.empty() || std::ranges::any_of(pattern.any, contains));
}

}  // namespace hob::observe
