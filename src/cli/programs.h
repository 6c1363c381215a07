// Programs of other packages.
#pragma once

#include <string>

namespace hob::cli {

// Where it is, whatever PATH says; empty: it is not installed.
std::string find_program(const std::string& name);

}  // namespace hob::cli
