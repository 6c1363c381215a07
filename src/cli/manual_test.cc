// The manual and the shell's completion know every command and every option of it.
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "base/file.h"
#include "base/process.h"
#include "cli/commands.h"

namespace hob::cli {
namespace {

struct Known {
  std::string command{};  // "domain add"
  std::vector<std::string> options{};
};

void collect(const CLI::App& app, const std::string& above, std::vector<Known>& all) {
  for (const CLI::App* command : app.get_subcommands(nullptr)) {
    if (command->get_group().empty()) continue;  // git's, not people's
    const std::string name = above + command->get_name();
    if (!command->get_subcommands(nullptr).empty()) {
      collect(*command, name + " ", all);
      continue;
    }
    Known known{.command = name};
    for (const CLI::Option* option : command->get_options()) {
      if (option->get_group().empty()) continue;  // said by another supervisor, not by people
      for (const std::string& each : option->get_lnames()) {
        if (each != "help") known.options.push_back("--" + each);
      }
    }
    all.push_back(std::move(known));
  }
}

std::vector<Known> commands() {
  Context context;
  CLI::App program("", "hob");
  add_commands(program, context);
  std::vector<Known> all;
  collect(program, "", all);
  EXPECT_GT(all.size(), 30u);
  return all;
}

std::string file(const char* name) {
  return read_file(std::string(HOB_SOURCE_DIR "/share/") + name, 1024 * 1024).value();
}

// What stands in the manual under each command: until the next heading that is not of an option.
std::map<std::string, std::set<std::string>> manual() {
  std::map<std::string, std::set<std::string>> options;
  std::istringstream lines(file("hob.1"));
  std::string line;
  std::string before;
  std::string command;
  for (; std::getline(lines, line); before = line) {
    if (before != ".TP" || !line.starts_with(".B ")) continue;
    std::string text;
    for (const char c : line.substr(3)) {
      if (c != '\\') text += c;
    }
    if (text.starts_with("-")) {
      std::istringstream words(text);
      for (std::string word; words >> word;) {
        if (word.starts_with("--")) options[command].insert(word);
      }
      continue;
    }
    // "deploy fIIMAGE": the name ends where the argument begins.
    command = text.substr(0, text.find_first_of("[."));
    if (const size_t argument = command.find(" fI"); argument != std::string::npos)
      command.resize(argument);
    while (command.ends_with(' ')) command.pop_back();
    options.try_emplace(command);
  }
  return options;
}

TEST(Manual, HasEveryOptionOfEveryCommand) {
  const auto written = manual();
  for (const Known& known : commands()) {
    const auto section = written.find(known.command);
    if (section == written.end()) {
      ADD_FAILURE() << "share/hob.1 has no entry for " << known.command;
      continue;
    }
    for (const std::string& option : known.options)
      EXPECT_TRUE(section->second.contains(option)) << known.command << ' ' << option;
    for (const std::string& option : section->second)
      EXPECT_TRUE(std::ranges::find(known.options, option) != known.options.end())
          << "there is no " << known.command << ' ' << option;
  }
}

// As a person's shell would: one TAB for each command.
TEST(Completion, OffersEveryOptionOfEveryCommand) {
  const std::vector<Known> all = commands();
  std::string script = "source " HOB_SOURCE_DIR "/share/hob.bash\n";
  script +=
      "offer() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _hob; echo "
      "\"${COMPREPLY[*]}\"; }\n";
  for (const Known& known : all) script += "offer hob --data /tmp " + known.command + " --\n";
  script += "offer hob ''\noffer hob --data /nowhere sc\n";
  const auto done = run_blocking({.argv = {"/bin/bash", "-c", script}}, std::chrono::seconds(60));
  ASSERT_TRUE(done && done->status == 0) << (done ? done->errors : done.error().message);
  std::istringstream lines(done->output);
  std::string line;
  for (const Known& known : all) {
    ASSERT_TRUE(std::getline(lines, line));
    for (const std::string& option : known.options)
      EXPECT_NE((" " + line + " ").find(" " + option + " "), std::string::npos)
          << known.command << ' ' << option;
  }
  ASSERT_TRUE(std::getline(lines, line));
  for (const Known& known : all) {
    const std::string first = known.command.substr(0, known.command.find(' '));
    EXPECT_NE((" " + line + " ").find(" " + first + " "), std::string::npos) << first;
  }
  ASSERT_TRUE(std::getline(lines, line));
  EXPECT_EQ(line, "scale") << "the value of --data is no command";
}

}  // namespace
}  // namespace hob::cli
