// Randomness that a seed decides, one stream for each concern: what one draws more or less often
// does not change what another draws.
#pragma once

#include <cstdint>
#include <random>
#include <string_view>

#include "base/ids.h"

namespace hob::sim {

class SeededRandom final : public Random {
 public:
  SeededRandom(uint64_t seed, std::string_view stream) {
    uint64_t mixed = seed * 0x9e3779b97f4a7c15 + 0xcbf29ce484222325;
    for (const char c : stream) mixed = (mixed ^ static_cast<uint64_t>(c)) * 0x100000001b3;
    engine_.seed(mixed);
  }
  void fill(void* out, size_t size) override {
    for (size_t i = 0; i < size; ++i)
      static_cast<unsigned char*>(out)[i] = static_cast<unsigned char>(engine_() >> 24);
  }
  uint64_t bits() { return engine_(); }
  // 0 .. n - 1; n is at least 1.
  int below(int n) { return static_cast<int>(engine_() % static_cast<uint64_t>(n)); }
  // Both ends may be drawn.
  int between(int low, int high) { return low + below(high - low + 1); }
  bool chance(int percent) { return below(100) < percent; }

 private:
  std::mt19937_64 engine_;
};

}  // namespace hob::sim
