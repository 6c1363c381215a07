#include "runner/arns.h"

#include <fmt/core.h>

#include <charconv>
#include <vector>

namespace hob::runner {

namespace {
constexpr std::string_view kPrefix = "arn:aws:apprunner:";

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (;;) {
    const size_t at = text.find(separator);
    parts.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}
}  // namespace

std::string arn_of(const Service& service) {
  return fmt::format("{}{}:{}:service/{}/{}", kPrefix, service.region, service.account,
                     service.name, service.id);
}

std::string arn_of(const std::string& region, const std::string& account,
                   const ScalingReference& scaling) {
  return fmt::format("{}{}:{}:autoscalingconfiguration/{}/{}/{}", kPrefix, region, account,
                     scaling.name, scaling.revision, scaling.id);
}

std::string arn_of(const std::string& region, const Connection& connection) {
  return fmt::format("{}{}:{}:connection/{}/{}", kPrefix, region, connection.account,
                     connection.name, connection.id);
}

std::string arn_of(const std::string& region, const ObservabilityConfiguration& configuration) {
  return fmt::format("{}{}:{}:observabilityconfiguration/{}/{}/{}", kPrefix, region,
                     configuration.account, configuration.name, configuration.revision,
                     configuration.id);
}

std::optional<ResourceArn> parse_arn(std::string_view text) {
  if (!text.starts_with(kPrefix)) return std::nullopt;
  const std::vector<std::string> fields = split(text.substr(kPrefix.size()), ':');
  if (fields.size() != 3) return std::nullopt;
  const std::vector<std::string> path = split(fields[2], '/');
  for (const std::string& part : path) {
    if (part.empty()) return std::nullopt;
  }
  ResourceArn arn{.region = fields[0], .account = fields[1], .kind = path[0]};
  if ((arn.kind == "service" || arn.kind == "connection") && path.size() == 3) {
    arn.name = path[1];
    arn.id = path[2];
    return arn;
  }
  if (arn.kind != "autoscalingconfiguration" && arn.kind != "observabilityconfiguration")
    return std::nullopt;
  if (path.size() < 2 || path.size() > 4) return std::nullopt;
  arn.name = path[1];
  if (path.size() > 2) {
    int revision = 0;
    const auto [end, error] =
        std::from_chars(path[2].data(), path[2].data() + path[2].size(), revision);
    if (error != std::errc{} || *end != '\0' || revision < 1) return std::nullopt;
    arn.revision = revision;
  }
  if (path.size() > 3) arn.id = path[3];
  return arn;
}

}  // namespace hob::runner
