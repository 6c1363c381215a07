// Splits App Runner's StartCommand into arguments.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hob::runner {

inline constexpr size_t kArgumentsMax = 1024;

// As a POSIX shell splits words, and nothing else of a shell: 'single' and "double" quotes,
// backslashes (within double quotes before $ ` " \ only). No variables, no globs, no pipes: `sh -c
// "…"` is how to have those. A command with a line break is refused before (service model).
// kInvalid: a quote is not closed, a backslash ends it, or it holds no word. kLimit: over
// kArgumentsMax words.
Result<std::vector<std::string>> split_command_line(std::string_view text);

}  // namespace hob::runner
