#include "builder/app_file.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>
#include <set>

#include "base/nearest_word.h"
#include "builder/yaml.h"

namespace hob::builder {

namespace {

constexpr std::string_view kReservedPrefix = "AWSAPPRUNNER";

constexpr size_t kWordBytesShown = 32;

std::string list_of(std::initializer_list<std::string_view> words) {
  std::string list;
  for (const std::string_view each : words) {
    if (!list.empty()) list += ", ";
    list += each;
  }
  return list;
}

Result<void> check_keys(const YamlNode& map, std::string_view where,
                        std::initializer_list<std::string_view> known) {
  for (const YamlNode& key : map.keys) {
    if (std::ranges::find(known, key.text) != known.end()) continue;
    const std::string_view shown = std::string_view(key.text).substr(0, kWordBytesShown);
    const std::string meant = nearest_word(key.text, {known.begin(), known.end()});
    if (!meant.empty()) {
      return fail_at(key.place,
                     fmt::format("'{}' is no key of {}; did you mean '{}'?", shown, where, meant));
    }
    return fail_at(key.place,
                   fmt::format("'{}' is no key of {}; there are {}", shown, where, list_of(known)));
  }
  return {};
}

Result<const YamlNode*> required(const YamlNode& map, std::string_view where,
                                 std::string_view key) {
  const YamlNode* found = map.find(key);
  if (found == nullptr || found->empty) {
    return fail_at(found == nullptr ? map.place : found->place,
                   fmt::format("{} needs '{}'", where, key));
  }
  return found;
}

Result<void> expect(const YamlNode& node, std::string_view what, YamlNode::Kind kind) {
  if (node.kind == kind && !(kind == YamlNode::Kind::kScalar && node.empty)) return {};
  return fail_at(node.place, fmt::format("{} has to be {}, this is {}", what, word(kind),
                                         node.empty ? "nothing" : word(node.kind)));
}

Result<std::string> one_line(const YamlNode& node, std::string_view what) {
  HOB_CHECK(expect(node, what, YamlNode::Kind::kScalar));
  if (node.text.size() > kAppCommandBytesMax) {
    return fail(Code::kLimit, "line {}: {} has {} bytes; at most {}", node.place.line, what,
                node.text.size(), kAppCommandBytesMax);
  }
  return node.text;
}

Result<std::vector<std::string>> commands(const YamlNode& map, const char* key) {
  const YamlNode* list = map.find(key);
  if (list == nullptr || list->empty) return std::vector<std::string>();
  if (list->kind == YamlNode::Kind::kScalar) {
    return fail_at(list->place,
                   fmt::format("'{}' is a list of commands: put each on a line of its own, "
                               "after \"- \"",
                               key));
  }
  HOB_CHECK(expect(*list, fmt::format("'{}'", key), YamlNode::Kind::kList));
  if (list->items.size() > kAppCommandsMax) {
    return fail(Code::kLimit, "line {}: '{}' has {} commands; at most {}", list->place.line, key,
                list->items.size(), kAppCommandsMax);
  }
  std::vector<std::string> found;
  for (const YamlNode& item : list->items) {
    HOB_TRY(std::string command, one_line(item, fmt::format("a command of '{}'", key)));
    found.push_back(std::move(command));
  }
  return found;
}

Result<void> check_variable_name(const YamlNode& node) {
  if (node.text.empty() || node.text.find('=') != std::string::npos) {
    return fail_at(node.place, fmt::format("'{}' is no name of a variable", node.text));
  }
  if (node.text.starts_with(kReservedPrefix)) {
    return fail_at(node.place,
                   fmt::format("names that start with {} are App Runner's own", kReservedPrefix));
  }
  return {};
}

// A list of {name, `value_key`}, as pairs.
Result<std::vector<AppVariable>> pairs(const YamlNode& map, const char* key,
                                       const char* value_key) {
  const YamlNode* list = map.find(key);
  if (list == nullptr || list->empty) return std::vector<AppVariable>();
  const std::string shape = fmt::format("\"- name: NAME\" and below it \"  {}: …\"", value_key);
  if (list->kind != YamlNode::Kind::kList) {
    return fail_at(list->place, fmt::format("'{}' is a list: each entry is {}", key, shape));
  }
  std::vector<AppVariable> found;
  std::set<std::string> names;
  for (const YamlNode& item : list->items) {
    if (item.kind != YamlNode::Kind::kMap) {
      return fail_at(item.place, fmt::format("an entry of '{}' is {}", key, shape));
    }
    const std::string where = fmt::format("an entry of '{}'", key);
    HOB_CHECK(check_keys(item, where, {"name", value_key}));
    HOB_TRY(const YamlNode* name, required(item, where, "name"));
    HOB_CHECK(expect(*name, "'name'", YamlNode::Kind::kScalar));
    HOB_CHECK(check_variable_name(*name));
    const YamlNode* value = item.find(value_key);
    if (value == nullptr)
      return fail_at(item.place, fmt::format("{} needs '{}'", where, value_key));
    AppVariable made{.name = name->text};
    if (!value->empty) {
      HOB_TRY(made.value, one_line(*value, fmt::format("'{}'", value_key)));
    }
    if (!names.insert(made.name).second) {
      return fail_at(name->place, fmt::format("'{}' is set twice", made.name));
    }
    found.push_back(std::move(made));
    if (found.size() > kAppVariablesMax) {
      return fail(Code::kLimit, "line {}: '{}' has more than {} entries", item.place.line, key,
                  kAppVariablesMax);
    }
  }
  return found;
}

Result<void> read_build(const YamlNode& build, AppFile& file) {
  HOB_CHECK(expect(build, "'build'", YamlNode::Kind::kMap));
  HOB_CHECK(check_keys(build, "'build'", {"commands", "env"}));
  HOB_TRY(const YamlNode* lists, required(build, "'build'", "commands"));
  if (lists->kind != YamlNode::Kind::kMap) {
    return fail_at(lists->place,
                   "'commands' is a map of pre-build, build and post-build, each a list");
  }
  HOB_CHECK(check_keys(*lists, "'commands'", {"pre-build", "build", "post-build"}));
  HOB_CHECK(required(*lists, "'commands'", "build"));
  HOB_TRY(file.pre_build, commands(*lists, "pre-build"));
  HOB_TRY(file.build, commands(*lists, "build"));
  HOB_TRY(file.post_build, commands(*lists, "post-build"));
  if (file.build.empty()) return fail_at(lists->find("build")->place, "'build' is an empty list");
  HOB_TRY(file.build_environment, pairs(build, "env", "value"));
  return {};
}

// "22", "3.11", "11.0.22.7.1": numbers with points between.
bool is_version(std::string_view text) {
  int parts = 1;
  bool digit = false;
  for (const char c : text) {
    if (c == '.') {
      if (!digit) return false;
      ++parts;
      digit = false;
    } else if (c >= '0' && c <= '9') {
      digit = true;
    } else {
      return false;
    }
  }
  return digit && parts <= 5;
}

Result<void> read_network(const YamlNode& network, AppFile& file) {
  HOB_CHECK(expect(network, "'network'", YamlNode::Kind::kMap));
  HOB_CHECK(check_keys(network, "'network'", {"port", "env"}));
  if (const YamlNode* port = network.find("port"); port != nullptr && !port->empty) {
    HOB_CHECK(expect(*port, "'port'", YamlNode::Kind::kScalar));
    const char* end = port->text.data() + port->text.size();
    const auto [stopped, error] = std::from_chars(port->text.data(), end, file.port);
    if (error != std::errc() || stopped != end || file.port == 0) {
      return fail_at(port->place,
                     fmt::format("'{}' is no port; it is a number, 1 to 65535", port->text));
    }
  }
  if (const YamlNode* name = network.find("env"); name != nullptr && !name->empty) {
    if (name->kind != YamlNode::Kind::kScalar) {
      return fail_at(name->place,
                     "'env' of 'network' is the name of one variable that carries the "
                     "port; the application's variables are 'env' of 'run'");
    }
    HOB_CHECK(check_variable_name(*name));
    file.port_variable = name->text;
  }
  return {};
}

Result<void> read_run(const YamlNode& run, AppFile& file) {
  HOB_CHECK(expect(run, "'run'", YamlNode::Kind::kMap));
  HOB_CHECK(check_keys(run, "'run'",
                       {"runtime-version", "pre-run", "command", "network", "env", "secrets"}));
  HOB_TRY(const YamlNode* command, required(run, "'run'", "command"));
  if (command->kind == YamlNode::Kind::kList) {
    return fail_at(command->place, "'command' is one line of text, no list");
  }
  HOB_TRY(file.command, one_line(*command, "'command'"));
  if (const YamlNode* version = run.find("runtime-version");
      version != nullptr && !version->empty) {
    HOB_CHECK(expect(*version, "'runtime-version'", YamlNode::Kind::kScalar));
    if (!is_version(version->text)) {
      return fail_at(version->place,
                     fmt::format("'{}' is no version; one is like 3.11 or 22.17.0", version->text));
    }
    file.runtime_version = version->text;
  }
  HOB_TRY(file.pre_run, commands(run, "pre-run"));
  if (const YamlNode* network = run.find("network"); network != nullptr && !network->empty) {
    HOB_CHECK(read_network(*network, file));
  }
  HOB_TRY(file.environment, pairs(run, "env", "value"));
  HOB_TRY(std::vector<AppVariable> secrets, pairs(run, "secrets", "value-from"));
  for (AppVariable& each : secrets) {
    const bool both = std::ranges::find(file.environment, each.name, &AppVariable::name) !=
                      file.environment.end();
    if (both) {
      return fail_at(run.find("secrets")->place,
                     fmt::format("'{}' is in 'env' and in 'secrets'", each.name));
    }
    file.secrets.push_back({.name = std::move(each.name), .value_from = std::move(each.value)});
  }
  if (file.environment.size() + file.secrets.size() > kAppVariablesMax) {
    return fail(Code::kLimit, "'env' and 'secrets' have {} entries together; at most {}",
                file.environment.size() + file.secrets.size(), kAppVariablesMax);
  }
  return {};
}

}  // namespace

Result<AppFile> parse_app_file(std::string_view text) {
  HOB_TRY(const YamlNode root, parse_yaml(text));
  if (root.kind != YamlNode::Kind::kMap) {
    return fail_at(
        root.place,
        fmt::format("version, runtime, build and run are expected, this is {}", word(root.kind)));
  }
  HOB_CHECK(check_keys(root, "the file", {"version", "runtime", "build", "run"}));
  HOB_TRY(const YamlNode* version, required(root, "the file", "version"));
  if (version->text != "1.0" && version->text != "1") {
    return fail_at(version->place, fmt::format("version '{}'; the only one is 1.0", version->text));
  }
  AppFile file;
  HOB_TRY(const YamlNode* runtime, required(root, "the file", "runtime"));
  HOB_CHECK(expect(*runtime, "'runtime'", YamlNode::Kind::kScalar));
  file.runtime = runtime->text;
  HOB_TRY(const YamlNode* build, required(root, "the file", "build"));
  HOB_CHECK(read_build(*build, file));
  HOB_TRY(const YamlNode* run, required(root, "the file", "run"));
  HOB_CHECK(read_run(*run, file));
  return file;
}

}  // namespace hob::builder
