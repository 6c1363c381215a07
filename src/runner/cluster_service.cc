#include "runner/cluster_service.h"

#include <algorithm>
#include <charconv>
#include <tuple>

#include "cluster/task_state.h"
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
  // Tags are checked when they are set; what an older version let through is left out.
  const auto extensions = parse_extensions(service.tags);
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
      .port = port,
      .isolation = extensions ? extensions->isolation.value_or(link::Isolation::kDefault)
                              : link::Isolation::kDefault};
}

bool same_template(const cluster::TaskTemplate& a, const cluster::TaskTemplate& b) {
  return a.containers == b.containers && a.cpu == b.cpu && a.memory_mib == b.memory_mib &&
         a.probe == b.probe && a.port == b.port && a.stop_timeout == b.stop_timeout &&
         a.isolation == b.isolation;
}

cluster::Routing routing_of(const Service& service,
                            const std::optional<AutoScalingConfiguration>& scaling,
                            link::RouteState state) {
  cluster::Routing routing{
      .host_names = {service.url}, .service_name = service.name, .state = state};
  for (const auto& [host, certificate] : service.custom_hosts) routing.host_names.push_back(host);
  routing.certificates = service.custom_hosts;
  if (scaling) routing.max_concurrency = scaling->max_concurrency;
  const link::RequestSettings settings = request_settings(service.tags);
  routing.protocol = settings.protocol;
  routing.request_timeout = settings.request_timeout;
  routing.idle_timeout = settings.idle_timeout;
  routing.sticky = settings.sticky;

  const auto extensions = parse_extensions(service.tags);
  const bool may_stop = limits_of(service, scaling).min_size == 0;
  const auto asked = extensions ? extensions->sleep_after : std::nullopt;
  routing.awake_min = may_stop || asked ? 0 : 1;
  routing.sleep_after = asked.value_or(may_stop ? kSleepAfterStoppable : kSleepAfter);
  if (asked == Duration(0)) {
    routing.awake_min = -1;
    routing.sleep_after = kSleepAfter;
  }
  routing.queue_timeout = kQueueTimeout;
  if (may_stop) {
    const auto starts = std::chrono::duration_cast<Duration>(service.start_time * kQueueStarts);
    routing.queue_timeout = std::max(starts, kQueueTimeoutStoppable);
  }
  return routing;
}

ScaleLimits limits_of(const Service& service,
                      const std::optional<AutoScalingConfiguration>& scaling) {
  const AutoScalingConfiguration configured = scaling.value_or(AutoScalingConfiguration{});
  ScaleLimits limits{.min_size = configured.min_size,
                     .max_size = configured.max_size,
                     .max_concurrency = configured.max_concurrency};
  if (auto extensions = parse_extensions(service.tags)) {
    limits.min_size = extensions->min_size.value_or(limits.min_size);
    limits.schedule = std::move(extensions->schedule);
    limits.stop_after = extensions->stop_after.value_or(kStopAfter);
  }
  return limits;
}

Starts starts_of(const cluster::Service& service, const std::vector<cluster::Task>& tasks) {
  std::vector<const cluster::Task*> mine;
  for (const cluster::Task& task : tasks) {
    const auto of =
        std::ranges::find(service.deployments, task.deployment, &cluster::Deployment::id);
    // A way back is no capacity.
    const bool kept = of != service.deployments.end() && of->kept_since;
    if (task.service == service.name && !kept) mine.push_back(&task);
  }
  std::ranges::sort(mine, {},
                    [](const cluster::Task* task) { return std::tie(task->created_at, task->id); });
  const cluster::Deployment* serving = last_that_ran(service);
  Starts starts;
  std::vector<Duration> times;
  for (const cluster::Task* task : mine) {
    if (cluster::is_healthy(*task))
      ++starts.ready;
    else if (cluster::is_wanted(*task) && !task->was_healthy)
      ++starts.starting;
    if (task->healthy_at) times.push_back(*task->healthy_at - task->created_at);
    if (serving == nullptr || task->deployment != serving->id) continue;
    if (task->was_healthy) {
      starts.failed_in_row = 0;
    } else if (cluster::is_failed(*task)) {
      ++starts.failed_in_row;
      starts.failure = task->stopped_reason;
    }
  }
  if (!times.empty()) {
    const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
    std::ranges::nth_element(times, middle);
    starts.start_time = std::max(*middle, Duration(1));
  }
  return starts;
}

const cluster::Deployment* last_that_ran(const cluster::Service& service) {
  const auto completed = std::ranges::find(service.deployments, cluster::RolloutState::kCompleted,
                                           &cluster::Deployment::rollout);
  if (completed != service.deployments.end()) return &*completed;
  return service.deployments.empty() ? nullptr : &service.deployments.front();
}

}  // namespace hob::runner
