// A connection between guest and host, as the socket device keeps it. Private to vsock.cc and
// vsock_packets.cc.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "microvm/virtio/vsock.h"

namespace hob::microvm {

// The guest is told of freed buffer when so much has become free: it always knows of some.
inline constexpr uint32_t kVsockCreditStep = kVsockBufferBytes / 2;

struct Vsock::Connection {
  VsockPorts ports{};
  Fd fd{};            // none: the host's side is gone, and the guest has been told
  bool open = false;  // else the guest has not accepted yet
  bool by_host = false;
  bool waiting = false;  // in waiting_
  uint32_t watched = 0;  // the loop's events
  // Packets that the guest is owed.
  bool owes_request = false, owes_response = false, owes_credit = false;
  uint32_t owes_shutdown = 0;
  // Host to guest.
  bool readable = false;  // the host's socket may have something
  bool host_ended = false;
  bool asked_for_credit = false;
  uint32_t guest_buffer = 0, guest_forwarded = 0, sent = 0;
  // Guest to host.
  uint32_t guest_shutdown = 0;
  uint32_t forwarded = 0, forwarded_told = 0;
  std::vector<std::byte> unsent{};  // at most kVsockBufferBytes
  size_t unsent_at = 0;

  uint32_t unsent_bytes() const { return static_cast<uint32_t>(unsent.size() - unsent_at); }
  // Of the guest's buffer, as far as it told.
  uint32_t room() const {
    const uint32_t under_way = sent - guest_forwarded;
    return under_way >= guest_buffer ? 0 : guest_buffer - under_way;
  }
  bool reads_host() const {
    return open && fd && !host_ended && (guest_shutdown & kVsockNoReceive) == 0;
  }
  // Half closed: that nobody is left to read what the guest may send shows by EPOLLHUP alone.
  bool only_sends() const {
    return open && fd && !reads_host() && (guest_shutdown & kVsockNoSend) == 0;
  }
  void forward(size_t bytes) {
    forwarded += static_cast<uint32_t>(bytes);
    if (forwarded - forwarded_told >= kVsockCreditStep) owes_credit = true;
  }
};

inline std::optional<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path || path.contains('\0'))
    return std::nullopt;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

inline bool has_hung_up(const Fd& fd) {
  pollfd state{.fd = fd.get(), .events = 0, .revents = 0};
  return poll(&state, 1, 0) == 1 && (state.revents & (POLLHUP | POLLERR)) != 0;
}

}  // namespace hob::microvm
