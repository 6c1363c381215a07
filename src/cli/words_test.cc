#include "cli/words.h"

#include <gtest/gtest.h>

namespace hob::cli {
namespace {

using namespace std::chrono_literals;

TEST(Words, AgesArePlain) {
  EXPECT_EQ(*parse_age("30s"), 30s);
  EXPECT_EQ(*parse_age("10m"), 10min);
  EXPECT_EQ(*parse_age("2h"), 2h);
  EXPECT_EQ(*parse_age("1d"), 24h);
  EXPECT_EQ(*parse_age("100000d"), 2'400'000h);
  for (const char* wrong : {"", "10", "m", "0s", "-1m", "1w", "10 m", "10mm", "1.5h", "100001s",
                            "99999999999999999999s"})
    EXPECT_FALSE(parse_age(wrong)) << wrong;
}

TEST(Words, APatternIsSaidInWords) {
  const std::string fails =
      " failed to satisfy constraint: Member must satisfy regular expression pattern: ";
  struct Case {
    std::string message;
    const char* want;
  };
  for (const Case& c : {
           Case{"Service cannot be updated.", "Service cannot be updated."},
           Case{"", ""},
           Case{"1 validation error detected: Value 'a b' at 'domainName'" + fails + "[a-z;]{1,9}",
                "1 validation error detected: Value 'a b' at 'domainName' is not written as it "
                "must be: a host name, such as shop.example.com"},
           Case{"2 validation errors detected: Value 'x' at 'a.b.port'" + fails +
                    "[0-9]+; Value 'y' at 'tags'" + fails + ".+",
                "2 validation errors detected: Value 'x' at 'a.b.port' is not written as it must "
                "be: a number from 1 to 65535; Value 'y' at 'tags' is not written as it must be: "
                "it has characters that may not be there"},
       }) {
    EXPECT_EQ(without_patterns(c.message), c.want);
  }
}

TEST(Words, WhatWasPrintedIsNotRepeated) {
  const std::deque<std::string> told = {"compiling", "error: no such file", "make: *** 2"};
  struct Case {
    const char* message;
    const char* want;
  };
  for (const Case& c : {
           Case{"out of memory", "out of memory"},
           Case{"build: 'make' ended with exit code 2; it printed last:\nerror: no such\nmake: *** "
                "2",
                "build: 'make' ended with exit code 2"},
           Case{"installing Go failed:\ncompiling", "installing Go failed"},
           Case{"two faults:\ncompiling\nsomething else", "two faults:\ncompiling\nsomething else"},
       }) {
    EXPECT_EQ(without_told(c.message, told), c.want);
  }
}

}  // namespace
}  // namespace hob::cli
