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
  int awake_min = 1;        // Hob's alone: 0, the last one sleeps too
  double sleep_after = 20;  // seconds; Hob's alone, of the last one
  double start_time = 2;    // seconds from ordered to ready
  double wake_time = 0.001;
  double memory_gb = 2;       // of an instance
  double start_failures = 0;  // share of starts that end in nothing, after start_time
  // Hob's alone: seconds from one restart of control, and from one edge to its successor; 0: none.
  double control_restarts = 0;
  double edge_changes = 0;
};

// What a policy sees, at one moment of virtual time (seconds).
struct Sight {
  double now = 0;
  int running = 0;  // requests at instances
  int waiting = 0;
  int awake = 0;  // ready, those waking among them
  int asleep = 0;
  int starting = 0;
  int failed_in_row = 0;  // starts
  bool is_short = false;  // requests wait, and no sleeping instance is left to be woken for them
  // Integrals and counts since the beginning, as link::ServiceLoad has them.
  double in_flight_seconds = 0;
  double service_seconds = 0;
  long ended = 0;
};

enum class Sleep {
  kNever,   // every ready instance is awake
  kIdle,    // one without a request sleeps; a request that finds no place wakes one
  kByEdge,  // as edge::decide_awake says
};

struct Wish {
  int provisioned = 0;  // awake, asleep and starting together
  Sleep sleep = Sleep::kNever;
  double active_least = 0;  // kIdle: seconds that one stays awake once it is
  double again = 0;         // look again at this time, or at the next change
};

// A policy is asked after each event; it may keep what it has seen.
class Policy {
 public:
  virtual ~Policy() = default;
  virtual Wish decide(const Sight& sight) = 0;
};

// "hob": runner's Scaler, told as an edge tells: each second, and while requests wait for what does
// not exist yet each kReportShort; what is awake edge::decide_awake says.
// "knative": its KPA at its defaults: 2 s ticks, 60 s and 6 s windows, 70 % of the concurrency,
// panic at twice what is ready, at once when there is none. Averages are exact, where its own are
// sampled. "app runner": its rule with fixed reserves: as many as the requests in flight fill are
// active, at once; min_size are provisioned at least, and those not needed have no CPU. It
// publishes no time to scale in, nor for how long an active one stays so; a minute is assumed for
// both. "bare rule": the same, but an instance has no CPU the moment it has no request. Nothing
// that keeps every request from waiting can have less awake; who wakes takes wake_time.
inline constexpr std::string_view kPolicies[] = {"hob", "knative", "app runner", "bare rule"};
std::unique_ptr<Policy> make_policy(std::string_view name, const SimSettings& settings);

}  // namespace hob::sim
