// UTF-8: is it, how long is it, and make it so.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace hob::aws {

// Takes one character off the front of `text`, which is not empty. A byte that begins no valid
// sequence is taken alone and given as itself, with `valid` false.
struct Utf8Character {
  char32_t value = 0;
  bool valid = true;
};
Utf8Character take_character(std::string_view& text);

bool is_utf8(std::string_view text);
// The number of characters (code points), as the models count lengths.
size_t count_characters(std::string_view text);
// `text` with every invalid byte replaced by U+FFFD: for writers, whose readers would refuse the
// whole otherwise.
std::string to_utf8(std::string_view text);

}  // namespace hob::aws
