#include "sandbox/command_line.h"

#include "sandbox/limits.h"

namespace hob::sandbox {

namespace {

Result<void> check_size(const std::vector<std::string>& words, const char* what) {
  if (words.size() > kArgumentsMax) {
    return fail(Code::kInvalid, "{} of {} entries; at most {}", what, words.size(), kArgumentsMax);
  }
  size_t bytes = 0;
  for (const std::string& word : words) {
    bytes += word.size() + 1;
    if (word.contains('\0')) return fail(Code::kInvalid, "{} holds a NUL byte", what);
  }
  if (bytes > kArgumentBytesMax)
    return fail(Code::kInvalid, "{} of {} bytes; at most {}", what, bytes, kArgumentBytesMax);
  return {};
}

}  // namespace

Result<std::vector<std::string>> merge_command(const TaskSpec& spec) {
  const bool own_entry_point = !spec.entry_point.empty();
  std::vector<std::string> words =
      own_entry_point ? spec.entry_point : spec.image.config.entry_point;
  const std::vector<std::string>& command =
      own_entry_point || !spec.command.empty() ? spec.command : spec.image.config.command;
  words.insert(words.end(), command.begin(), command.end());
  if (words.empty() || words.front().empty()) {
    return fail(Code::kInvalid,
                "no command specified: neither the image nor the service says what to run");
  }
  HOB_CHECK(check_size(words, "a command line"));
  return words;
}

Result<std::vector<std::string>> merge_environment(const TaskSpec& spec, const std::string& home) {
  std::map<std::string, std::string> merged = {{"PATH", kDefaultPath}, {"HOME", home}};
  if (!spec.host_name.empty()) merged["HOSTNAME"] = spec.host_name;
  for (const std::string& entry : spec.image.config.environment) {
    const size_t equals = entry.find('=');
    if (equals == std::string::npos || equals == 0)
      continue;  // "K" alone unsets, and there is nothing to unset
    merged[entry.substr(0, equals)] = entry.substr(equals + 1);
  }
  for (const auto& [name, value] : spec.environment) {
    if (name.empty() || name.contains('='))
      return fail(Code::kInvalid, "'{}' cannot name a variable", name);
    merged[name] = value;
  }
  std::vector<std::string> environment;
  for (const auto& [name, value] : merged) environment.push_back(name + "=" + value);
  HOB_CHECK(check_size(environment, "an environment"));
  return environment;
}

std::string variable(const std::vector<std::string>& environment, const std::string& name) {
  for (const std::string& entry : environment) {
    if (entry.size() > name.size() && entry.starts_with(name) && entry[name.size()] == '=') {
      return entry.substr(name.size() + 1);
    }
  }
  return {};
}

}  // namespace hob::sandbox
