// Precompiled once for every room (cmake/rooms.cmake): what nearly all of them include. Files still include what
// they use, as if this were not there.
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/async.h"
