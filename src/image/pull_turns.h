// Who may pull now: so many from one registry at once, first come first served.
//
// Without it a registry that stalls would soon hold every thread that pulls, and others' images
// would wait for its time-outs. Belongs to one loop.
#pragma once

#include <deque>
#include <map>
#include <string>

#include "base/async.h"

namespace hob::image {

class PullTurns {
 public:
  explicit PullTurns(size_t per_registry) : per_registry_(per_registry) {}
  PullTurns(const PullTurns&) = delete;
  PullTurns& operator=(const PullTurns&) = delete;

  // A place in the line of `registry` from the moment it is made. Its end, cancelled or not, lets
  // the next one in. PullTurns must outlive it.
  class Turn {
   public:
    Turn(PullTurns& turns, std::string registry, const Executor& executor);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    // Returns when it is our turn.
    Async<> wait() { return given_.wait(); }

   private:
    PullTurns& turns_;
    const std::string registry_;
    Event given_;
  };

 private:
  struct Line {
    size_t pulling = 0;
    std::deque<Event*> waiting{};  // of Turns
  };

  const size_t per_registry_;
  std::map<std::string, Line> lines_;  // of registries that somebody pulls from
};

}  // namespace hob::image
