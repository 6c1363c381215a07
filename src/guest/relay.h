// Between an executed command and the connection of who asked for it.
#pragma once

#include <sys/types.h>

#include "base/file.h"
#include "guest/frame.h"

namespace hob::guest {

// Of what one side has not taken yet; beyond, the other one waits with more.
inline constexpr size_t kRelayBytesMax = 256 * 1024;

// What a command reads and writes, our ends: three pipes, or a terminal twice.
struct Streams {
  Fd in{}, out{}, errors{};
  bool terminal = false;
};
void set_window(const Streams& streams, const WindowSize& size);

// Carries input, output, window sizes and signals until the command, a child of this process, has
// ended and all it printed was taken; then reports its end. Where the other side goes before, the
// command gets SIGHUP, and its end is waited for. Neither side's slowness keeps the other from
// being heard. Blocking.
void relay(int container, const Fd& connection, FrameReader reader, Streams streams, pid_t process);

}  // namespace hob::guest
