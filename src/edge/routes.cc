#include "edge/routes.h"

#include <arpa/inet.h>

#include "base/log.h"

namespace hob::edge {

std::shared_ptr<const Routes> RouteBook::compile(const link::RouteTable& table) {
  auto routes = std::make_shared<Routes>();
  routes->version = table.version;
  std::map<std::string, std::shared_ptr<SharedService>> services;
  std::map<std::string, std::shared_ptr<SharedTarget>> targets;
  for (const link::Route& route : table.routes) {
    std::shared_ptr<SharedService>& service = services[route.service];
    if (service == nullptr) {
      const auto known = services_.find(route.service);
      if (known != services_.end()) {
        service = known->second;
      } else {
        service = std::make_shared<SharedService>();
        service->id = route.service;
        for (size_t i = 0; i < loops_; ++i)
          service->loops.push_back(std::make_unique<ServiceCounts>());
      }
    }
    ServiceRoute compiled{
        .service = service,
        .name = route.service_name,
        .host_names = route.host_names,
        .state = route.state,
        .max_concurrency = std::max(route.max_concurrency, 1),
        .request_timeout_ms =
            static_cast<uint64_t>(std::max<int64_t>(route.request_timeout.count(), 0)),
        .idle_timeout_ms = static_cast<uint64_t>(std::max<int64_t>(route.idle_timeout.count(), 0))};
    for (const link::Target& target : route.targets) {
      const std::string key =
          fmt::format("{} {} {}", target.task.value, target.address, target.port);
      std::shared_ptr<SharedTarget>& shared = targets[key];
      if (shared == nullptr) {
        const auto known = targets_.find(key);
        if (known != targets_.end()) {
          shared = known->second;
        } else {
          shared = std::make_shared<SharedTarget>();
          shared->task = target.task;
          shared->address.sin_family = AF_INET;
          shared->address.sin_port = htons(static_cast<uint16_t>(target.port));
          if (target.port <= 0 || target.port > 65535 ||
              ::inet_pton(AF_INET, target.address.c_str(), &shared->address.sin_addr) != 1) {
            log::error(
                "target has no usable address",
                {{"task", target.task.value}, {"address", target.address}, {"port", target.port}});
            targets.erase(key);
            continue;
          }
        }
      }
      const bool draining = target.state == link::TargetState::kDraining;
      shared->draining.store(draining, std::memory_order_relaxed);
      if (!draining) compiled.targets.push_back(shared);
    }
    routes->services.push_back(std::move(compiled));
  }
  services_ = std::move(services);
  targets_ = std::move(targets);
  return routes;
}

}  // namespace hob::edge
