#include "aws/pattern.h"

#include <algorithm>
#include <vector>

#include "aws/utf8.h"

namespace hob::aws {

namespace {

// The steps the automaton is at: a set, with what is reachable without a character already
// followed.
class Front {
 public:
  explicit Front(const Pattern& pattern) : pattern_(&pattern), seen_(pattern.steps.size()) {}

  void add(uint16_t start) {
    pending_.push_back(start);
    while (!pending_.empty()) {
      const uint16_t at = pending_.back();
      pending_.pop_back();
      if (seen_[at]) continue;
      seen_[at] = true;
      const PatternStep& step = pattern_->steps[at];
      switch (step.op) {
        case PatternOp::kClass:
          classes_.push_back(at);
          break;
        case PatternOp::kMatch:
          matched_ = true;
          break;
        case PatternOp::kJump:
          pending_.push_back(step.a);
          break;
        case PatternOp::kSplit:
          pending_.push_back(step.b);
          pending_.push_back(step.a);
          break;
      }
    }
  }
  void clear() {
    std::fill(seen_.begin(), seen_.end(), false);
    classes_.clear();
    matched_ = false;
  }
  const std::vector<uint16_t>& classes() const { return classes_; }
  bool matched() const { return matched_; }

 private:
  const Pattern* pattern_;
  std::vector<bool> seen_;
  std::vector<uint16_t> pending_{};
  std::vector<uint16_t> classes_{};
  bool matched_ = false;
};

bool accepts(const Pattern& pattern, const PatternStep& step, char32_t character) {
  const auto ranges = pattern.ranges.subspan(step.a, step.b);
  return std::ranges::any_of(ranges, [&](const CharRange& range) {
    return character >= range.first && character <= range.last;
  });
}

}  // namespace

bool matches(const Pattern& pattern, std::string_view utf8) {
  if (!pattern.forbidden_prefix.empty() && utf8.starts_with(pattern.forbidden_prefix)) return false;
  Front now(pattern);
  Front next(pattern);
  now.add(0);
  while (!utf8.empty()) {
    const char32_t character = take_character(utf8).value;
    next.clear();
    for (const uint16_t at : now.classes()) {
      if (accepts(pattern, pattern.steps[at], character)) next.add(static_cast<uint16_t>(at + 1));
    }
    if (next.classes().empty() && !next.matched()) return false;
    std::swap(now, next);
  }
  return now.matched();
}

}  // namespace hob::aws
