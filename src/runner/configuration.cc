#include "runner/configuration.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "aws/apprunner/errors.h"
#include "runner/arns.h"
#include "runner/command_line.h"
#include "runner/extensions.h"

namespace hob::runner {

namespace {

using aws::apprunner::invalid_request_exception;

struct Size {
  int cpu;
  std::vector<int> memory;
};
// App Runner's combinations (apprunner-api: "Sizes").
const std::vector<Size>& sizes() {
  static const std::vector<Size> kSizes = {{256, {512, 1024}},
                                           {512, {1024}},
                                           {1024, {2048, 3072, 4096}},
                                           {2048, {4096, 6144}},
                                           {4096, {8192, 10240, 12288}}};
  return kSizes;
}

// "1024" or "1 vCPU", "0.5 GB": the number, or 0. `unit`: with the space before it.
int parse_size(std::string_view text, std::string_view unit) {
  if (!text.ends_with(unit)) {
    int number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc{} && end == text.data() + text.size() ? number : 0;
  }
  text.remove_suffix(unit.size());
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || !(number > 0 && number <= 1024))
    return 0;
  return static_cast<int>(number * 1024);
}

Result<void> check_port(const std::string& port) {
  int number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error == std::errc{} && end == port.data() + port.size() && number >= 1 && number <= 65535)
    return {};
  return invalid_request_exception(
      fmt::format("The port '{}' isn't valid. A port is a number from 1 to 65535.", port));
}

Result<void> check_environment(const std::map<std::string, std::string>& environment) {
  if (environment.size() > kVariablesMax) {
    return invalid_request_exception(
        fmt::format("A service has at most {} environment variables.", kVariablesMax));
  }
  size_t bytes = 0;
  for (const auto& [key, value] : environment) {
    bytes += key.size() + value.size();
    if (key.starts_with("AWSAPPRUNNER")) {
      return invalid_request_exception(
          fmt::format("The environment variable '{}' isn't valid: names that start with "
                      "AWSAPPRUNNER are reserved.",
                      key));
    }
    if (key.empty() || key.find('=') != std::string::npos || key.find('\0') != std::string::npos ||
        value.find('\0') != std::string::npos) {
      return invalid_request_exception(fmt::format(
          "The environment variable '{}' isn't valid: a name is not empty and holds no '='.", key));
    }
  }
  if (bytes > kEnvironmentBytesMax) {
    return invalid_request_exception(
        fmt::format("The environment variables are over {} bytes in all.", kEnvironmentBytesMax));
  }
  return {};
}

Result<void> apply_image(Configuration& configuration,
                         const aws::apprunner::ImageRepository& repository, const Images& images) {
  if (const auto valid = images.check(repository.image_identifier); !valid) {
    return invalid_request_exception(fmt::format("The image identifier '{}' isn't valid: {}.",
                                                 repository.image_identifier,
                                                 valid.error().message));
  }
  configuration.image = repository.image_identifier;
  configuration.image_type = repository.image_repository_type;
  configuration.has_image_configuration = repository.image_configuration.has_value();
  const auto image = repository.image_configuration.value_or(aws::apprunner::ImageConfiguration{});
  if (image.runtime_environment_secrets && !image.runtime_environment_secrets->empty()) {
    return invalid_request_exception(
        "RuntimeEnvironmentSecrets aren't supported by this version of Hob yet.");
  }
  if (image.port) HOB_CHECK(check_port(*image.port));
  configuration.port = image.port;
  configuration.environment =
      image.runtime_environment_variables.value_or(std::map<std::string, std::string>{});
  HOB_CHECK(check_environment(configuration.environment));
  configuration.start_command = image.start_command;
  if (image.start_command) {
    if (const auto words = split_command_line(*image.start_command); !words) {
      return invalid_request_exception(
          fmt::format("The start command isn't valid: {}.", words.error().message));
    }
  }
  return {};
}

// The API has no length for these; a git URL or a path that is longer is a mistake.
constexpr size_t kCodeBytesMax = 4096;

