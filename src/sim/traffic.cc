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
constexpr double kLongTime = 30;
constexpr double kShortTime = 0.002;
constexpr double kPeak = 200;  // requests a second
constexpr double kParetoShape = 1.5;
constexpr double kTakesMax = 60;

double wave(double at, double period) {
  return (1 + std::sin(2 * std::numbers::pi * at / period)) / 2;
}

// Uniform in (0, 1). Written out: the library's distributions may differ from one to the next.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  double unit() { return (static_cast<double>(engine_() >> 11) + 0.5) * 0x1p-53; }
  double exponential(double mean) { return -std::log(unit()) * mean; }

 private:
  std::mt19937_64 engine_;
};

// A time from which a rate holds.
struct Piece {
  double from = 0;
  double rate = 0;
};

// Of the traces whose shape is drawn too.
std::vector<Piece> draw_pieces(std::string_view name, Random& random) {
  std::vector<Piece> pieces;
  for (double at = 0; at < kLasts;) {
    if (name == "random on-off") {
      pieces.push_back({at, 0});
      at += 10 + random.exponential(50);
      pieces.push_back({at, kPeak * (0.5 + random.unit() / 2)});
      at += 5 + random.exponential(15);
    } else if (name == "bursts") {
      pieces.push_back({at, 20});
      at += random.exponential(60);
      pieces.push_back({at, 20 + random.exponential(80)});
      at += 1 + random.exponential(5);
    } else {
      break;
    }
  }
  return pieces;
}

// Requests a second at `at`.
double rate_of(std::string_view name, double at, const std::vector<Piece>& pieces) {
  if (!pieces.empty()) {
    const auto next = std::ranges::upper_bound(pieces, at, {}, &Piece::from);
    return std::min(std::prev(next)->rate, 2 * kPeak);
  }
  if (name == "step" || name == "heavy tailed") return at < 300 ? 20 : at < 600 ? kPeak : 20;
  if (name == "spike") return at >= 300 && at < 315 ? 2 * kPeak : 20;
  if (name == "sawtooth") return kPeak * std::fmod(at, 180) / 180;
  if (name == "sine") return kPeak * wave(at, 300);
  if (name == "on-off") return std::fmod(at, 90) < 20 ? kPeak : 0;
  if (name == "sparse") return 1.0 / 45;
  if (name == "flash crowd") return at < 300 ? 4 : std::max(4.0, kPeak * std::exp((300 - at) / 60));
  if (name == "two ramps") {
    if (at < 200) return 10;
    if (at < 400) return 10 + 50 * (at - 200) / 200;
    if (at < 500) return 60 + 140 * (at - 400) / 100;
    return at < 700 ? kPeak : 10;
  }
  if (name == "double period") return kPeak * (0.6 * wave(at, 225) + 0.4 * wave(at, 37));
  if (name == "lunch dip") return at >= 350 && at < 550 ? 40 : 150 * (0.9 + 0.1 * wave(at, 60));
  if (name == "drift") return 20 + 100 * at / kLasts;
  if (name == "short requests") return kPeak;
  if (name == "long requests") return wave(at, 400);
  HOB_ASSERT(false && "no such trace");
  return 0;
}

}  // namespace

Trace draw_trace(std::string_view name, uint64_t seed) {
  Random random(seed);
  const std::vector<Piece> pieces = draw_pieces(name, random);
  Trace trace{.name = std::string(name), .lasts = kLasts};
  double at = 0;
  // Thinning: candidates at the highest rate, kept as often as the rate at their time is of it.
  for (;;) {
    at += random.exponential(1 / (2 * kPeak));
    if (at >= kLasts) break;
    if (random.unit() > rate_of(name, at, pieces) / (2 * kPeak)) continue;
    double takes = random.exponential(name == "long requests"    ? kLongTime
                                      : name == "short requests" ? kShortTime
                                                                 : kServiceTime);
    if (name == "heavy tailed") {
      const double least = kServiceTime * (kParetoShape - 1) / kParetoShape;
      takes = std::min(least / std::pow(random.unit(), 1 / kParetoShape), kTakesMax);
    }
    trace.requests.push_back({.arrives = at, .takes = takes});
  }
  return trace;
}

}  // namespace hob::sim
