// What a new table of routes does to a loop's queues, and where host names lead by it.
#include <algorithm>
#include <utility>

#include "edge/queueing.h"

namespace hob::edge {

void Queues::apply(const Routes& routes, LoopTime now) {
  by_host_.clear();
  std::vector<std::shared_ptr<Pool>> dropped;
  std::vector<std::shared_ptr<Service>> gone;
  for (auto& [id, service] : services_) service->listed = false;
  for (auto& [shared, target] : targets_) target->listed = false;
  for (const ServiceRoute& route : routes.services) {
    std::shared_ptr<Service>& service = services_[route.service->id];
    if (service == nullptr || service->shared != route.service) {
      if (service != nullptr) gone.push_back(std::move(service));
      service = std::make_shared<Service>();
      service->shared = route.service;
      service->counts = route.service->loops[loop_].get();
    }
    // Two routes of one service (more host names): the last one's targets hold.
    service->listed = true;
    service->route = route;
    apply_pools(*service, route, dropped, now);
    for (const std::string& host : route.host_names)
      by_host_.insert_or_assign(host.starts_with("*.") ? host.substr(1) : host,
                                Destination{.service = service});
    for (size_t i = 0; i < route.pools.size(); ++i) {
      for (const std::string& host : route.pools[i].host_names)
        by_host_.insert_or_assign(host, Destination{.service = service, .pool = service->pools[i]});
    }
  }
  for (auto it = targets_.begin(); it != targets_.end();) {
    if (it->second->listed) {
      ++it;
      continue;
    }
    calls_.unlisted(*it->second);
    it = targets_.erase(it);
  }
  for (auto it = services_.begin(); it != services_.end();) {
    const std::shared_ptr<Service> service = it->second;
    if (!service->listed) {
      it = services_.erase(it);
      gone.push_back(service);
    } else {
      ++it;
      if (service->route.state == link::RouteState::kPaused)
        refuse_waiting(*service, Turn::kPaused, now);
      for (size_t i = 0; i < service->pools.size(); ++i) {
        if (service->pools[i]->share == 0) dispatch_waiting(*service->pools[i], false, now);
      }
      serve_waiting(*service, now);
    }
  }
  for (const std::shared_ptr<Pool>& pool : dropped) dispatch_waiting(*pool, true, now);
  for (const std::shared_ptr<Service>& service : gone) {
    for (const std::shared_ptr<Pool>& pool : service->pools) pool->targets.clear();
    refuse_waiting(*service, Turn::kStopped, now);
  }
  applied_ = true;
}

void Queues::apply_pools(Service& service, const ServiceRoute& route,
                         std::vector<std::shared_ptr<Pool>>& dropped, LoopTime now) {
  std::vector<std::shared_ptr<Pool>> before = std::exchange(service.pools, {});
  service.shares = 0;
  service.sticky = false;
  for (const PoolRoute& from : route.pools) {
    const auto known = std::ranges::find_if(
        before, [&](const auto& pool) { return pool != nullptr && pool->shared == from.pool; });
    std::shared_ptr<Pool> pool = known != before.end() ? std::exchange(*known, nullptr) : nullptr;
    if (pool == nullptr) {
      pool = std::make_shared<Pool>();
      pool->shared = from.pool;
      pool->counts = from.pool->loops[loop_].get();
    }
    pool->settings = from.settings;
    service.sticky |= from.settings.sticky_seconds > 0;
    pool->share = from.share;
    pool->sleeps = from.awake_min >= 0;
    service.shares += static_cast<uint64_t>(from.share);
    pool->targets.clear();
    pool->near = from.near;
    for (const std::shared_ptr<SharedTarget>& shared : from.targets) {
      std::shared_ptr<Target>& target = targets_[shared.get()];
      if (target == nullptr) {
        target = std::make_shared<Target>(shared);
        if (applied_) target->came_ms = now.ms;
      }
      target->listed = true;
      pool->targets.push_back(target);
    }
    service.pools.push_back(std::move(pool));
  }
  for (std::shared_ptr<Pool>& pool : before) {
    if (pool == nullptr) continue;
    pool->listed = false;
    pool->targets.clear();
    dropped.push_back(std::move(pool));
  }
}

void Queues::tell(QueuedRequest& request, Turn turn) {
  if (turn == Turn::kGiven) return calls_.given(request);
  if (turn == Turn::kWaits) return calls_.waits(request);
  calls_.refused(request, turn);
}

void Queues::refuse_waiting(Service& service, Turn why, LoopTime now) {
  for (size_t i = 0; i < service.pools.size(); ++i) {
    while (QueuedRequest* const request = service.pools[i]->first_waiting) {
      stop_waiting(*request, now);
      calls_.refused(*request, why);
    }
  }
}

void Queues::dispatch_waiting(Pool& pool, bool pinned, LoopTime now) {
  size_t left = pool.waiting;  // those that come back to it are at its end
  for (next_visited_ = pool.first_waiting; left > 0 && next_visited_ != nullptr; --left) {
    QueuedRequest& request = *std::exchange(next_visited_, next_visited_->next_waiting_);
    if (!pinned && request.pinned_) continue;
    stop_waiting(request, now);
    if (!request.pinned_) request.leave_pool(now);
    tell(request, dispatch(request, now));
  }
  next_visited_ = nullptr;
}

const Destination* Queues::find(std::string_view host) const {
  auto found = by_host_.find(host);
  if (found == by_host_.end()) {
    const size_t dot = host.find('.');
    if (dot != std::string_view::npos && dot > 0) found = by_host_.find(host.substr(dot));
  }
  return found != by_host_.end() ? &found->second : nullptr;
}

const std::shared_ptr<Target>* Queues::target_of(SharedTarget* shared) const {
  const auto found = targets_.find(shared);
  return found == targets_.end() ? nullptr : &found->second;
}

}  // namespace hob::edge
