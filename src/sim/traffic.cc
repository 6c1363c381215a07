#include "sim/traffic.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>

#include "base/assert.h"

namespace hob::sim {

namespace {

constexpr double kLasts = 900;
constexpr double kServiceTime = 0.2;
constexpr double kPeak = 200;  // requests a second
constexpr double kParetoShape = 1.5;
constexpr double kTakesMax = 60;

// Requests a second at `at`.
double rate_of(std::string_view name, double at) {
  if (name == "step" || name == "heavy tailed") return at < 300 ? 20 : at < 600 ? kPeak : 20;
  if (name == "spike") return at >= 300 && at < 315 ? 2 * kPeak : 20;
  if (name == "sawtooth") return kPeak * std::fmod(at, 180) / 180;
  if (name == "sine") return kPeak * (1 + std::sin(2 * std::numbers::pi * at / 300)) / 2;
  if (name == "on-off") return std::fmod(at, 90) < 20 ? kPeak : 0;
  if (name == "sparse") return 1.0 / 45;
  if (name == "flash crowd") return at < 300 ? 4 : std::max(4.0, kPeak * std::exp((300 - at) / 60));
  HOB_ASSERT(false && "no such trace");
  return 0;
}

}  // namespace

Trace draw_trace(std::string_view name, uint64_t seed) {
  std::mt19937_64 random(seed);
  // Written out: the library's distributions may differ from one to the next.
  const auto unit = [&random] { return (static_cast<double>(random() >> 11) + 0.5) * 0x1p-53; };
  Trace trace{.name = std::string(name), .lasts = kLasts};
  double at = 0;
  // Thinning: candidates at the highest rate, kept as often as the rate at their time is of it.
  for (;;) {
    at -= std::log(unit()) / (2 * kPeak);
    if (at >= kLasts) break;
    if (unit() > rate_of(name, at) / (2 * kPeak)) continue;
    double takes = -std::log(unit()) * kServiceTime;
    if (name == "heavy tailed") {
      const double least = kServiceTime * (kParetoShape - 1) / kParetoShape;
      takes = std::min(least / std::pow(unit(), 1 / kParetoShape), kTakesMax);
    }
    trace.requests.push_back({.arrives = at, .takes = takes});
  }
  return trace;
}

}  // namespace hob::sim
