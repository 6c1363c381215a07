// The word that was probably meant. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hob {

// The one of `known` that is nearest to a mistyped word; empty: none is near.
std::string nearest_word(std::string_view typed, const std::vector<std::string>& known);

}  // namespace hob
