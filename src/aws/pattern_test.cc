#include "aws/pattern.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "base/process.h"

namespace hob::aws {
namespace {

using namespace std::chrono_literals;

// A pattern compiled by pattern_compiler.py at test time, kept with its program.
struct Compiled {
  std::vector<PatternStep> steps{};
  std::vector<CharRange> ranges{};
  std::string text{};
  std::string forbidden_prefix{};
  Pattern pattern() const {
    return {.text = text, .forbidden_prefix = forbidden_prefix, .steps = steps, .ranges = ranges};
  }
};

Compiled read_compiled(const boost::json::value& source) {
  Compiled out;
  out.text = std::string(source.at("text").as_string());
  out.forbidden_prefix = std::string(source.at("forbidden_prefix").as_string());
  for (const auto& step : source.at("steps").as_array()) {
    const std::string op(step.at(0).as_string());
    out.steps.push_back({.op = op == "class"   ? PatternOp::kClass
                               : op == "split" ? PatternOp::kSplit
                               : op == "jump"  ? PatternOp::kJump
                                               : PatternOp::kMatch,
                         .a = step.at(1).to_number<uint16_t>(),
                         .b = step.at(2).to_number<uint16_t>()});
  }
  for (const auto& range : source.at("ranges").as_array()) {
    out.ranges.push_back(
        {.first = range.at(0).to_number<uint32_t>(), .last = range.at(1).to_number<uint32_t>()});
  }
  return out;
}

// Every pattern of the services we speak, on strings drawn near it, against Python's own regular
// expressions.
TEST(Pattern, AgreesWithPythonsRegularExpressions) {
  const Command command{
      .argv = {"/usr/bin/python3", HOB_SOURCE_DIR "/src/aws/testdata/patterns.py", HOB_SOURCE_DIR}};
  const auto exit = run_blocking(command, 120s);
  ASSERT_TRUE(exit.has_value());
  ASSERT_EQ(exit->status, 0) << exit->errors;
  const boost::json::value cases = boost::json::parse(exit->output);
  size_t matching = 0;
  size_t other = 0;
  for (const auto& c : cases.as_array()) {
    const Compiled compiled = read_compiled(c.at("program"));
    for (const auto& sample : c.at("samples").as_array()) {
      const std::string text(sample.at(0).as_string());
      const bool want = sample.at(1).as_bool();
      EXPECT_EQ(matches(compiled.pattern(), text), want) << compiled.text << " on '" << text << "'";
      ++(want ? matching : other);
    }
  }
  EXPECT_GT(matching, 200u);
  EXPECT_GT(other, 200u);
}

TEST(Pattern, TakesLinearTimeAndAnyBytes) {
  // (a|aa)*b, the kind that makes a backtracking matcher explode.
  constexpr PatternStep kSteps[] = {
      {PatternOp::kSplit, 1, 7}, {PatternOp::kSplit, 2, 4}, {PatternOp::kClass, 0, 1},
      {PatternOp::kJump, 0, 0},  {PatternOp::kClass, 0, 1}, {PatternOp::kClass, 0, 1},
      {PatternOp::kJump, 0, 0},  {PatternOp::kClass, 1, 1}, {PatternOp::kMatch, 0, 0}};
  constexpr CharRange kRanges[] = {{'a', 'a'}, {'b', 'b'}};
  const Pattern pattern{.text = "(a|aa)*b", .steps = kSteps, .ranges = kRanges};
  EXPECT_FALSE(matches(pattern, std::string(200'000, 'a')));
  EXPECT_TRUE(matches(pattern, std::string(200'000, 'a') + "b"));
  for (const std::string bad : {"\xff", "\xe2\x82", "\xf0\x9f", "\xc3(", "\xed\xa0\x80"}) {
    EXPECT_FALSE(matches(pattern, bad));
  }
}

}  // namespace
}  // namespace hob::aws
