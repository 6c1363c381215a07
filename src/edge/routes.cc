#include "edge/routes.h"

#include <arpa/inet.h>

#include <algorithm>
#include <thread>

#include "base/log.h"

namespace hob::edge {

static_assert(kConcurrencyMax < SharedTarget::kClosed / 2);

InFlight::Read InFlight::read(uint64_t now_us) const {
  for (;;) {
    const uint64_t before = sequence_.load(std::memory_order_acquire);
    const uint64_t number = number_.load(std::memory_order_relaxed);
    const uint64_t moments = moments_us_.load(std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_acquire);
    if ((before & 1) == 0 && sequence_.load(std::memory_order_relaxed) == before)
      return {.number = number, .integral_us = static_cast<int64_t>(number * now_us + moments)};
    std::this_thread::yield();  // the loop was stopped in between
  }
}

namespace {
uint64_t milliseconds(Duration duration) {
  return static_cast<uint64_t>(std::max<int64_t>(duration.count(), 0));
}
}  // namespace

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
    ServiceRoute compiled{.service = service,
                          .name = route.service_name,
                          .host_names = route.host_names,
                          .state = route.state,
                          .max_concurrency = std::clamp(route.max_concurrency, 1, kConcurrencyMax),
                          .request_timeout_ms = milliseconds(route.request_timeout),
                          .idle_timeout_ms = milliseconds(route.idle_timeout),
                          .queue_timeout_ms = milliseconds(route.queue_timeout),
                          .awake_min = std::max(route.awake_min, -1),
                          .sleep_after_ms = milliseconds(route.sleep_after)};
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
