#include "edge/routes.h"

#include <arpa/inet.h>

#include <algorithm>
#include <thread>

#include "base/log.h"
#include "edge/balancer.h"
#include "edge/stickiness.h"

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

PoolSettings compiled_settings(const link::RequestSettings& settings) {
  return {.protocol = settings.protocol,
          .request_timeout_ms = milliseconds(settings.request_timeout),
          .idle_timeout_ms = milliseconds(settings.idle_timeout),
          .sticky_seconds =
              std::min<uint64_t>(milliseconds(settings.sticky) / 1'000, kStickyMaxSeconds)};
}
}  // namespace

// What the table being compiled names.
struct RouteBook::Next {
  std::map<std::string, std::shared_ptr<SharedService>> services{};
  std::map<PoolKey, std::shared_ptr<SharedPool>> pools{};
  std::map<std::string, std::shared_ptr<SharedTarget>> targets{};
};

std::shared_ptr<SharedService> RouteBook::service_of(const link::Route& route, Next& next) const {
  std::shared_ptr<SharedService>& service = next.services[route.service];
  if (service != nullptr) return service;
  if (const auto known = services_.find(route.service); known != services_.end())
    return service = known->second;
  service = std::make_shared<SharedService>();
  service->id = route.service;
  for (size_t i = 0; i < loops_; ++i) service->loops.push_back(std::make_unique<ServiceCounts>());
  return service;
}

std::shared_ptr<SharedPool> RouteBook::pool_of(const std::shared_ptr<SharedService>& service,
                                               const std::string& version, Next& next) const {
  const PoolKey key{service->id, version};
  std::shared_ptr<SharedPool>& pool = next.pools[key];
  if (pool != nullptr) return pool;
  if (const auto known = pools_.find(key); known != pools_.end()) return pool = known->second;
  pool = std::make_shared<SharedPool>();
  pool->service = service;
  pool->version = version;
  pool->token = token_of_version(service->id, version);
  for (size_t i = 0; i < loops_; ++i) pool->loops.push_back(std::make_unique<PoolCounts>());
  return pool;
}

std::shared_ptr<SharedTarget> RouteBook::target_of(const SharedService& service,
                                                   const link::Target& target, Next& next) const {
  const std::string key = fmt::format("{} {} {}", target.task.value, target.address, target.port);
  if (const auto named = next.targets.find(key); named != next.targets.end()) return named->second;
  if (const auto known = targets_.find(key); known != targets_.end())
    return next.targets[key] = known->second;
  if (const auto left = left_.find(key); left != left_.end() && left->second->in_flight() > 0)
    return next.targets[key] = left->second;
  auto shared = std::make_shared<SharedTarget>();
  shared->task = target.task;
  shared->token = token_of_target(service.id, target.task);
  shared->address.sin_family = AF_INET;
  shared->address.sin_port = htons(static_cast<uint16_t>(target.port));
  if (target.port <= 0 || target.port > 65535 ||
      ::inet_pton(AF_INET, target.address.c_str(), &shared->address.sin_addr) != 1) {
    log::error("target has no usable address",
               {{"task", target.task.value}, {"address", target.address}, {"port", target.port}});
    return nullptr;
  }
  return next.targets[key] = shared;
}

std::shared_ptr<const Routes> RouteBook::compile(const link::RouteTable& table) {
  auto routes = std::make_shared<Routes>();
  routes->version = table.version;
  Next next;
  for (const link::Route& route : table.routes) {
    const std::shared_ptr<SharedService> service = service_of(route, next);
    ServiceRoute compiled{.service = service,
                          .name = route.service_name,
                          .host_names = route.host_names,
                          .state = route.state,
                          .max_concurrency = std::clamp(route.max_concurrency, 1, kConcurrencyMax),
                          .queue_timeout_ms = milliseconds(route.queue_timeout),
                          .sleep_after_ms = milliseconds(route.sleep_after)};
    const link::RequestSettings common{.protocol = route.protocol,
                                       .request_timeout = route.request_timeout,
                                       .idle_timeout = route.idle_timeout,
                                       .sticky = route.sticky};
    std::vector<int> weights;
    if (route.versions.empty()) {
      compiled.pools.push_back({.pool = pool_of(service, "", next),
                                .settings = compiled_settings(common),
                                .awake_min = std::max(route.awake_min, -1)});
      weights.push_back(1);
    }
    for (const link::RouteVersion& version : route.versions) {
      compiled.pools.push_back({.pool = pool_of(service, version.id, next),
                                .settings = compiled_settings(version.settings.value_or(common)),
                                .host_names = version.host_names,
                                .awake_min = std::max(version.awake_min, -1)});
      weights.push_back(std::clamp(version.weight, 0, kWeightMax));
    }
    for (const link::Target& target : route.targets) {
      const auto pool =
          route.versions.empty()
              ? compiled.pools.begin()
              : std::ranges::find(compiled.pools, target.version,
                                  [](const PoolRoute& of) { return of.pool->version; });
      if (pool == compiled.pools.end()) {
        log::error("target is of a version that its route does not name",
                   {{"task", target.task.value}, {"version", target.version}});
        continue;
      }
      const std::shared_ptr<SharedTarget> shared = target_of(*service, target, next);
      if (shared == nullptr) continue;
      const bool draining = target.state == link::TargetState::kDraining;
      shared->draining.store(draining, std::memory_order_relaxed);
      if (draining) continue;
      if (!zone_.empty() && target.zone == zone_) {
        pool->targets.insert(pool->targets.begin() + static_cast<ptrdiff_t>(pool->near++), shared);
      } else {
        pool->targets.push_back(shared);
      }
    }
    std::vector<VersionView> views;
    for (size_t i = 0; i < weights.size(); ++i)
      views.push_back({.weight = weights[i], .has_targets = !compiled.pools[i].targets.empty()});
    const std::vector<int> shares = shares_of(views);
    for (size_t i = 0; i < shares.size(); ++i) compiled.pools[i].share = shares[i];
    routes->services.push_back(std::move(compiled));
  }
  left_.merge(targets_);
  std::erase_if(left_, [&](const auto& left) {
    return next.targets.contains(left.first) || left.second->in_flight() == 0;
  });
  services_ = std::move(next.services);
  pools_ = std::move(next.pools);
  targets_ = std::move(next.targets);
  return routes;
}

}  // namespace hob::edge
