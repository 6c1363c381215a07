// Who decides how many instances there are and which are awake: ours, and peers from what they
// publish.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace hob::sim {

struct SimSettings {
  int concurrency = 10;  // requests an instance takes at once
  int min_size = 1;
  int max_size = 25;
  double start_time = 2;  // seconds from ordered to ready
  double wake_time = 0.001;
  double memory_gb = 2;  // of an instance
};

// What a policy sees, at one moment of virtual time (seconds).
struct Sight {
  double now = 0;
  int running = 0;  // requests at instances
  int waiting = 0;
  int awake = 0;  // ready, those waking among them
  int asleep = 0;
  int starting = 0;
  // Integrals and counts since the beginning, as link::ServiceLoad has them.
  double in_flight_seconds = 0;
  double service_seconds = 0;
  long ended = 0;
};

struct Wish {
  int provisioned = 0;     // awake, asleep and starting together
  int awake = 0;           // at least; idle ones above it go to sleep, or stay, as `sleeps` says
  double sleep_after = 0;  // an instance that had no request for so long and is above `awake`
  bool sleeps = false;     // false: every ready instance is awake
  bool wakes_on_demand = false;  // a request that finds no place wakes one at once
  double again = 0;              // look again at this time, or at the next change
};

// A policy is asked after each event; it may keep what it has seen.
class Policy {
 public:
  virtual ~Policy() = default;
  virtual Wish decide(const Sight& sight) = 0;
};

// runner's Scaler, told as an edge tells: each second, and at once when requests wait and none that
// sleeps is left.
std::unique_ptr<Policy> hob_policy(const SimSettings& settings);
// Knative's KPA at its defaults: 2 s ticks, 60 s and 6 s windows, 70 % of the concurrency, panic at
// twice what is ready, at once when there is none. Averages are exact, where its own are sampled.
std::unique_ptr<Policy> knative_policy(const SimSettings& settings);
// App Runner's rule with fixed reserves: as many as the requests in flight fill are active,
// kReserves are provisioned at least, those not needed have no CPU. It publishes no time to scale
// in; a minute is taken.
inline constexpr int kReserves = 3;
std::unique_ptr<Policy> app_runner_policy(const SimSettings& settings);

inline constexpr std::string_view kPolicies[] = {"hob", "knative", "app runner"};
std::unique_ptr<Policy> make_policy(std::string_view name, const SimSettings& settings);

}  // namespace hob::sim
