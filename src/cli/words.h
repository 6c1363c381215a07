// What people type, understood. Pure.
#pragma once

#include <string_view>

#include "base/result.h"
#include "base/time.h"

namespace hob::cli {

// "30s", "10m", "2h", "1d". kInvalid: none of these.
Result<Duration> parse_age(std::string_view text);

}  // namespace hob::cli