Result<void> apply_code(Configuration& configuration,
                        const aws::apprunner::CodeRepository& repository) {
  const auto refuse = [](std::string why) { return invalid_request_exception(std::move(why)); };
  CodeSource code{.repository_url = repository.repository_url,
                  .branch = repository.source_code_version.value,
                  .source_directory = repository.source_directory};
  const std::string& url = code.repository_url;
  if (!url.starts_with("https://") && !url.starts_with("http://")) {
    return refuse(
        "The repository URL isn't valid: repositories are fetched by https:// or http://.");
  }
  const std::string_view authority = std::string_view(url).substr(url.find("://") + 3);
  if (authority.substr(0, authority.find('/')).find('@') != std::string_view::npos) {
    return refuse(
        "The repository URL isn't valid: it holds a user or a password, which anybody who "
        "describes the service would see.");
  }
  const auto plain = [](const std::string& text) {
    return text.size() <= kCodeBytesMax &&
           std::ranges::all_of(text, [](char c) { return c > ' ' && c != '\x7f'; });
  };
  if (!plain(url) || !plain(code.branch) || code.branch.empty() || code.branch.starts_with('-')) {
    return refuse(
        "The repository URL or the branch isn't valid: neither holds spaces, and a branch "
        "doesn't start with '-'.");
  }
  const std::string directory = "/" + code.source_directory.value_or("") + "/";
  if (directory.find("/../") != std::string::npos || directory.size() > kCodeBytesMax ||
      directory.find_first_of(std::string_view("\0\r\n", 3)) != std::string::npos) {
    return refuse(
        "The source directory isn't valid: it is a path from the repository's root, "
        "within the repository.");
  }
  // An update may leave it out.
  if (!repository.code_configuration && !configuration.code) {
    return refuse("CodeConfiguration is required: its ConfigurationSource is REPOSITORY or API.");
  }
  if (!repository.code_configuration) {
    code.from_file = configuration.code->from_file;
    code.runtime = configuration.code->runtime;
    code.build_command = configuration.code->build_command;
    code.start_command = configuration.code->start_command;
    code.port = configuration.code->port;
    configuration.code = std::move(code);
    return {};
  }
  const aws::apprunner::CodeConfiguration& given = *repository.code_configuration;
  code.from_file = given.configuration_source == "REPOSITORY";
  configuration.environment.clear();
  configuration.port.reset();
  if (!code.from_file) {
    if (!given.code_configuration_values) {
      return refuse("With the ConfigurationSource API, CodeConfigurationValues are required.");
    }
    const aws::apprunner::CodeConfigurationValues& values = *given.code_configuration_values;
    if (values.runtime_environment_secrets && !values.runtime_environment_secrets->empty()) {
      return refuse("RuntimeEnvironmentSecrets aren't supported by this version of Hob yet.");
    }
    if (!values.start_command || values.start_command->empty()) {
      return refuse("With the ConfigurationSource API, a StartCommand is required.");
    }
    if (values.port) HOB_CHECK(check_port(*values.port));
    code.runtime = values.runtime;
    code.build_command = values.build_command;
    code.start_command = values.start_command;
    code.port = values.port;
    configuration.port = values.port;
    configuration.environment =
        values.runtime_environment_variables.value_or(std::map<std::string, std::string>{});
    HOB_CHECK(check_environment(configuration.environment));
  }
  configuration.code = std::move(code);
  return {};
}

