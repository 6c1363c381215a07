#include "builder/line_cutter.h"

#include <gtest/gtest.h>

#include <vector>

#include "builder/build_sandbox.h"

namespace hob::builder {
namespace {

std::vector<std::string> lines_of(const std::vector<std::string>& pieces, uint64_t bytes_max = 1000,
                                  const std::string& always = "") {
  std::vector<std::string> lines;
  LineCutter cutter(bytes_max, always, [&](std::string_view line) { lines.emplace_back(line); });
  for (const std::string& piece : pieces) cutter.feed(piece);
  cutter.finish();
  return lines;
}

using Lines = std::vector<std::string>;

TEST(LineCutter, CutsWhateverThePiecesAre) {
  EXPECT_EQ(lines_of({"one\ntw", "o\n", "\nthree"}), (Lines{"one", "two", "", "three"}));
  EXPECT_EQ(lines_of({}), Lines{});
  EXPECT_EQ(lines_of({"a\r", "\nb\r\n"}), (Lines{"a", "b"}));
}

TEST(LineCutter, ControlCharactersDoNotReachATerminal) {
  EXPECT_EQ(lines_of({"\x1b[31mred\x07\t\x7fü\n"}), (Lines{"?[31mred?\t?ü"}));
}

TEST(LineCutter, ALineIsBounded) {
  const Lines lines = lines_of({std::string(2 * kLogLineBytesMax + 1, 'x')}, 1 << 20);
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[0].size(), kLogLineBytesMax);
  EXPECT_EQ(lines[2], "x");
}

TEST(LineCutter, WhatIsOverTheLimitIsCounted) {
  EXPECT_EQ(lines_of({"1234\n1234\n1234\nmark 5\n12\n"}, 10, "mark"),
            (Lines{"1234", "1234", "mark 5", "… 8 bytes more were left out"}));
}

}  // namespace
}  // namespace hob::builder
