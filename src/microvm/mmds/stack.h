// The far end of a guest's connections to its metadata: as much of Ethernet, ARP, IPv4 (RFC 791)
// and TCP (RFC 9293) as one server on port 80 needs, within the monitor.
//
// Frames come from a guest, so each is read through checked offsets, and what there is of each kind
// is bounded: connections (the one idle longest goes), what is received of a request, refusals that
// wait. The loop's thread alone.
#pragma once

#include <array>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "microvm/devices/timer.h"
#include "microvm/mmds/metadata.h"
#include "microvm/virtio/net.h"

namespace hob::microvm {

using Ipv4Address = std::array<uint8_t, 4>;

inline constexpr size_t kGuestConnectionsMax = 30;
inline constexpr size_t kGuestRefusalsMax = 30;  // resets and ARP answers that wait to be sent
inline constexpr size_t kGuestRetriesMax = 6;
inline constexpr std::chrono::milliseconds kGuestRetryAfter{1000};  // doubled each time

struct StackCounts {
  uint64_t accepted = 0, unusual = 0, bad = 0, frames_sent = 0, bytes_sent = 0;
  uint64_t connections_created = 0, connections_destroyed = 0;
};

class MetadataStack final : public FrameResponder {
 public:
  MetadataStack(Metadata& metadata, Ipv4Address address, MonotonicClock clock)
      : metadata_(metadata), address_(address), clock_(clock) {}

  bool wants(std::span<const std::byte> frame) const override;
  void take(std::span<const std::byte> frame) override;
  size_t next(std::span<std::byte> frame) override;
  std::optional<MonotonicTime> deadline() const override;
  void time_passed() override;
  const StackCounts& counts() const { return counts_; }
  size_t connections() const { return connections_.size(); }

 private:
  struct Peer {
    MacAddress mac{};
    Ipv4Address address{};
    uint16_t port = 0;
  };
  struct TcpSegment;
  struct Connection {
    Peer peer{};
    uint32_t receive_next = 0;
    uint32_t send_first = 0;  // sequence number of the first thing that is not acknowledged
    uint16_t peer_window = 0;
    uint16_t peer_segment_bytes = 0;
    bool opening_sent = false, opened = false;                 // our SYN, and its acknowledgement
    bool peer_closed = false;                                  // its FIN was received
    bool closing = false, close_sent = false, closed = false;  // our FIN, behind `outgoing`
    bool acknowledge = false;
    bool probe = false;  // one byte may go although the window is shut
    std::string incoming{};
    std::string outgoing{};  // from send_first on
    size_t sent = 0;         // of it
    size_t retries = 0;
    MonotonicTime retry_at{};
    MonotonicTime active_at{};
    bool waits() const { return (opening_sent && !opened) || sent > 0 || (close_sent && !closed); }
  };
  struct Refusal {
    Peer peer{};
    bool arp = false;
    uint32_t sequence = 0;
    std::optional<uint32_t> acknowledgement{};
  };
  void take_arp(std::span<const std::byte> frame);
  void take_segment(const TcpSegment& segment);
  void take_for(Connection& connection, const TcpSegment& segment);
  void take_acknowledgement(Connection& connection, const TcpSegment& segment);
  void serve(Connection& connection);
  void open(const TcpSegment& segment);
  void refuse(Refusal refusal);
  void refuse_segment(const TcpSegment& segment);
  void remove_finished();
  size_t next_of(Connection& connection, std::span<std::byte> frame);
  size_t write_segment(const Peer& peer, uint8_t flags, uint32_t sequence, uint32_t acknowledgement,
                       std::span<const std::byte> options, std::string_view payload,
                       std::span<std::byte> frame);
  size_t write_arp(const Peer& peer, std::span<std::byte> frame);

  Metadata& metadata_;
  const Ipv4Address address_;
  MonotonicClock clock_;
  std::deque<Connection> connections_;  // served in turn
  std::deque<Refusal> refusals_;
  uint16_t identification_ = 0;
  StackCounts counts_;
};

}  // namespace hob::microvm