Result<void> apply_source(Configuration& configuration,
                          const aws::apprunner::SourceConfiguration& source, const Images& images) {
  if (source.code_repository && source.image_repository) {
    return invalid_request_exception(
        "A source is either a code repository or an image repository, not both.");
  }
  const bool has_image = !configuration.image.empty() && !configuration.code;
  if ((source.code_repository && has_image) || (source.image_repository && configuration.code)) {
    return invalid_request_exception(
        "A service's source stays what it was made with, a code repository or an image. Create "
        "another service.");
  }
  if (source.code_repository) HOB_CHECK(apply_code(configuration, *source.code_repository));
  if (configuration.code) {
    if (source.authentication_configuration &&
        (source.authentication_configuration->connection_arn ||
         source.authentication_configuration->access_role_arn)) {
      return invalid_request_exception(
          "Repositories that need a connection aren't fetched by this version of Hob yet; leave "
          "AuthenticationConfiguration out for a public one.");
    }
    if (source.auto_deployments_enabled.value_or(false)) {
      return invalid_request_exception(
          "A pushed commit isn't deployed by itself by this version of Hob yet. Set "
          "AutoDeploymentsEnabled to false, and call StartDeployment.");
    }
    configuration.auto_deployments = false;
    return {};
  }
  if (!source.image_repository && configuration.image.empty()) {
    return invalid_request_exception(
        "SourceConfiguration needs an ImageRepository or a CodeRepository.");
  }
  if (source.image_repository)
    HOB_CHECK(apply_image(configuration, *source.image_repository, images));
  if (source.authentication_configuration) {
    if (source.authentication_configuration->connection_arn) {
      return invalid_request_exception(
          "A connection is for source code repositories; an image needs none.");
    }
    configuration.access_role_arn = source.authentication_configuration->access_role_arn;
  }
  const bool ours = images.is_ours(configuration.image);
  if (source.auto_deployments_enabled) {
    configuration.auto_deployments = *source.auto_deployments_enabled;
  } else if (!configuration.auto_deployments) {
    configuration.auto_deployments = ours;  // as AWS for an ECR image of the same account
  }
  if (*configuration.auto_deployments && !ours) {
    if (source.auto_deployments_enabled) {
      return invalid_request_exception(
          "Automatic deployments need an image in Hob's own registry. Set AutoDeploymentsEnabled "
          "to false.");
    }
    configuration.auto_deployments = false;
  }
  return {};
}

Result<void> apply_instance(Configuration& configuration,
                            const aws::apprunner::InstanceConfiguration& instance) {
  if (instance.cpu) configuration.cpu = parse_size(*instance.cpu, " vCPU");
  if (instance.memory) configuration.memory_mib = parse_size(*instance.memory, " GB");
  if (instance.instance_role_arn) configuration.instance_role_arn = instance.instance_role_arn;
  const auto size = std::ranges::find(sizes(), configuration.cpu, &Size::cpu);
  if (size == sizes().end()) {
    return invalid_request_exception(
        "The CPU isn't valid. It is one of 256, 512, 1024, 2048, 4096.");
  }
  if (std::ranges::find(size->memory, configuration.memory_mib) == size->memory.end()) {
    std::string allowed;
    for (const int memory : size->memory)
      allowed += (allowed.empty() ? "" : ", ") + std::to_string(memory);
    return invalid_request_exception(
        fmt::format("The memory {} isn't valid with the CPU {}. It is one of {}.",
                    configuration.memory_mib, configuration.cpu, allowed));
  }
  return {};
}

void apply_health(Configuration& configuration,
                  const aws::apprunner::HealthCheckConfiguration& health) {
  if (health.protocol) {
    configuration.health_protocol =
        *health.protocol == "HTTP" ? link::ProbeProtocol::kHttp : link::ProbeProtocol::kTcp;
  }
  configuration.health_path = health.path.value_or(configuration.health_path);
  configuration.health_interval = health.interval.value_or(configuration.health_interval);
  configuration.health_timeout = health.timeout.value_or(configuration.health_timeout);
  configuration.healthy_threshold =
      health.healthy_threshold.value_or(configuration.healthy_threshold);
  configuration.unhealthy_threshold =
      health.unhealthy_threshold.value_or(configuration.unhealthy_threshold);
}

// A path goes into a request line of the host's probe.
Result<void> check_health(const Configuration& configuration) {
  constexpr size_t kPathBytesMax = 1024;
  const std::string& path = configuration.health_path;
  const bool plain = std::ranges::all_of(path, [](char c) { return c > ' ' && c < '\x7f'; });
  if (path.starts_with('/') && plain && path.size() <= kPathBytesMax) return {};
  return invalid_request_exception(
      fmt::format("The health check path isn't valid: it starts with '/', holds no spaces and is "
                  "at most {} long.",
                  kPathBytesMax));
}

