#include "aws/constraints.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "aws/utf8.h"

namespace hob::aws {

namespace {

std::string joined(std::span<const std::string_view> words) {
  std::string out;
  for (const std::string_view word : words) {
    if (!out.empty()) out += ", ";
    out += word;
  }
  return out;
}

// At most kShownValueMax bytes, cut between characters.
std::string shortened(std::string text) {
  if (text.size() <= kShownValueMax) return text;
  size_t end = kShownValueMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

std::string number(double value) { return fmt::format("{}", value); }

struct Check {
  bool holds = true;
  std::string says{};
};

void sort_out(const std::vector<Check>& checks, std::vector<std::string>& broken,
              std::vector<std::string>& every) {
  for (const Check& check : checks) {
    every.push_back(check.says);
    if (!check.holds) broken.push_back(check.says);
  }
}

std::vector<Check> length_checks(int64_t length, int64_t min, int64_t max) {
  std::vector<Check> checks;
  if (max >= 0) {
    checks.push_back(
        {length <= max, fmt::format("Member must have length less than or equal to {}", max)});
  }
  if (min > 0) {
    checks.push_back(
        {length >= min, fmt::format("Member must have length greater than or equal to {}", min)});
  }
  return checks;
}

}  // namespace

void Problems::violation(std::optional<std::string> value, const std::string& path,
                         std::string_view constraint) {
  if (violations_.size() >= kViolationsMax) return;
  std::string text =
      value ? fmt::format("Value {} at '{}' failed to satisfy constraint: {}", *value, path,
                          constraint)
            : fmt::format("Value at '{}' failed to satisfy constraint: {}", path, constraint);
  // The items of a list share one sentence.
  if (!violations_.empty() && violations_.back() == text) return;
  violations_.push_back(std::move(text));
}

Result<void> Problems::result(std::string_view validation_error) const {
  if (!unreadable_.empty()) {
    return fail(Error{
        .code = Code::kInvalid, .message = unreadable_, .aws_code = "SerializationException"});
  }
  if (violations_.empty()) return {};
  return fail(Error{
      .code = Code::kInvalid,
      .message = fmt::format("{} validation error{} detected: {}", violations_.size(),
                             violations_.size() == 1 ? "" : "s", fmt::join(violations_, "; ")),
      .aws_code = std::string(validation_error)});
}

std::string InputNode::path() const {
  if (parent_ == nullptr) return "";
  std::string out = parent_->path();
  if (!out.empty()) out += '.';
  switch (kind_) {
    case Kind::kRoot:
      break;
    case Kind::kMember: {
      std::string name(name_);
      if (!name.empty() && name[0] >= 'A' && name[0] <= 'Z')
        name[0] = static_cast<char>(name[0] - 'A' + 'a');
      out += name;
      break;
    }
    case Kind::kItem:
      out += fmt::format("{}.member", index_);
      break;
    case Kind::kKey:
    case Kind::kValue:
      out += fmt::format("{}.member", shortened(std::string(name_)));
      break;
  }
  return out;
}

void InputNode::missing(std::string_view name) const {
  std::string at = path();
  if (!at.empty()) at += '.';
  const size_t start = at.size();
  at += name;
  if (at.size() > start && at[start] >= 'A' && at[start] <= 'Z')
    at[start] = static_cast<char>(at[start] - 'A' + 'a');
  problems_->violation("null", at, "Member must not be null");
}

void InputNode::report(std::vector<std::string> broken, const std::vector<std::string>& every,
                       bool secret) const {
  if (broken.empty()) return;
  // A scalar in a list or map is told of as a fault of the whole, with all that it must satisfy.
  const bool inside = kind_ == Kind::kItem || kind_ == Kind::kKey || kind_ == Kind::kValue;
  const InputNode& told = inside ? *parent_ : *this;
  std::optional<std::string> value;
  if (!secret) value = "'" + shortened(told.shown()) + "'";
  if (!inside) {
    for (const std::string& constraint : broken) problems_->violation(value, path(), constraint);
    return;
  }
  const char* what = kind_ == Kind::kItem  ? "Member"
                     : kind_ == Kind::kKey ? "Map keys"
                                           : "Map value";
  problems_->violation(
      std::move(value), told.path(),
      fmt::format("{} must satisfy constraint: [{}]", what, fmt::join(every, ", ")));
}

void InputNode::check_text(const std::string& value, const TextConstraint& constraint) const {
  std::vector<Check> checks = length_checks(static_cast<int64_t>(count_characters(value)),
                                            constraint.length_min, constraint.length_max);
  if (constraint.pattern != nullptr) {
    // A value that is far too long is not matched: the length says enough.
    const bool holds = value.size() <= kPatternBytesMax && matches(*constraint.pattern, value);
    checks.push_back({holds, fmt::format("Member must satisfy regular expression pattern: {}",
                                         constraint.pattern->text)});
  }
  if (!constraint.words.empty()) {
    checks.push_back(
        {std::ranges::find(constraint.words, value) != constraint.words.end(),
         fmt::format("Member must satisfy enum value set: [{}]", joined(constraint.words))});
  }
  std::vector<std::string> broken;
  std::vector<std::string> every;
  sort_out(checks, broken, every);
  report(std::move(broken), every, constraint.sensitive);
}

void InputNode::check_blob(const std::string& value, const TextConstraint& constraint) const {
  std::vector<std::string> broken;
  std::vector<std::string> every;
  sort_out(length_checks(static_cast<int64_t>(value.size()), constraint.length_min,
                         constraint.length_max),
           broken, every);
  report(std::move(broken), every, /*secret=*/true);
}

void InputNode::check_number(double value, const NumberConstraint& constraint) const {
  std::vector<Check> checks;
  if (constraint.max) {
    checks.push_back({value <= *constraint.max,
                      "Member must have value less than or equal to " + number(*constraint.max)});
  }
  if (constraint.min) {
    checks.push_back({value >= *constraint.min, "Member must have value greater than or equal to " +
                                                    number(*constraint.min)});
  }
  std::vector<std::string> broken;
  std::vector<std::string> every;
  sort_out(checks, broken, every);
  report(std::move(broken), every, /*secret=*/false);
}

void InputNode::check_count(size_t count, int64_t min, int64_t max) const {
  std::vector<std::string> broken;
  std::vector<std::string> every;
  sort_out(length_checks(static_cast<int64_t>(count), min, max), broken, every);
  report(std::move(broken), every, /*secret=*/false);
}

}  // namespace hob::aws
