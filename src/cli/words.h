// What people type, understood. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"

namespace hob::cli {

// "30s", "10m", "2h", "1d". kInvalid: none of these.
Result<Duration> parse_age(std::string_view text);

// The one of `known` that was probably meant by a mistyped word; empty: none is near.
std::string closest(std::string_view typed, const std::vector<std::string>& known);

}  // namespace hob::cli
