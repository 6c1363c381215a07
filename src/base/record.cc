#include "base/record.h"

#include <algorithm>
#include <cctype>
#include <cmath>

namespace hob::record {

namespace {

// Boost.JSON reads a number beyond double's range as infinite or not a number at all, and writes
// what it cannot read again. Recursion ends at kDepthMax, which the parser kept.
bool numbers_are_finite(const json::value& value) {
  if (const double* number = value.if_double()) return std::isfinite(*number);
  if (const json::array* array = value.if_array())
    return std::ranges::all_of(*array, numbers_are_finite);
  if (const json::object* object = value.if_object()) {
    return std::ranges::all_of(
        *object, [](const auto& member) { return numbers_are_finite(member.value()); });
  }
  return true;
}

}  // namespace

std::string enum_word(std::string_view enumerator) {
  if (enumerator.size() > 1 && enumerator[0] == 'k') enumerator.remove_prefix(1);
  std::string word;
  for (size_t i = 0; i < enumerator.size(); ++i) {
    const auto c = static_cast<unsigned char>(enumerator[i]);
    const bool starts_word =
        i > 0 && std::isupper(c) && std::islower(static_cast<unsigned char>(enumerator[i - 1]));
    if (starts_word) word.push_back('_');
    word.push_back(static_cast<char>(std::toupper(c)));
  }
  return word;
}

Result<json::value> parse(std::string_view text) {
  if (text.size() > kRecordBytesMax) return fail(Code::kInvalid, "over {} bytes", kRecordBytesMax);
  json::parse_options options;
  options.max_depth = kDepthMax;
  json::error_code error;
  json::value value = json::parse(text, error, {}, options);
  if (error) return fail(Code::kInvalid, "not JSON: {}", error.message());
  if (!numbers_are_finite(value)) return fail(Code::kInvalid, "not JSON: a number out of range");
  return value;
}

}  // namespace hob::record
