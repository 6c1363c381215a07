// Request traces, drawn from a seed. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hob::sim {

struct SimRequest {
  double arrives = 0;  // seconds since the trace's beginning, in order
  double takes = 0;    // seconds, once a task has it
};

struct Trace {
  std::string name{};
  double lasts = 0;  // seconds
  std::vector<SimRequest> requests{};
};

// Poisson arrivals at a rate that changes as the name says; exponential service times of 200 ms on
// average ("heavy tailed": Pareto of 1.5 with that mean, 60 s at most; "long requests": 30 s).
inline constexpr std::string_view kTraces[] = {"step",   "spike",  "sawtooth",    "sine",
                                               "on-off", "sparse", "flash crowd", "heavy tailed"};
// Added after the rule's form was chosen. "drift" and "long requests" had a part in its last
// figures; no figure was chosen by the others.
inline constexpr std::string_view kHeldOutTraces[] = {
    "two ramps", "double period", "lunch dip", "random on-off", "drift", "bursts", "long requests"};
// Beside these: "short requests" of 2 ms.
Trace draw_trace(std::string_view name, uint64_t seed);

}  // namespace hob::sim
