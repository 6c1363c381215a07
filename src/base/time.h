// Time as Hob counts it: milliseconds. `Instant` is wall-clock time since 1970 (UTC), so that it can be
// stored and compared between processes of one machine.
#pragma once

#include <chrono>
#include <compare>
#include <string>

namespace hob {

using Duration = std::chrono::milliseconds;

struct WallTime {  // tag clock of Instant; read through a Clock port only
  using duration = Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<WallTime, Duration>;
  static constexpr bool is_steady = false;
};
using Instant = WallTime::time_point;

// The clock port. Decisions take an Instant; only loops ask a Clock.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Instant now() const = 0;
};

class SystemClock final : public Clock {
 public:
  Instant now() const override;
};

// Seconds with fraction, as AWS's JSON protocols write times.
double epoch_seconds(Instant at);
// "2026-11-23T22:11:49.123Z"
std::string iso8601(Instant at);
// "20261123T221149Z", as SigV4 writes times.
std::string iso8601_basic(Instant at);

}  // namespace hob
