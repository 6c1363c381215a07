#include "builder/runtime.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "base/file.h"
#include "builder/yaml.h"

namespace hob::builder {

namespace {

using Kind = YamlNode::Kind;

Result<std::string> text_of(const YamlNode& node, std::string_view what) {
  if (node.kind != Kind::kScalar || node.empty) {
    return fail_at(node.place, fmt::format("{} has to be text", what));
  }
  return node.text;
}

Result<std::string> text_at(const YamlNode& map, const char* key) {
  const YamlNode* node = map.find(key);
  if (node == nullptr) return std::string();
  return text_of(*node, key);
}

Result<std::string> required_text(const YamlNode& map, const char* key) {
  if (map.find(key) == nullptr) return fail_at(map.place, fmt::format("'{}' is missing", key));
  return text_at(map, key);
}

// A list, or one text in place of a list of one.
Result<std::vector<std::string>> texts_at(const YamlNode& map, const char* key) {
  std::vector<std::string> found;
  const YamlNode* node = map.find(key);
  if (node == nullptr) return found;
  if (node->kind == Kind::kScalar) return std::vector<std::string>{node->text};
  for (const YamlNode& item : node->items) {
    HOB_TRY(std::string text, text_of(item, key));
    found.push_back(std::move(text));
  }
  return found;
}

Result<std::map<std::string, std::string>> map_at(const YamlNode& map, const char* key) {
  std::map<std::string, std::string> found;
  const YamlNode* node = map.find(key);
  if (node == nullptr) return found;
  if (node->kind != Kind::kMap)
    return fail_at(node->place, fmt::format("'{}' has to be a map", key));
  for (size_t i = 0; i < node->keys.size(); ++i) {
    HOB_TRY(found[node->keys[i].text], text_of(node->items[i], node->keys[i].text));
  }
  return found;
}

Result<void> check_keys(const YamlNode& map, std::initializer_list<std::string_view> known) {
  if (map.kind != Kind::kMap) return fail_at(map.place, "a map is expected");
  for (const YamlNode& key : map.keys) {
    if (std::ranges::find(known, key.text) == known.end()) {
      return fail_at(key.place, fmt::format("unknown key '{}'", key.text));
    }
  }
  return {};
}

// The first word of `text`, which loses it.
std::string take_word(std::string_view& text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  const size_t end = std::min(text.find(' '), text.size());
  std::string word(text.substr(0, end));
  text.remove_prefix(std::min(end + 1, text.size()));
  return word;
}

Result<Condition> condition(const YamlNode& node) {
  HOB_TRY(const std::string written, text_of(node, "a condition"));
  std::string_view text = written;
  Condition made;
  std::string verb = take_word(text);
  if (verb == "not") {
    made.inverted = true;
    verb = take_word(text);
  }
  if (verb == "exists")
    made.kind = Condition::Kind::kExists;
  else if (verb == "json")
    made.kind = Condition::Kind::kJson;
  else if (verb == "contains")
    made.kind = Condition::Kind::kContains;
  else
    return fail_at(node.place,
                   "a condition is [not] exists PATTERN, json FILE POINTER or "
                   "contains FILE TEXT");
  made.file = take_word(text);
  made.argument = std::string(text);
  if (made.file.empty() || (made.kind != Condition::Kind::kExists && made.argument.empty())) {
    return fail_at(node.place, fmt::format("'{}' lacks something", written));
  }
  return made;
}

// One condition, or a list of them that all have to hold.
Result<Conditions> conditions(const YamlNode& node) {
  Conditions all;
  if (node.kind == Kind::kScalar) {
    HOB_TRY(Condition only, condition(node));
    all.push_back(std::move(only));
    return all;
  }
  for (const YamlNode& item : node.items) {
    HOB_TRY(Condition each, condition(item));
    all.push_back(std::move(each));
  }
  return all;
}

Result<std::vector<Conditions>> alternatives_at(const YamlNode& map, const char* key) {
  std::vector<Conditions> any;
  const YamlNode* node = map.find(key);
  if (node == nullptr) return any;
  if (node->kind != Kind::kList) {
    return fail_at(node->place, fmt::format("'{}' has to be a list", key));
  }
  for (const YamlNode& item : node->items) {
    HOB_TRY(Conditions each, conditions(item));
    any.push_back(std::move(each));
  }
  return any;
}

Result<std::vector<RuntimeCommand>> commands_at(const YamlNode& map, const char* key) {
  std::vector<RuntimeCommand> found;
  const YamlNode* node = map.find(key);
  if (node == nullptr) return found;
  if (node->kind != Kind::kList) {
    return fail_at(node->place, fmt::format("'{}' has to be a list", key));
  }
  for (const YamlNode& item : node->items) {
    HOB_CHECK(check_keys(item, {"when", "run", "for-image", "inputs", "whole-if"}));
    RuntimeCommand made;
    if (const YamlNode* when = item.find("when")) {
      HOB_TRY(made.when, conditions(*when));
    }
    HOB_TRY(made.run, required_text(item, "run"));
    HOB_TRY(made.for_image, text_at(item, "for-image"));
    HOB_TRY(made.inputs, texts_at(item, "inputs"));
    HOB_TRY(made.whole_if, alternatives_at(item, "whole-if"));
    found.push_back(std::move(made));
  }
  return found;
}

Result<Packages> packages_at(const YamlNode& map, const char* key) {
  Packages made;
  const YamlNode* node = map.find(key);
  if (node == nullptr) return made;
  HOB_CHECK(check_keys(*node, {"debian", "npm", "links", "commands"}));
  HOB_TRY(made.debian, texts_at(*node, "debian"));
  HOB_TRY(made.links, map_at(*node, "links"));
  HOB_TRY(made.commands, texts_at(*node, "commands"));
  const YamlNode* npm = node->find("npm");
  if (npm == nullptr) return made;
  for (const YamlNode& item : npm->items) {
    HOB_CHECK(check_keys(item, {"package", "version", "from", "to"}));
    NpmFiles files;
    HOB_TRY(files.package, required_text(item, "package"));
    HOB_TRY(files.version, required_text(item, "version"));
    HOB_TRY(files.from, required_text(item, "from"));
    HOB_TRY(files.to, required_text(item, "to"));
    made.npm.push_back(std::move(files));
  }
  return made;
}

Result<RuntimeVersion> version(const YamlNode& node) {
  HOB_CHECK(check_keys(
      node, {"version", "known", "names", "note", "refused", "build", "run", "both", "run-like"}));
  RuntimeVersion made;
  HOB_TRY(made.name, required_text(node, "version"));
  HOB_TRY(made.known, text_at(node, "known"));
  HOB_TRY(made.names, texts_at(node, "names"));
  HOB_TRY(made.note, text_at(node, "note"));
  HOB_TRY(made.refused, text_at(node, "refused"));
  const bool one = node.find("both") != nullptr;
  if (one && (node.find("build") != nullptr || node.find("run") != nullptr)) {
    return fail_at(node.place, "'both' is in place of 'build' and 'run'");
  }
  HOB_TRY(made.build, packages_at(node, one ? "both" : "build"));
  HOB_TRY(made.run, packages_at(node, one ? "both" : "run"));
  HOB_TRY(made.run_like, text_at(node, "run-like"));
  if (made.known.empty()) made.known = made.name;
  return made;
}

Result<std::vector<VersionSource>> version_sources(const YamlNode& map) {
  HOB_TRY(const std::vector<std::string> lines, texts_at(map, "version-from"));
  std::vector<VersionSource> found;
  for (const std::string& line : lines) {
    std::string_view text = line;
    VersionSource made;
    const std::string verb = take_word(text);
    if (verb == "json")
      made.kind = VersionSource::Kind::kJson;
    else if (verb == "line")
      made.kind = VersionSource::Kind::kLine;
    else if (verb == "at-least")
      made.kind = VersionSource::Kind::kAtLeast;
    else
      return fail_at(map.find("version-from")->place,
                     "json FILE POINTER, line FILE PREFIX or at-least FILE PREFIX");
    made.file = take_word(text);
    made.argument = std::string(text);
    found.push_back(std::move(made));
  }
  return found;
}

Result<std::vector<Runtime::Keep>> keeps_at(const YamlNode& map) {
  std::vector<Runtime::Keep> found;
  const YamlNode* node = map.find("keep");
  if (node == nullptr) return found;
  for (const YamlNode& item : node->items) {
    HOB_CHECK(check_keys(item, {"when", "paths"}));
    Runtime::Keep made;
    if (const YamlNode* when = item.find("when")) {
      HOB_TRY(made.when, conditions(*when));
    }
    HOB_TRY(made.paths, texts_at(item, "paths"));
    found.push_back(std::move(made));
  }
  return found;
}

// "NODEJS_22" and "nodejs22" are one name.
std::string plain_name(std::string_view name) {
  std::string plain;
  for (const char c : name) {
    if (c != '_') plain += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  }
  return plain;
}

}  // namespace

Result<Runtime> parse_runtime(std::string_view text) {
  HOB_TRY(const YamlNode root, parse_yaml(text));
  HOB_CHECK(check_keys(root, {"name", "title", "order", "detect", "ignore", "versions",
                              "version-from", "install", "build", "start", "keep", "drop", "caches",
                              "build-environment", "environment", "no-start"}));
  Runtime made;
  HOB_TRY(made.name, required_text(root, "name"));
  HOB_TRY(made.title, required_text(root, "title"));
  HOB_TRY(const std::string order, required_text(root, "order"));
  const auto [end, error] = std::from_chars(order.data(), order.data() + order.size(), made.order);
  if (error != std::errc() || end != order.data() + order.size()) {
    return fail_at(root.find("order")->place, "'order' has to be a number");
  }
  HOB_TRY(made.detect, alternatives_at(root, "detect"));
  HOB_TRY(made.ignore, texts_at(root, "ignore"));
  HOB_TRY(made.version_from, version_sources(root));
  HOB_TRY(made.install, commands_at(root, "install"));
  HOB_TRY(made.build, commands_at(root, "build"));
  HOB_TRY(made.start, commands_at(root, "start"));
  HOB_TRY(made.build_environment, map_at(root, "build-environment"));
  HOB_TRY(made.environment, map_at(root, "environment"));
  HOB_TRY(made.no_start, text_at(root, "no-start"));
  HOB_TRY(made.keep, keeps_at(root));
  HOB_TRY(made.drop, texts_at(root, "drop"));
  HOB_TRY(made.caches, texts_at(root, "caches"));
  const YamlNode* versions = root.find("versions");
  if (versions == nullptr || versions->items.empty()) {
    return fail_at(root.place, "'versions' is missing");
  }
  for (const YamlNode& item : versions->items) {
    HOB_TRY(RuntimeVersion each, version(item));
    made.versions.push_back(std::move(each));
  }
  return made;
}

Result<std::vector<Runtime>> load_runtimes(const std::filesystem::path& folder) {
  std::vector<Runtime> all;
  std::set<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() != ".yaml") continue;
    if (all.size() == kRuntimesMax)
      return fail(Code::kLimit, "more than {} runtimes", kRuntimesMax);
    HOB_TRY(const std::string text, read_file(entry.path(), kYamlBytesMax));
    HOB_TRY(Runtime made, context(parse_runtime(text), "{}", entry.path().string()));
    for (const RuntimeVersion& each : made.versions) {
      for (const std::string& name : each.names) {
        if (!names.insert(plain_name(name)).second) {
          return fail(Code::kInvalid, "two runtimes are named {}", name);
        }
      }
    }
    all.push_back(std::move(made));
  }
  if (error) return fail(Code::kUnavailable, "reading {}: {}", folder.string(), error.message());
  for (Runtime& runtime : all) {
    for (RuntimeVersion& each : runtime.versions) {
      if (each.run_like.empty()) continue;
      const auto like = std::ranges::find(all, each.run_like, &Runtime::name);
      if (like == all.end()) {
        return fail(Code::kInvalid, "{}: run-like: there is no runtime {}", runtime.name,
                    each.run_like);
      }
      each.run = like->versions.front().run;
    }
  }
  std::ranges::sort(all, {}, [](const Runtime& each) { return std::pair(each.order, each.name); });
  return all;
}

Result<RuntimeChoice> runtime_named(const std::vector<Runtime>& runtimes, std::string_view name) {
  std::string known;
  for (const Runtime& runtime : runtimes) {
    for (const RuntimeVersion& version : runtime.versions) {
      for (const std::string& each : version.names) {
        if (plain_name(each) == plain_name(name)) {
          if (!version.refused.empty()) {
            return fail(Code::kInvalid, "{}: {}", name, version.refused);
          }
          return RuntimeChoice{.runtime = &runtime, .version = &version};
        }
        if (version.refused.empty()) known += (known.empty() ? "" : ", ") + plain_name(each);
      }
    }
  }
  return fail(Code::kInvalid, "there is no runtime '{}'; there are {}", name.substr(0, 40), known);
}

}  // namespace hob::builder
