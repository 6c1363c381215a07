#include "builder/detect.h"

#include <algorithm>
#include <boost/json.hpp>
#include <ranges>

#include "base/record.h"
#include "builder/app_file.h"
#include "builder/version_range.h"

namespace hob::builder {

namespace {

namespace json = boost::json;

constexpr const char* kAppFileNameMissed = "apprunner.yml";
constexpr const char* kProcfile = "Procfile";
constexpr size_t kTemplatesMax = 16;  // in one command

// The value at a JSON pointer as text; nullopt: no such file, no JSON, nothing there.
std::optional<std::string> json_text(const Source& source, const std::string& file,
                                     const std::string& pointer) {
  const Result<std::string> text = source.read(file, kSourceReadBytesMax);
  if (!text) return std::nullopt;
  const Result<json::value> parsed = record::parse(*text);
  if (!parsed) return std::nullopt;
  json::error_code error;
  const json::value* found = parsed->find_pointer(pointer, error);
  if (found == nullptr || error || found->is_null()) return std::nullopt;
  if (found->is_string()) return std::string(found->get_string());
  return json::serialize(*found);
}

bool holds_one(const Condition& condition, const Source& source) {
  switch (condition.kind) {
    case Condition::Kind::kExists:
      return !source.first_match(condition.file).empty();
    case Condition::Kind::kJson:
      return json_text(source, condition.file, condition.argument).has_value();
    case Condition::Kind::kContains: {
      const Result<std::string> text = source.read(condition.file, kSourceReadBytesMax);
      return text && text->find(condition.argument) != std::string::npos;
    }
  }
  return false;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) {
    text.remove_suffix(1);
  }
  return text;
}

// The first line that starts with `prefix`, without it and without quotes.
std::optional<std::string> line_text(const Source& source, const std::string& file,
                                     const std::string& prefix) {
  const Result<std::string> text = source.read(file, kSourceReadBytesMax);
  if (!text) return std::nullopt;
  for (const auto part : std::views::split(*text, '\n')) {
    std::string_view line = trim(std::string_view(part.begin(), part.end()));
    if (line.empty() || line.starts_with('#') || !line.starts_with(prefix)) continue;
    line = trim(line.substr(prefix.size()));
    while (!line.empty() && (line.front() == '"' || line.front() == '\'')) line.remove_prefix(1);
    while (!line.empty() && (line.back() == '"' || line.back() == '\'')) line.remove_suffix(1);
    if (!line.empty()) return std::string(line);
  }
  return std::nullopt;
}

// "${json FILE POINTER}" and "${first PATTERN}" filled in. kInvalid: there is nothing to fill in.
Result<std::string> fill(const std::string& command, const Source& source) {
  std::string filled;
  size_t at = 0;
  for (size_t i = 0; i < kTemplatesMax; ++i) {
    const size_t start = command.find("${", at);
    const size_t end = start == std::string::npos ? start : command.find('}', start);
    if (end == std::string::npos) break;
    const std::string inner = command.substr(start + 2, end - start - 2);
    std::optional<std::string> value;
    if (inner.starts_with("first ")) {
      value = source.first_match(inner.substr(6));
      if (value->empty()) value.reset();
    } else if (inner.starts_with("json ")) {
      const size_t space = inner.find(' ', 5);
      if (space != std::string::npos) {
        value = json_text(source, inner.substr(5, space - 5), inner.substr(space + 1));
      }
    } else {
      // A variable of the shell.
      value = command.substr(start, end + 1 - start);
    }
    if (!value) return fail(Code::kInvalid, "there is no {} for '{}'", inner, command);
    filled += command.substr(at, start - at) + *value;
    at = end + 1;
  }
  return filled + command.substr(at);
}

// The part of a range's text that says it for people, one line.
std::string shown(const std::string& text) {
  std::string one;
  for (const char c : text.substr(0, 60)) one += c < ' ' ? ' ' : c;
  return one;
}

std::string where(const VersionSource& source) {
  return source.kind == VersionSource::Kind::kJson ? source.file + " " + source.argument
                                                   : source.file;
}

Result<const RuntimeVersion*> choose_version(const Runtime& runtime, const Source& source,
                                             std::vector<std::string>& reasons) {
  for (const VersionSource& from : runtime.version_from) {
    std::optional<std::string> wanted = from.kind == VersionSource::Kind::kJson
                                            ? json_text(source, from.file, from.argument)
                                            : line_text(source, from.file, from.argument);
    if (!wanted) continue;
    if (from.kind == VersionSource::Kind::kAtLeast) wanted = ">=" + *wanted;
    const Result<VersionRange> range = VersionRange::parse(*wanted);
    if (!range) {
      reasons.push_back(fmt::format("{} says '{}', which is no version: passed over", where(from),
                                    shown(*wanted)));
      continue;
    }
    std::string have;
    for (const RuntimeVersion& each : runtime.versions) {
      const std::optional<Version> known = parse_version(each.known);
      if (!each.refused.empty() || !known) continue;
      if (range->contains(*known)) {
        reasons.push_back(fmt::format("{} {}: {} asks for {}", runtime.title, each.name,
                                      where(from), shown(*wanted)));
        return &each;
      }
      have += (have.empty() ? "" : ", ") + each.known;
    }
    return fail(Code::kInvalid,
                "{} asks for {} {}, and there are {} here; change it, or build the image elsewhere "
                "(podman build) and hob deploy that",
                where(from), runtime.title, shown(*wanted), have);
  }
  for (const RuntimeVersion& each : runtime.versions) {
    if (!each.refused.empty()) continue;
    reasons.push_back(fmt::format("{} {}: nothing asks for another", runtime.title, each.name));
    return &each;
  }
  return fail(Code::kInvalid, "{}: {}", runtime.title, runtime.versions.front().refused);
}

// The command of its line `web`; empty: there is none. Lines are NAME: COMMAND; not YAML, whatever
// some say: a command may hold ": ". kInvalid: a line is no such, or a release command is asked
// for.
Result<std::string> read_procfile(const Source& source) {
  std::string web;
  HOB_TRY(const std::string text, source.read(kProcfile, kSourceReadBytesMax));
  int number = 0;
  for (const auto part : std::views::split(text, '\n')) {
    ++number;
    const std::string_view line = trim(std::string_view(part.begin(), part.end()));
    if (line.empty() || line.starts_with('#')) continue;
    const size_t colon = line.find(':');
    const bool named = colon != std::string_view::npos && colon > 0 &&
                       std::ranges::all_of(line.substr(0, colon), [](char c) {
                         return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                                (c >= '0' && c <= '9') || c == '_' || c == '-';
                       });
    if (!named || trim(line.substr(colon + 1)).empty()) {
      return fail(Code::kInvalid, "Procfile: line {}: a line is NAME: COMMAND", number);
    }
    if (line.substr(0, colon) == "web") web = trim(line.substr(colon + 1));
    if (line.substr(0, colon) == "release") {
      return fail(Code::kInvalid,
                  "Procfile: line {}: release commands are not run here yet, and without it the "
                  "application may not be right; take the line away, or begin with it in web: "
                  "\"web: RELEASE && START\"",
                  number);
    }
  }
  return web;
}

Result<Recipe> recipe_of_file(const Source& source, const std::vector<Runtime>& runtimes) {
  HOB_TRY(const std::string text,
          context(source.read(kAppFileName, kSourceReadBytesMax), "{}", kAppFileName));
  HOB_TRY(AppFile file, context(parse_app_file(text), "{}", kAppFileName));
  Recipe made;
  HOB_TRY(made.runtime, context(runtime_named(runtimes, file.runtime), "{}", kAppFileName));
  const RuntimeVersion& version = *made.runtime.version;
  if (!file.runtime_version.empty()) {
    HOB_TRY(const VersionRange wanted, VersionRange::parse(file.runtime_version));
    const std::optional<Version> known = parse_version(version.known);
    if (!known || !wanted.contains(*known)) {
      return fail(Code::kInvalid,
                  "{}: runtime-version {} is not here; {} is {}. Leave it out for the newest",
                  kAppFileName, file.runtime_version, file.runtime, version.known);
    }
  }
  made.build = std::move(file.pre_build);
  made.build.insert(made.build.end(), file.build.begin(), file.build.end());
  made.post_build = std::move(file.post_build);
  made.pre_run = std::move(file.pre_run);
  made.start = std::move(file.command);
  for (const AppVariable& each : file.build_environment) {
    made.build_environment[each.name] = each.value;
  }
  for (const AppVariable& each : file.environment) made.environment[each.name] = each.value;
  made.port = file.port;
  if (!file.port_variable.empty()) {
    made.environment[file.port_variable] = std::to_string(file.port);
  }
  made.secrets = std::move(file.secrets);
  made.reasons.push_back(
      fmt::format("{}: {} {}", kAppFileName, made.runtime.runtime->title, version.name));
  return made;
}

std::string titles(const std::vector<Runtime>& runtimes) {
  std::string all;
  for (const Runtime& each : runtimes) all += (all.empty() ? "" : ", ") + each.title;
  return all;
}

Result<void> add_commands(const Runtime& runtime, const Source& source, Recipe& made) {
  const auto fits = [&](const RuntimeCommand& command) { return holds(command.when, source); };
  if (const auto install = std::ranges::find_if(runtime.install, fits);
      install != runtime.install.end()) {
    Recipe::Install step;
    HOB_TRY(step.command, fill(install->run, source));
    HOB_TRY(step.for_image, fill(install->for_image, source));
    const bool whole = std::ranges::any_of(
        install->whole_if, [&](const Conditions& any) { return holds(any, source); });
    if (!whole) step.inputs = install->inputs;
    made.install = std::move(step);
  }
  for (const RuntimeCommand& command : runtime.build | std::views::filter(fits)) {
    HOB_TRY(std::string filled, fill(command.run, source));
    made.build.push_back(std::move(filled));
  }
  for (const Runtime::Keep& each : runtime.keep) {
    if (!holds(each.when, source)) continue;
    made.keep = each.paths;
    break;
  }
  made.drop = runtime.drop;
  if (!made.start.empty()) return {};
  const auto start = std::ranges::find_if(runtime.start, fits);
  if (start == runtime.start.end()) {
    return fail(Code::kInvalid, "{}: nothing says how it is started. {}", runtime.title,
                runtime.no_start);
  }
  HOB_TRY(made.start, fill(start->run, source));
  return {};
}

Result<Recipe> detect(const Source& source, const std::vector<Runtime>& runtimes) {
  std::vector<const Runtime*> fitting;
  for (const Runtime& runtime : runtimes) {
    const bool fits = std::ranges::any_of(
        runtime.detect, [&](const Conditions& all) { return holds(all, source); });
    if (fits) fitting.push_back(&runtime);
  }
  if (fitting.empty()) {
    return fail(
        Code::kInvalid,
        "the files are of no runtime that is known here ({}); add an {}, or build the image "
        "elsewhere (podman build) and hob deploy that",
        titles(runtimes), kAppFileName);
  }
  const Runtime& runtime = *fitting.front();
  Recipe made;
  if (fitting.size() > 1) {
    made.reasons.push_back(fmt::format(
        "it looks like {} and like {}; {} is taken, \"runtime: …\" in an {} would change that",
        runtime.title, fitting[1]->title, runtime.title, kAppFileName));
  }
  HOB_TRY(const RuntimeVersion* version, choose_version(runtime, source, made.reasons));
  made.runtime = {.runtime = &runtime, .version = version};
  if (source.find(kProcfile) != nullptr) {
    HOB_TRY(made.start, read_procfile(source));
    if (!made.start.empty()) made.reasons.push_back("Procfile: web: " + shown(made.start));
  }
  HOB_CHECK(add_commands(runtime, source, made));
  return made;
}

}  // namespace

