#include "aws/utf8.h"

#include <cstdint>

namespace hob::aws {

Utf8Character take_character(std::string_view& text) {
  const auto byte = [&](size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned char lead = byte(0);
  const auto alone = [&](bool valid) {
    text.remove_prefix(1);
    return Utf8Character{.value = lead, .valid = valid};
  };
  if (lead < 0x80) return alone(true);
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || length > text.size()) return alone(false);
  char32_t character = lead & (0xFFU >> (length + 1));
  for (size_t at = 1; at < length; ++at) {
    if ((byte(at) & 0xC0) != 0x80) return alone(false);
    character = character << 6 | (byte(at) & 0x3FU);
  }
  constexpr char32_t kLowest[] = {0, 0, 0x80, 0x800,
                                  0x10000};  // by length; below: written longer than need be
  const bool surrogate = character >= 0xD800 && character <= 0xDFFF;
  if (character < kLowest[length] || character > 0x10FFFF || surrogate) return alone(false);
  text.remove_prefix(length);
  return {.value = character, .valid = true};
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    if (!take_character(text).valid) return false;
  }
  return true;
}

size_t count_characters(std::string_view text) {
  size_t count = 0;
  for (; !text.empty(); ++count) take_character(text);
  return count;
}

std::string to_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::string_view before = text;
    if (take_character(text).valid)
      out += before.substr(0, before.size() - text.size());
    else
      out += "\xEF\xBF\xBD";
  }
  return out;
}

}  // namespace hob::aws
