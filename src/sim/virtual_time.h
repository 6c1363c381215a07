// Steady time that passes when the simulator says so.
//
// A program that links clock/virtual_time.cc has std::chrono::steady_clock and Asio's timers run on
// it: the real loops wait as ever, and nobody waits. One thread, one io_context at a time.
#pragma once

#include <cstdint>
#include <optional>

namespace hob::sim::virtual_time {

// Microseconds.
int64_t now_us();
// Begins anew, for a new io_context.
void reset(int64_t at_us);
// Never backward.
void advance_to(int64_t at_us);
// When the loop's earliest timer is due; nullopt: none is set. Due ones expire at the loop's next
// poll.
std::optional<int64_t> next_timer_us();

}  // namespace hob::sim::virtual_time
