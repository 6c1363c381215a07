#include "builder/version_range.h"

#include <algorithm>
#include <limits>

namespace hob::builder {

namespace {

constexpr uint32_t kPartMax = 1'000'000;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_any(char c) { return c == 'x' || c == 'X' || c == '*'; }

// The first version that does not begin with the first `count` numbers of `version`.
Version after(Version version, int count) {
  if (count == 0) return {{std::numeric_limits<uint32_t>::max(), 0, 0}};
  ++version.parts[static_cast<size_t>(count - 1)];
  for (size_t i = static_cast<size_t>(count); i < version.parts.size(); ++i) version.parts[i] = 0;
  return version;
}

}  // namespace

std::optional<Version> parse_version(std::string_view text, int* count) {
  if (text.starts_with('v') || text.starts_with('V')) text.remove_prefix(1);
  Version version;
  int found = 0;
  while (found < 3 && !text.empty() && is_digit(text.front())) {
    uint32_t part = 0;
    while (!text.empty() && is_digit(text.front())) {
      part = std::min(part * 10 + static_cast<uint32_t>(text.front() - '0'), kPartMax);
      text.remove_prefix(1);
    }
    version.parts[static_cast<size_t>(found++)] = part;
    if (text.empty() || text.front() != '.') break;
    text.remove_prefix(1);
  }
  if (count != nullptr) *count = found;
  if (found == 0) return std::nullopt;
  return version;
}

class RangeReader {
 public:
  explicit RangeReader(std::string_view text) : text_(text) {}

  Result<VersionRange> read() {
    VersionRange range;
    range.any_of_.emplace_back();
    while (true) {
      skip();
      if (text_.empty()) break;
      if (text_.starts_with("||")) {
        text_.remove_prefix(2);
        range.any_of_.emplace_back();
        continue;
      }
      HOB_TRY(VersionRange::Interval interval, comparison());
      range.any_of_.back().push_back(interval);
    }
    return range;
  }

 private:
  void skip() {
    while (!text_.empty() && (text_.front() == ' ' || text_.front() == ',')) text_.remove_prefix(1);
  }

  // A version of up to three numbers, the last of which may be "x" or "*"; how many were numbers.
  Result<Version> version(int& count) {
    skip();
    size_t end = 0;
    if (text_.starts_with('v')) ++end;
    const size_t first = end;
    while (end < text_.size() && (is_digit(text_[end]) || text_[end] == '.')) ++end;
    const std::optional<Version> found = parse_version(text_.substr(0, end), &count);
    const bool any = end < text_.size() && is_any(text_[end]);
    if (!found && !(any && end == first)) {
      return fail(Code::kInvalid, "'{}' is no range of versions", text_.substr(0, kRangeBytesMax));
    }
    text_.remove_prefix(end);
    while (!text_.empty() && (is_any(text_.front()) || text_.front() == '.'))
      text_.remove_prefix(1);
    // A pre-release's or build's name ("-rc.1", "+7") says nothing about which version to take.
    if (text_.starts_with('-') || text_.starts_with('+')) {
      while (!text_.empty() && text_.front() != ' ' && text_.front() != ',') text_.remove_prefix(1);
    }
    return found.value_or(Version{});
  }

  Result<VersionRange::Interval> comparison() {
    std::string_view sign;
    for (const std::string_view each : {">=", "<=", "==", "~=", "!=", ">", "<", "^", "~", "="}) {
      if (text_.starts_with(each)) {
        sign = each;
        break;
      }
    }
    text_.remove_prefix(sign.size());
    int count = 0;
    HOB_TRY(const Version at, version(count));
    if (sign == ">=") return VersionRange::Interval{.least = at};
    if (sign == ">") return VersionRange::Interval{.least = after(at, count)};
    if (sign == "<") return VersionRange::Interval{.below = at};
    if (sign == "<=") return VersionRange::Interval{.below = after(at, count)};
    if (sign == "!=") return VersionRange::Interval{.except = at};
    if (sign == "^")
      return VersionRange::Interval{.least = at, .below = after(at, caret(at, count))};
    if (sign == "~")
      return VersionRange::Interval{.least = at, .below = after(at, std::min(count, 2))};
    if (sign == "~=") {
      return VersionRange::Interval{.least = at, .below = after(at, std::max(count - 1, 1))};
    }
    if (sign.empty() && text_.starts_with(" - ")) {
      text_.remove_prefix(3);
      int last_count = 0;
      HOB_TRY(const Version last, version(last_count));
      return VersionRange::Interval{.least = at, .below = after(last, last_count)};
    }
    return VersionRange::Interval{.least = at, .below = after(at, count)};
  }

  // "^1.2.3" keeps the first number that is not 0.
  static int caret(const Version& at, int count) {
    for (int i = 0; i < count; ++i) {
      if (at.parts[static_cast<size_t>(i)] != 0) return i + 1;
    }
    return count;
  }

  std::string_view text_;
};

Result<VersionRange> VersionRange::parse(std::string_view text) {
  if (text.size() > kRangeBytesMax) {
    return fail(Code::kInvalid, "a range of versions of {} bytes", text.size());
  }
  return RangeReader(text).read();
}

bool VersionRange::contains(const Version& version) const {
  return std::ranges::any_of(any_of_, [&](const std::vector<Interval>& all) {
    return std::ranges::all_of(all, [&](const Interval& each) {
      return version >= each.least && (!each.below || version < *each.below) &&
             (!each.except || version != *each.except);
    });
  });
}

}  // namespace hob::builder
