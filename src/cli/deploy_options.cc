#include "cli/deploy_options.h"

#include <algorithm>
#include <array>
#include <boost/json.hpp>

#include "cli/context.h"
#include "cli/terminal.h"

namespace hob::cli {
namespace {

namespace json = boost::json;

constexpr size_t kNameMin = 4;
constexpr size_t kNameMax = 40;
// Of image archives' files; the longer ones first.
constexpr std::array<std::string_view, 4> kArchiveEndings = {".oci.tar", ".docker.tar", ".tar",
                                                             ".oci"};

// An image's last path component without tag and digest.
std::string base_name(std::string_view image) {
  image = image.substr(0, image.find('@'));
  if (const size_t slash = image.rfind('/'); slash != std::string_view::npos)
    image.remove_prefix(slash + 1);
  image = image.substr(0, image.find(':'));
  for (const std::string_view ending : kArchiveEndings) {
    if (image.size() > ending.size() && image.ends_with(ending)) {
      image.remove_suffix(ending.size());
      break;
    }
  }
  return std::string(image);
}

const json::object* object_at(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value != nullptr ? value->if_object() : nullptr;
}

json::object object_or_empty(const json::object& object, std::string_view name) {
  const json::object* found = object_at(object, name);
  return found != nullptr ? *found : json::object();
}

// Over `image_configuration`, what the options say.
Result<void> apply(const DeployOptions& options, json::object& image_configuration) {
  if (options.port != 0) image_configuration["Port"] = std::to_string(options.port);
  if (!options.command.empty()) image_configuration["StartCommand"] = options.command;
  if (options.secrets) {
    json::object secrets;
    for (const auto& [name, from] : *options.secrets) secrets[name] = from;
    image_configuration.erase("RuntimeEnvironmentSecrets");
    if (!secrets.empty()) image_configuration["RuntimeEnvironmentSecrets"] = std::move(secrets);
  }
  if (options.environment.empty()) return {};
  json::object variables = object_or_empty(image_configuration, "RuntimeEnvironmentVariables");
  for (const std::string& pair : options.environment) {
    const size_t equals = pair.find('=');
    if (equals == std::string::npos || equals == 0) {
      return fail(Code::kInvalid, "--env {}: it must be NAME=VALUE", pair);
    }
    variables[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  image_configuration["RuntimeEnvironmentVariables"] = std::move(variables);
  return {};
}

// "0.5" -> "0.5 vCPU": App Runner wants units of 1/1024 or MB as plain numbers, and whole ones with
// their unit.
std::string with_unit(const std::string& size, const char* unit) {
  const bool plain = !size.empty() && size.size() <= 4 &&
                     size.find_first_not_of("0123456789.") == std::string::npos;
  const bool small = size.size() < 3 || size.find('.') != std::string::npos;
  return plain && small ? size + " " + unit : size;
}

// As App Runner's model has them; which go together, control knows.
constexpr std::array<std::string_view, 10> kCpus = {
    "0.25 vCPU", "0.5 vCPU", "1 vCPU", "2 vCPU", "4 vCPU", "256", "512", "1024", "2048", "4096"};
constexpr std::array<std::string_view, 18> kMemories = {
    "0.5 GB", "1 GB", "2 GB", "3 GB", "4 GB", "6 GB", "8 GB", "10 GB", "12 GB",
    "512",    "1024", "2048", "3072", "4096", "6144", "8192", "10240", "12288"};

Result<void> apply_size(const DeployOptions& options, json::object& input) {
  if (options.cpu.empty() && options.memory.empty()) return {};
  json::object instance;
  if (!options.cpu.empty()) {
    const std::string cpu = with_unit(options.cpu, "vCPU");
    if (std::ranges::find(kCpus, cpu) == kCpus.end())
      return fail(Code::kInvalid, "--cpu {}: it is one of 0.25, 0.5, 1, 2, 4", options.cpu);
    instance["Cpu"] = cpu;
  }
  if (!options.memory.empty()) {
    const std::string memory = with_unit(options.memory, "GB");
    if (std::ranges::find(kMemories, memory) == kMemories.end()) {
      return fail(Code::kInvalid, "--memory {}: it is one of 0.5, 1, 2, 3, 4, 6, 8, 10, 12 (GB)",
                  options.memory);
    }
    instance["Memory"] = memory;
  }
  input["InstanceConfiguration"] = std::move(instance);
  return {};
}

void apply_health(const DeployOptions& options, json::object& input) {
  if (options.health_path.empty()) return;
  // Quicker than App Runner's default of every 5 s: the first answer is what a person waits for.
  input["HealthCheckConfiguration"] = {{"Protocol", "HTTP"},    {"Path", options.health_path},
                                       {"Interval", 1},         {"Timeout", 2},
                                       {"HealthyThreshold", 1}, {"UnhealthyThreshold", 5}};
}

json::object source(std::string_view identifier, json::object image_configuration,
                    bool auto_deploy) {
  return {{"AutoDeploymentsEnabled", auto_deploy},
          {"ImageRepository",
           {{"ImageIdentifier", identifier},
            {"ImageRepositoryType", "ECR"},
            {"ImageConfiguration", std::move(image_configuration)}}}};
}

}  // namespace

Result<void> check_service_name(std::string_view name) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  const auto allowed = [&](char c) { return plain(c) || c == '-' || c == '_'; };
  if (name.size() >= kNameMin && name.size() <= kNameMax && plain(name.front()) &&
      std::ranges::all_of(name, allowed))
    return {};
  return fail(Code::kInvalid,
              "'{}' cannot name a service (serviceName): {} to {} letters, digits, - and _, "
              "beginning with a letter or digit; give one with --name",
              printable(name), kNameMin, kNameMax);
}

std::string service_name_for(std::string_view image) {
  std::string name;
  for (const char c : base_name(image)) {
    const bool allowed = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                         (c >= '0' && c <= '9') || c == '-' || c == '_';
    if (allowed && name.size() < kNameMax)
      name += c;
    else if (!name.empty() && name.back() != '-' && name.size() < kNameMax)
      name += '-';
  }
  while (!name.empty() && (name.front() == '-' || name.front() == '_')) name.erase(0, 1);
  while (!name.empty() && name.back() == '-') name.pop_back();
  if (name.size() < kNameMin) name += name.empty() ? "service" : "-service";
  return name;
}

Result<void> check_reference(std::string_view image, bool has_parent) {
  const std::string shown = printable(image);
  const auto components = 1 + std::ranges::count(image, '/');
  const size_t slash = image.find('/');
  const std::string_view first = image.substr(0, slash);
  const bool has_registry =
      slash != std::string_view::npos &&
      (first.find_first_of(".:") != std::string_view::npos || first == "localhost");
  if (image.starts_with("/") || image.starts_with(".") || image.starts_with("~") ||
      image.ends_with("/") || image.ends_with(".tar") || image.ends_with(".oci")) {
    return fail(Code::kNotFound, "there is no file or folder {}", shown);
  }
  if (has_registry) return {};
  // Docker Hub's have one slash at most; who has the folder above means a folder.
  if (components > 2 || (components == 2 && has_parent))
    return fail(Code::kNotFound, "there is no file or folder {}", shown);
  if (components == 1 && image.find_first_of(":@") == std::string_view::npos) {
    return fail(Code::kNotFound,
                "{0} is no file or folder here and no image of podman; if Docker Hub's image is "
                "meant, name its tag: hob deploy {0}:latest",
                shown);
  }
  return {};
}

bool has_waits(std::string_view strategy) {
  return strategy.starts_with("canary") || strategy.starts_with("linear") ||
         strategy.find("bake=") != std::string_view::npos;
}

std::string repository_for(std::string_view name) {
  name = name.substr(0, name.find('@'));
  // A registry's host in front is not part of it.
  if (const size_t slash = name.find('/'); slash != std::string_view::npos) {
    const std::string_view first = name.substr(0, slash);
    if (first.find_first_of(".:") != std::string_view::npos || first == "localhost")
      name.remove_prefix(slash + 1);
  }
  if (const size_t colon = name.rfind(':'); colon != std::string_view::npos)
    name = name.substr(0, colon);
  std::string out;
  for (const char c : name) {
    const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    const bool letter = (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9');
    // A separator only between letters: "a--b" and "-a" are no repository names.
    if (letter)
      out += lower;
    else if (!out.empty() && out.back() != '-' && out.back() != '/')
      out += lower == '/' ? '/' : '-';
  }
  while (!out.empty() && (out.back() == '-' || out.back() == '/')) out.pop_back();
  if (out.size() < 2) out = "image" + (out.empty() ? "" : "-" + out);
  return out;
}

json::array tags_of(const DeployOptions& options) {
  json::array tags;
  const auto add = [&tags](const char* key, const std::string& value) {
    if (!value.empty()) tags.push_back({{"Key", key}, {"Value", value}});
  };
  add("hob:request-timeout", options.request_timeout);
  add("hob:idle-timeout", options.idle_timeout);
  add("hob:protocol", options.protocol);
  add("hob:isolation", options.isolation);
  add("hob:min-size", options.min_size);
  add("hob:min-size-schedule", options.min_size_schedule);
  add("hob:sleep-after", options.sleep_after);
  add("hob:stop-after", options.stop_after);
  add("hob:strategy", options.strategy);
  add("hob:keep-previous", options.keep_previous);
  add("hob:sticky", options.sticky);
  return tags;
}

Result<json::object> create_input(const DeployOptions& options, std::string_view identifier) {
  json::object image_configuration = {
      {"Port", std::to_string(options.port == 0 ? 8080 : options.port)}};
  HOB_CHECK(apply(options, image_configuration));
  json::object input = {{"ServiceName", options.name}};
  input["SourceConfiguration"] =
      source(identifier, std::move(image_configuration), options.auto_deploy);
  HOB_CHECK(apply_size(options, input));
  apply_health(options, input);
  if (json::array tags = tags_of(options); !tags.empty()) input["Tags"] = std::move(tags);
  return input;
}

Result<json::object> update_input(const DeployOptions& options, std::string_view identifier,
                                  const json::object& service) {
  const json::object current = object_or_empty(service, "SourceConfiguration");
  json::object image_configuration =
      object_or_empty(object_or_empty(current, "ImageRepository"), "ImageConfiguration");
  HOB_CHECK(apply(options, image_configuration));
  json::object input = {{"ServiceArn", text_at(service, "ServiceArn")}};
  const json::value* automatic = current.if_contains("AutoDeploymentsEnabled");
  const bool was_automatic = automatic != nullptr && automatic->is_bool() && automatic->as_bool();
  input["SourceConfiguration"] =
      source(identifier, std::move(image_configuration), options.auto_deploy || was_automatic);
  HOB_CHECK(apply_size(options, input));
  apply_health(options, input);
  // Not before: they are the new version's, the one that serves keeps its own.
  if (json::array tags = tags_of(options); !tags.empty()) input["Tags"] = std::move(tags);
  return input;
}

}  // namespace hob::cli
