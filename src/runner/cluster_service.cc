#include "runner/cluster_service.h"

#include <algorithm>
#include <charconv>

#include "runner/command_line.h"
#include "runner/extensions.h"

namespace hob::runner {

std::string application_log_group(const Service& service) {
  return fmt::format("/aws/apprunner/{}/{}/application", service.name, service.id);
}

std::string service_log_group(const Service& service) {
  return fmt::format("/aws/apprunner/{}/{}/service", service.name, service.id);
}

Result<cluster::TaskTemplate> task_template(const Service& service, const ResolvedImage& image) {
  const Configuration& wanted = service.configuration;
  int port = kPortDefault;
  if (wanted.port) {
    const auto [end, error] =
        std::from_chars(wanted.port->data(), wanted.port->data() + wanted.port->size(), port);
    if (error != std::errc{} || *end != '\0')
      return fail(Code::kInvalid, "'{}' is no port", *wanted.port);
  }
  link::Container container{.name = "app",
                            .image = image.source,
                            .environment = wanted.environment,
                            .log_group = application_log_group(service)};
  container.environment.emplace("PORT", std::to_string(port));
  if (wanted.start_command) {
    HOB_TRY(container.command,
            context(split_command_line(*wanted.start_command), "the start command"));
  }
  return cluster::TaskTemplate{
      .containers = {std::move(container)},
      .cpu = wanted.cpu,
      .memory_mib = wanted.memory_mib,
      .probe = link::Probe{.protocol = wanted.health_protocol,
                           .port = port,
                           .path = wanted.health_path,
                           .interval = std::chrono::seconds(wanted.health_interval),
                           .timeout = std::chrono::seconds(wanted.health_timeout),
                           .healthy_threshold = wanted.healthy_threshold,
                           .unhealthy_threshold = wanted.unhealthy_threshold},
      .port = port};
}

bool same_template(const cluster::TaskTemplate& a, const cluster::TaskTemplate& b) {
  return a.containers == b.containers && a.cpu == b.cpu && a.memory_mib == b.memory_mib &&
         a.probe == b.probe && a.port == b.port && a.stop_timeout == b.stop_timeout;
}

cluster::Routing routing_of(const Service& service,
                            const std::optional<AutoScalingConfiguration>& scaling,
                            link::RouteState state) {
  cluster::Routing routing{
      .host_names = {service.url}, .service_name = service.name, .state = state};
  if (scaling) routing.max_concurrency = scaling->max_concurrency;
  // Tags are checked when they are set; what an older version let through is left out.
  const auto extensions = parse_extensions(service.tags);
  if (extensions && extensions->request_timeout)
    routing.request_timeout = *extensions->request_timeout;
  if (extensions && extensions->idle_timeout) routing.idle_timeout = *extensions->idle_timeout;
  return routing;
}

bool same_routing(const cluster::Routing& a, const cluster::Routing& b) {
  return a.host_names == b.host_names && a.service_name == b.service_name && a.state == b.state &&
         a.max_concurrency == b.max_concurrency && a.request_timeout == b.request_timeout &&
         a.idle_timeout == b.idle_timeout;
}

int desired_count_of(const std::optional<AutoScalingConfiguration>& scaling) {
  return scaling ? scaling->min_size : 1;
}

const cluster::Deployment* last_that_ran(const cluster::Service& service) {
  const auto completed = std::ranges::find(service.deployments, cluster::RolloutState::kCompleted,
                                           &cluster::Deployment::rollout);
  if (completed != service.deployments.end()) return &*completed;
  return service.deployments.empty() ? nullptr : &service.deployments.front();
}

}  // namespace hob::runner