Result<void> check_network(const aws::apprunner::NetworkConfiguration& network) {
  const auto egress = network.egress_configuration.value_or(aws::apprunner::EgressConfiguration{});
  if (egress.egress_type.value_or("DEFAULT") != "DEFAULT" || egress.vpc_connector_arn) {
    return invalid_request_exception(
        "VPC connectors aren't supported by this version of Hob yet. Use EgressType DEFAULT.");
  }
  if (network.ingress_configuration &&
      !network.ingress_configuration->is_publicly_accessible.value_or(true)) {
    return invalid_request_exception(
        "Private services aren't supported by this version of Hob yet.");
  }
  if (network.ip_address_type.value_or("IPV4") != "IPV4") {
    return invalid_request_exception(
        "IpAddressType DUAL_STACK isn't supported by this version of Hob yet.");
  }
  return {};
}

template <class T>
T value_or_default(const std::optional<T>& value) {
  return value.value_or(T{});
}

}  // namespace

Result<Configuration> apply_request(Configuration configuration,
                                    const ConfigurationRequest& request, const Images& images) {
  if (request.source) HOB_CHECK(apply_source(configuration, *request.source, images));
  if (request.instance) HOB_CHECK(apply_instance(configuration, *request.instance));
  if (request.health) apply_health(configuration, *request.health);
  HOB_CHECK(check_health(configuration));
  if (request.network) HOB_CHECK(check_network(*request.network));
  if (request.observability) {
    configuration.observability = request.observability->observability_enabled;
    configuration.observability_arn =
        request.observability->observability_configuration_arn.value_or("");
  }
  return configuration;
}

