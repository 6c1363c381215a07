// What people type, understood. Pure.
#pragma once

#include <deque>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"

namespace hob::cli {

// "30s", "10m", "2h", "1d". kInvalid: none of these.
Result<Duration> parse_age(std::string_view text);

// AWS's words for a member that does not match its pattern, with what would be right in the place
// of the regular expression.
std::string without_patterns(std::string_view message);

// An error of several lines without those that stand among the `told` ones, whole or their
// beginnings, and without the words that lead to them: they were printed just before.
std::string without_told(std::string message, const std::deque<std::string>& told);

}  // namespace hob::cli
