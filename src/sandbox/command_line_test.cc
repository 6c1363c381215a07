#include "sandbox/command_line.h"

#include <gtest/gtest.h>

#include "sandbox/limits.h"

namespace hob::sandbox {
namespace {

using Words = std::vector<std::string>;

std::string joined(const Result<Words>& words) {
  if (!words) return words.error().message;
  std::string text;
  for (const std::string& word : *words) text += (text.empty() ? "" : " ") + word;
  return text;
}

TEST(CommandLine, MergesAsDockerDoes) {
  struct Case {
    const char* name;
    Words image_entry_point, image_command, entry_point, command;
    const char* want;
  };
  for (const Case& c : {
           Case{"the image's both", {"e"}, {"c"}, {}, {}, "e c"},
           Case{"a command replaces the image's", {"e"}, {"c"}, {}, {"d"}, "e d"},
           Case{"an entry point replaces both", {"e"}, {"c"}, {"f"}, {}, "f"},
           Case{"both replace both", {"e"}, {"c"}, {"f"}, {"d"}, "f d"},
           Case{"a command alone", {}, {"c", "x"}, {}, {}, "c x"},
           Case{"nothing",
                {},
                {},
                {},
                {},
                "no command specified: neither the image nor the service says what to run"},
           Case{"an empty word",
                {},
                {""},
                {},
                {},
                "no command specified: neither the image nor the service says what to run"},
       }) {
    TaskSpec spec{.entry_point = c.entry_point, .command = c.command};
    spec.image.config.entry_point = c.image_entry_point;
    spec.image.config.command = c.image_command;
    EXPECT_EQ(joined(merge_command(spec)), c.want) << c.name;
  }
}

TEST(CommandLine, HasLimits) {
  EXPECT_TRUE(merge_command({.command = Words(kArgumentsMax, "x")}).has_value());
  EXPECT_EQ(merge_command({.command = Words(kArgumentsMax + 1, "x")}).error().code, Code::kInvalid);
  EXPECT_EQ(merge_command({.command = {std::string(kArgumentBytesMax, 'x')}}).error().code,
            Code::kInvalid);
  EXPECT_EQ(merge_command({.command = {std::string("a\0b", 3)}}).error().code, Code::kInvalid);
  EXPECT_EQ(merge_environment({.environment = {{"A", std::string("\0", 1)}}}, "/").error().code,
            Code::kInvalid);
  EXPECT_EQ(merge_environment({.environment = {{"A=B", ""}}}, "/").error().code, Code::kInvalid);
  EXPECT_EQ(merge_environment({.environment = {{"", "x"}}}, "/").error().code, Code::kInvalid);
}

TEST(CommandLine, MergesTheEnvironment) {
  TaskSpec spec{.environment = {{"B", "task"}, {"E", ""}}, .host_name = "h"};
  spec.image.config.environment = {"A=image", "B=image", "C=a=b", "D", "=x"};
  EXPECT_EQ(merge_environment(spec, "/root").value(),
            (Words{"A=image", "B=task", "C=a=b", "E=", "HOME=/root", "HOSTNAME=h",
                   std::string("PATH=") + kDefaultPath}));
  spec.image.config.environment = {"PATH=/p", "HOME=/h", "HOSTNAME=x"};
  spec.environment.clear();
  EXPECT_EQ(merge_environment(spec, "/root").value(), (Words{"HOME=/h", "HOSTNAME=x", "PATH=/p"}));
  EXPECT_EQ(variable({"PATHX=1", "PATH=2"}, "PATH"), "2");
  EXPECT_EQ(variable({"PATHX=1"}, "PATH"), "");
}

}  // namespace
}  // namespace hob::sandbox