namespace {

std::string lower_case(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

}  // namespace

Result<std::map<std::string, std::string>> apply_tags(std::map<std::string, std::string> existing,
                                                      const std::vector<aws::apprunner::Tag>& tags,
                                                      TaggedKind kind) {
  std::set<std::string> seen;
  for (const aws::apprunner::Tag& tag : tags) {
    const std::string key = value_or_default(tag.key);
    if (key.empty()) return invalid_request_exception("A tag has a key.");
    if (key.starts_with("aws:")) {
      return invalid_request_exception(
          fmt::format("The tag key '{}' isn't valid: aws: is reserved.", key));
    }
    // Keys are case-sensitive: it would be a tag like any other, and set nothing.
    if (kind == TaggedKind::kService && !key.starts_with(kExtensionPrefix) &&
        lower_case(key).starts_with(kExtensionPrefix)) {
      return invalid_request_exception(fmt::format(
          "The tag key '{}' isn't valid: settings of Hob are written in lower case, as {}.", key,
          lower_case(key)));
    }
    if (!seen.insert(key).second)
      return invalid_request_exception(fmt::format("The tag key '{}' is given twice.", key));
    if (kind != TaggedKind::kService && key.starts_with(kExtensionPrefix)) {
      return invalid_request_exception(
          fmt::format("The tag {} is a setting of services; it means nothing here.", key));
    }
    existing[key] = value_or_default(tag.value);
  }
  if (existing.size() > kTagsMax)
    return invalid_request_exception(fmt::format("A resource has at most {} tags.", kTagsMax));
  if (const auto extensions = parse_extensions(existing);
      !extensions && kind == TaggedKind::kService) {
    return invalid_request_exception(extensions.error().message);
  }
  return existing;
}

Result<void> check_minimum(const std::map<std::string, std::string>& tags, int max_size) {
  const auto checked = check_sizes(tags, max_size);
  if (!checked) return invalid_request_exception(checked.error().message);
  return {};
}

namespace {

aws::apprunner::SourceConfiguration show_code(const Configuration& configuration) {
  const CodeSource& code = *configuration.code;
  aws::apprunner::CodeRepository repository{
      .repository_url = code.repository_url,
      .source_code_version = {.type = "BRANCH", .value = code.branch},
      .code_configuration =
          aws::apprunner::CodeConfiguration{.configuration_source =
                                                code.from_file ? "REPOSITORY" : "API"},
      .source_directory = code.source_directory};
  if (!code.from_file) {
    auto& values = repository.code_configuration->code_configuration_values.emplace();
    values.runtime = code.runtime;
    values.build_command = code.build_command;
    values.start_command = code.start_command;
    values.port = code.port;
    if (!configuration.environment.empty())
      values.runtime_environment_variables = configuration.environment;
  }
  return {.code_repository = std::move(repository),
          .auto_deployments_enabled = configuration.auto_deployments};
}

aws::apprunner::SourceConfiguration show_source(const Configuration& configuration) {
  if (configuration.code) return show_code(configuration);
  aws::apprunner::ImageRepository image{.image_identifier = configuration.image,
                                        .image_repository_type = configuration.image_type};
  if (configuration.has_image_configuration) {
    image.image_configuration = aws::apprunner::ImageConfiguration{
        .start_command = configuration.start_command, .port = configuration.port};
    if (!configuration.environment.empty()) {
      image.image_configuration->runtime_environment_variables = configuration.environment;
    }
  }
  aws::apprunner::SourceConfiguration source{
      .image_repository = std::move(image),
      .auto_deployments_enabled = configuration.auto_deployments};
  if (configuration.access_role_arn) {
    source.authentication_configuration = aws::apprunner::AuthenticationConfiguration{
        .access_role_arn = configuration.access_role_arn};
  }
  return source;
}

}  // namespace

aws::apprunner::Service show(const Service& service) {
  const Configuration& configuration = service.configuration;
  const ScalingReference& scaling = configuration.scaling;
  aws::apprunner::Service shown{
      .service_name = service.name,
      .service_id = service.id,
      .service_arn = arn_of(service),
      .service_url = service.url,
      .created_at = service.created_at,
      .updated_at = service.updated_at,
      .deleted_at = service.deleted_at,
      .status = word(service.status),
      .source_configuration = show_source(configuration),
      .instance_configuration = {.cpu = std::to_string(configuration.cpu),
                                 .memory = std::to_string(configuration.memory_mib),
                                 .instance_role_arn = configuration.instance_role_arn},
      .health_check_configuration =
          aws::apprunner::HealthCheckConfiguration{
              .protocol =
                  configuration.health_protocol == link::ProbeProtocol::kTcp ? "TCP" : "HTTP",
              .path = configuration.health_path,
              .interval = configuration.health_interval,
              .timeout = configuration.health_timeout,
              .healthy_threshold = configuration.healthy_threshold,
              .unhealthy_threshold = configuration.unhealthy_threshold},
      .auto_scaling_configuration_summary = {.auto_scaling_configuration_arn =
                                                 arn_of(service.region, service.account, scaling),
                                             .auto_scaling_configuration_name = scaling.name,
                                             .auto_scaling_configuration_revision =
                                                 scaling.revision},
      .network_configuration = {
          .egress_configuration = aws::apprunner::EgressConfiguration{.egress_type = "DEFAULT"},
          .ingress_configuration =
              aws::apprunner::IngressConfiguration{.is_publicly_accessible = true},
          .ip_address_type = "IPV4"}};
  if (configuration.observability) {
    shown.observability_configuration = aws::apprunner::ServiceObservabilityConfiguration{
        .observability_enabled = *configuration.observability};
    if (!configuration.observability_arn.empty()) {
      shown.observability_configuration->observability_configuration_arn =
          configuration.observability_arn;
    }
  }
  return shown;
}

aws::apprunner::ServiceSummary show_summary(const Service& service) {
  return {.service_name = service.name,
          .service_id = service.id,
          .service_arn = arn_of(service),
          .service_url = service.url,
          .created_at = service.created_at,
          .updated_at = service.updated_at,
          .status = word(service.status)};
}

aws::apprunner::OperationSummary show(const Operation& operation, const Service& service) {
  return {.id = operation.id,
          .type = word(operation.type),
          .status = word(operation.status),
          .target_arn = arn_of(service),
          .started_at = operation.started_at,
          .ended_at = operation.ended_at,
          .updated_at = operation.updated_at};
}

}  // namespace hob::runner
