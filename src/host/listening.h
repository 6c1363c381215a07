// Reads the kernel's table of TCP sockets: on which ports does something listen? Pure.
#pragma once

#include <string_view>
#include <vector>

namespace hob::host {

struct ListeningPorts {
  std::vector<int> reachable{};      // sorted
  std::vector<int> loopback_only{};  // sorted; of no use to anybody outside the container
};

// `tcp`, `tcp6`: the text of /proc/net/tcp and /proc/net/tcp6. Lines that are not understood are
// skipped.
ListeningPorts parse_listening(std::string_view tcp, std::string_view tcp6);

}  // namespace hob::host
