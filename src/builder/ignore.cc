#include "builder/ignore.h"

#include <algorithm>
#include <ranges>

namespace hob::builder {

namespace {

// Reads "[a-z]" at `at`; false: it is none, and '[' stands for itself.
bool class_matches(std::string_view pattern, size_t& at, char c, bool& matches) {
  size_t i = at + 1;
  const bool inverted = i < pattern.size() && (pattern[i] == '!' || pattern[i] == '^');
  if (inverted) ++i;
  bool found = false;
  for (bool first = true; i < pattern.size(); first = false) {
    if (pattern[i] == ']' && !first) {
      at = i + 1;
      matches = found != inverted;
      return true;
    }
    if (pattern[i] == '\\' && i + 1 < pattern.size()) ++i;
    const char low = pattern[i++];
    char high = low;
    if (i + 1 < pattern.size() && pattern[i] == '-' && pattern[i + 1] != ']') {
      high = pattern[i + 1];
      i += 2;
    }
    if (low <= c && c <= high) found = true;
  }
  return false;
}

// One element of a pattern at `at` against `c`; moves `at` behind it.
bool element_matches(std::string_view pattern, size_t& at, char c) {
  bool matches = false;
  if (pattern[at] == '[' && class_matches(pattern, at, c, matches)) return matches;
  if (pattern[at] == '\\' && at + 1 < pattern.size())
    ++at;
  else if (pattern[at] == '?') {
    ++at;
    return true;
  }
  return pattern[at++] == c;
}

// One name without "/". Going back is to the last "*" alone, so the time is the lengths' product.
bool name_matches(std::string_view pattern, std::string_view name) {
  size_t p = 0;
  size_t n = 0;
  size_t star = std::string_view::npos;
  size_t star_name = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = ++p;
      star_name = n;
      continue;
    }
    size_t next = p;
    if (p < pattern.size() && element_matches(pattern, next, name[n])) {
      p = next;
      ++n;
      continue;
    }
    if (star == std::string_view::npos) return false;
    p = star;
    n = ++star_name;
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::vector<std::string_view> split(std::string_view path) {
  std::vector<std::string_view> names;
  for (const auto part : std::views::split(path, '/')) {
    if (!part.empty()) names.emplace_back(part.begin(), part.end());
  }
  return names;
}

}  // namespace

bool glob_matches(std::string_view pattern, std::string_view path) {
  const std::vector<std::string_view> wanted = split(pattern);
  const std::vector<std::string_view> names = split(path);
  // reach[j]: the pattern's names so far fit the path's first j.
  std::vector<bool> reach(names.size() + 1, false);
  reach[0] = true;
  for (size_t i = 0; i < wanted.size(); ++i) {
    std::vector<bool> next(names.size() + 1, false);
    if (wanted[i] == "**") {
      // At the end it stands for what is inside: one name at least.
      const size_t least = i + 1 == wanted.size() ? 1 : 0;
      bool open = false;
      for (size_t j = 0; j <= names.size(); ++j) {
        if (j >= least && reach[j - least]) open = true;
        next[j] = open;
      }
    } else {
      for (size_t j = 1; j <= names.size(); ++j) {
        next[j] = reach[j - 1] && name_matches(wanted[i], names[j - 1]);
      }
    }
    reach = std::move(next);
  }
  return reach[names.size()];
}

Result<void> IgnoreRules::add(std::string_view directory, std::string_view text) {
  if (text.size() > kIgnoreBytesMax) {
    return fail(Code::kLimit, "{} bytes; at most {}", text.size(), kIgnoreBytesMax);
  }
  for (const auto part : std::views::split(text, '\n')) {
    std::string_view line(part.begin(), part.end());
    if (line.ends_with('\r')) line.remove_suffix(1);
    while (line.ends_with(' ') && !line.ends_with("\\ ")) line.remove_suffix(1);
    if (line.empty() || line.front() == '#' || line.size() > kIgnorePatternBytesMax) continue;
    Rule rule{.directory = std::string(directory)};
    if (line.front() == '!') {
      rule.keeps = true;
      line.remove_prefix(1);
    }
    if (line.ends_with('/')) {
      rule.only_directories = true;
      line.remove_suffix(1);
    }
    rule.whole_path = line.find('/') != std::string_view::npos;
    if (line.starts_with('/')) line.remove_prefix(1);
    if (line.empty()) continue;
    if (static_cast<size_t>(std::ranges::count(line, '*')) > kIgnoreStarsMax) {
      return fail(Code::kLimit, "a pattern with more than {} '*': {}", kIgnoreStarsMax,
                  line.substr(0, 60));
    }
    rule.pattern = line;
    if (rules_.size() == kIgnoreRulesMax) {
      return fail(Code::kLimit, "more than {} rules", kIgnoreRulesMax);
    }
    rules_.push_back(std::move(rule));
  }
  return {};
}

bool IgnoreRules::ignored(std::string_view path, bool is_directory) const {
  for (const Rule& rule : rules_ | std::views::reverse) {
    if (rule.only_directories && !is_directory) continue;
    std::string_view inside = path;
    if (!rule.directory.empty()) {
      if (!path.starts_with(rule.directory) || path.size() <= rule.directory.size() ||
          path[rule.directory.size()] != '/') {
        continue;
      }
      inside.remove_prefix(rule.directory.size() + 1);
    }
    const size_t slash = inside.rfind('/');
    const std::string_view name =
        slash == std::string_view::npos ? inside : inside.substr(slash + 1);
    if (rule.whole_path ? glob_matches(rule.pattern, inside) : name_matches(rule.pattern, name)) {
      return !rule.keeps;
    }
  }
  return false;
}

}  // namespace hob::builder