bool holds(const Conditions& conditions, const Source& source) {
  return std::ranges::all_of(
      conditions, [&](const Condition& each) { return holds_one(each, source) != each.inverted; });
}

namespace {

Recipe with_runtime(Recipe made) {
  const Runtime& runtime = *made.runtime.runtime;
  made.caches = runtime.caches;
  made.build_environment.insert(runtime.build_environment.begin(), runtime.build_environment.end());
  made.environment.insert(runtime.environment.begin(), runtime.environment.end());
  if (!made.runtime.version->note.empty()) made.reasons.push_back(made.runtime.version->note);
  return made;
}

}  // namespace

Result<Recipe> configured_recipe(const Configured& configured,
                                 const std::vector<Runtime>& runtimes) {
  Recipe made;
  HOB_TRY(made.runtime, runtime_named(runtimes, configured.runtime));
  if (!configured.build.empty()) made.build.push_back(configured.build);
  made.start = configured.start;
  made.reasons.push_back(fmt::format("the service's configuration: {} {}",
                                     made.runtime.runtime->title, made.runtime.version->name));
  return with_runtime(std::move(made));
}

Result<Recipe> make_recipe(const Source& source, const std::vector<Runtime>& runtimes) {
  const bool has_file = source.find(kAppFileName) != nullptr;
  if (!has_file && source.find(kAppFileNameMissed) != nullptr) {
    return fail(Code::kInvalid, "{}: App Runner's file is called {}; rename it", kAppFileNameMissed,
                kAppFileName);
  }
  HOB_TRY(Recipe made, has_file ? recipe_of_file(source, runtimes) : detect(source, runtimes));
  return with_runtime(std::move(made));
}

}  // namespace hob::builder
