// The service models' regular expressions, compiled at build time (pattern_compiler.py) and matched
// in linear time.
//
// std::regex recurses once a character and so falls to a long input; this takes steps * characters
// at most.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace hob::aws {

struct CharRange {
  char32_t first = 0;
  char32_t last = 0;
};

enum class PatternOp : uint8_t { kClass, kSplit, kJump, kMatch };

struct PatternStep {
  PatternOp op = PatternOp::kMatch;
  uint16_t a = 0;  // kClass: its first range; kSplit, kJump: a step
  uint16_t b = 0;  // kClass: how many ranges; kSplit: the other step
};

struct Pattern {
  std::string_view text{};  // as the model has it, for messages
  std::string_view forbidden_prefix{};
  std::span<const PatternStep> steps{};
  std::span<const CharRange> ranges{};
};

// Whether the whole of `utf8` matches. A byte that is no UTF-8 counts as a character of its own.
bool matches(const Pattern& pattern, std::string_view utf8);

}  // namespace hob::aws
