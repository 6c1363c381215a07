// Programs: of other packages, and of ours.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"

namespace hob::cli {

// Where it is, whatever PATH says; empty: it is not installed.
std::string find_program(const std::string& name);

// Of ours: beside this program, or where both are installed. kNotFound: neither.
Result<std::filesystem::path> find_own_program(const std::string& name);

}  // namespace hob::cli
