#include "microvm/mmds/stack.h"

#include <sys/random.h>

#include <algorithm>

#include "base/assert.h"
#include "microvm/mmds/guest_http.h"

namespace hob::microvm {
namespace {

constexpr MacAddress kOurMac = {0x06, 0x01, 0x23, 0x45, 0x67, 0x01};  // Firecracker's
constexpr uint16_t kPort = 80;
constexpr uint16_t kTypeIpv4 = 0x0800;
constexpr uint16_t kTypeArp = 0x0806;
constexpr size_t kArpBytes = 28;
constexpr size_t kIpBytes = 20;
constexpr size_t kTcpBytes = 20;
constexpr size_t kSegmentBytesMax = 1460;  // in an Ethernet frame of 1,514
constexpr size_t kSegmentBytesMin = 64;    // whatever the guest asks for
constexpr size_t kSegmentBytesDefault = 536;
constexpr uint8_t kTcp = 6;
enum : uint8_t { kFin = 1, kSyn = 2, kReset = 4, kPush = 8, kAck = 16 };

uint16_t read16(std::span<const std::byte> bytes, size_t at) {
  return static_cast<uint16_t>(std::to_integer<unsigned>(bytes[at]) << 8 |
                               std::to_integer<unsigned>(bytes[at + 1]));
}
uint32_t read32(std::span<const std::byte> bytes, size_t at) {
  return uint32_t{read16(bytes, at)} << 16 | read16(bytes, at + 2);
}
void write16(std::span<std::byte> bytes, size_t at, uint16_t value) {
  bytes[at] = static_cast<std::byte>(value >> 8);
  bytes[at + 1] = static_cast<std::byte>(value);
}
void write32(std::span<std::byte> bytes, size_t at, uint32_t value) {
  write16(bytes, at, static_cast<uint16_t>(value >> 16));
  write16(bytes, at + 2, static_cast<uint16_t>(value));
}
template <size_t kCount>
std::array<uint8_t, kCount> read_bytes(std::span<const std::byte> bytes, size_t at) {
  std::array<uint8_t, kCount> value{};
  std::ranges::copy(bytes.subspan(at, kCount), std::as_writable_bytes(std::span(value)).begin());
  return value;
}
template <size_t kCount>
void write_bytes(std::span<std::byte> bytes, size_t at, const std::array<uint8_t, kCount>& value) {
  std::ranges::copy(std::as_bytes(std::span(value)), bytes.subspan(at, kCount).begin());
}

// RFC 1071, of what stands in network order.
uint16_t checksum(std::span<const std::byte> bytes, uint32_t sum) {
  for (size_t i = 0; i + 1 < bytes.size(); i += 2) sum += read16(bytes, i);
  if (bytes.size() % 2 != 0) sum += std::to_integer<uint32_t>(bytes.back()) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

void write_ethernet(std::span<std::byte> frame, const MacAddress& to, uint16_t type) {
  write_bytes(frame, 0, to);
  write_bytes(frame, 6, kOurMac);
  write16(frame, 12, type);
}

}  // namespace

// A segment to our port, all of it in the frame.
struct MetadataStack::TcpSegment {
  Peer peer{};
  uint8_t flags = 0;
  uint32_t sequence = 0;
  uint32_t acknowledgement = 0;
  uint16_t window = 0;
  size_t segment_bytes = kSegmentBytesDefault;  // the option
  std::string_view payload{};
  bool has(uint8_t flag) const { return (flags & flag) != 0; }
};

bool MetadataStack::wants(std::span<const std::byte> frame) const {
  if (frame.size() < kEthernetHeaderBytes + kIpBytes) return false;
  const uint16_t type = read16(frame, 12);
  if (type == kTypeIpv4) return read_bytes<4>(frame, kEthernetHeaderBytes + 16) == address_;
  return type == kTypeArp && frame.size() >= kEthernetHeaderBytes + kArpBytes &&
         read_bytes<4>(frame, kEthernetHeaderBytes + 24) == address_;
}

void MetadataStack::take(std::span<const std::byte> frame) {
  ++counts_.accepted;
  if (read16(frame, 12) == kTypeArp) return take_arp(frame);
  TcpSegment segment;
  segment.peer.mac = read_bytes<6>(frame, 6);
  std::span<const std::byte> packet = frame.subspan(kEthernetHeaderBytes);
  const size_t header_bytes = 4 * (std::to_integer<size_t>(packet[0]) & 0xf);
  const size_t packet_bytes = read16(packet, 2);
  const bool fragment = (read16(packet, 6) & 0x3fff) != 0;  // more to come, or an offset
  const bool sound = std::to_integer<int>(packet[0]) >> 4 == 4 && header_bytes >= kIpBytes &&
                     packet_bytes <= packet.size() && header_bytes <= packet_bytes && !fragment &&
                     std::to_integer<uint8_t>(packet[9]) == kTcp;
  if (!sound || packet_bytes - header_bytes < kTcpBytes) {
    ++counts_.bad;
    return;
  }
  segment.peer.address = read_bytes<4>(packet, 12);
  // Checksums are not looked at: they may be left to the receiver, and nothing came over a wire.
  const std::span<const std::byte> tcp = packet.subspan(header_bytes, packet_bytes - header_bytes);
  const size_t data_at = 4 * (std::to_integer<size_t>(tcp[12]) >> 4);
  if (data_at < kTcpBytes || data_at > tcp.size() || read16(tcp, 2) != kPort) {
    ++counts_.bad;
    return;
  }
  segment.peer.port = read16(tcp, 0);
  segment.sequence = read32(tcp, 4);
  segment.acknowledgement = read32(tcp, 8);
  segment.flags = std::to_integer<uint8_t>(tcp[13]);
  segment.window = read16(tcp, 14);
  for (size_t at = kTcpBytes; at < data_at;) {
    const auto kind = std::to_integer<uint8_t>(tcp[at]);
    if (kind == 0) break;
    if (kind == 1) {
      ++at;
      continue;
    }
    if (data_at - at < 2) break;
    const auto length = std::to_integer<size_t>(tcp[at + 1]);
    if (length < 2 || length > data_at - at) break;
    if (kind == 2 && length == 4) segment.segment_bytes = read16(tcp, at + 2);
    at += length;
  }
  const std::span<const std::byte> payload = tcp.subspan(data_at);
  segment.payload = {reinterpret_cast<const char*>(payload.data()), payload.size()};
  take_segment(segment);
  remove_finished();
}

void MetadataStack::take_arp(std::span<const std::byte> frame) {
  const std::span<const std::byte> arp = frame.subspan(kEthernetHeaderBytes);
  constexpr uint64_t kEthernetAndIpv4 = 0x0001080006040001;  // a request of the one for the other
  if ((uint64_t{read32(arp, 0)} << 32 | read32(arp, 4)) != kEthernetAndIpv4) {
    ++counts_.unusual;
    return;
  }
  refuse({.peer = {.mac = read_bytes<6>(arp, 8), .address = read_bytes<4>(arp, 14)}, .arp = true});
}

void MetadataStack::take_segment(const TcpSegment& segment) {
  const auto same = [&](const Connection& one) {
    return one.peer.port == segment.peer.port && one.peer.address == segment.peer.address;
  };
  const auto found = std::ranges::find_if(connections_, same);
  if (found == connections_.end()) {
    if (segment.has(kReset)) return;
    if ((segment.flags & (kSyn | kAck)) == kSyn) return open(segment);
    return refuse_segment(segment);
  }
  Connection& connection = *found;
  connection.active_at = clock_();
  if (segment.has(kReset)) {
    if (segment.sequence != connection.receive_next) return;
    ++counts_.connections_destroyed;
    connections_.erase(found);
    return;
  }
  if (segment.has(kSyn)) {
    if (segment.sequence + 1 == connection.receive_next && !connection.opened) {
      connection.opening_sent = false;  // our answer was lost
      return;
    }
    // The guest has forgotten the old one.
    ++counts_.connections_destroyed;
    connections_.erase(found);
    return open(segment);
  }
  take_for(connection, segment);
}

void MetadataStack::open(const TcpSegment& segment) {
  if (connections_.size() == kGuestConnectionsMax) {
    connections_.erase(std::ranges::min_element(connections_, {}, &Connection::active_at));
    ++counts_.connections_destroyed;
  }
  uint32_t first = 0;
  HOB_ASSERT(getrandom(&first, sizeof first, 0) == sizeof first);
  connections_.push_back({.peer = segment.peer,
                          .receive_next = segment.sequence + 1,
                          .send_first = first,
                          .peer_window = segment.window,
                          .peer_segment_bytes = static_cast<uint16_t>(std::clamp(
                              segment.segment_bytes, kSegmentBytesMin, kSegmentBytesMax)),
                          .active_at = clock_()});
  ++counts_.connections_created;
}

void MetadataStack::refuse(Refusal refusal) {
  if (refusals_.size() < kGuestRefusalsMax) refusals_.push_back(std::move(refusal));
}

// As RFC 9293, 3.10.7.1 has it for a connection that there is none of.
void MetadataStack::refuse_segment(const TcpSegment& segment) {
  ++counts_.unusual;
  Refusal refusal{.peer = segment.peer};
  if (segment.has(kAck)) {
    refusal.sequence = segment.acknowledgement;
  } else {
    refusal.acknowledgement = segment.sequence + static_cast<uint32_t>(segment.payload.size()) +
                              (segment.has(kSyn) ? 1 : 0) + (segment.has(kFin) ? 1 : 0);
  }
  refuse(std::move(refusal));
}

void MetadataStack::take_acknowledgement(Connection& connection, const TcpSegment& segment) {
  const bool opening = connection.opening_sent && !connection.opened;
  uint32_t advanced = segment.acknowledgement - connection.send_first;
  const size_t outstanding =
      (opening ? 1 : 0) + connection.sent + (connection.close_sent && !connection.closed ? 1 : 0);
  if (advanced > outstanding) return;  // old, or of what was never sent
  connection.peer_window = segment.window;
  if (advanced == 0) return;
  connection.send_first = segment.acknowledgement;
  connection.retries = 0;
  connection.retry_at = clock_() + kGuestRetryAfter;
  if (opening) {
    connection.opened = true;
    --advanced;
  }
  const size_t bytes = std::min<size_t>(advanced, connection.sent);
  connection.outgoing.erase(0, bytes);
  connection.sent -= bytes;
  if (advanced > bytes) connection.closed = true;
}

void MetadataStack::take_for(Connection& connection, const TcpSegment& segment) {
  if (segment.has(kAck)) take_acknowledgement(connection, segment);
  const uint32_t behind = connection.receive_next - segment.sequence;
  if (segment.payload.empty() && !segment.has(kFin)) {
    // A probe of a peer that would know whether we live.
    if (behind == 1) connection.acknowledge = true;
    return serve(connection);
  }
  connection.acknowledge = true;
  // Older than all of it, or from beyond a gap: the acknowledgement tells what is wanted.
  if (behind > segment.payload.size() || connection.peer_closed) return;
  std::string_view fresh = segment.payload.substr(behind);
  const size_t room =
      connection.closing ? fresh.size() : kGuestRequestBytesMax - connection.incoming.size();
  const bool whole = fresh.size() <= room;
  fresh = fresh.substr(0, room);
  if (!connection.closing) connection.incoming += fresh;
  connection.receive_next += static_cast<uint32_t>(fresh.size());
  if (segment.has(kFin) && whole) {
    ++connection.receive_next;
    connection.peer_closed = true;
  }
  serve(connection);
}

// One answer at a time: the next request is looked at when the last one's answer is acknowledged.
void MetadataStack::serve(Connection& connection) {
  if (!connection.opened || connection.closing || !connection.outgoing.empty()) return;
  GuestRequest request;
  size_t used = 0;
  switch (parse_guest_request(connection.incoming, request, used)) {
    case GuestStep::kMore:
      if (connection.peer_closed || connection.incoming.size() >= kGuestRequestBytesMax)
        connection.closing = true;
      return;
    case GuestStep::kBad:
      connection.outgoing = answer_to_bad_request();
      connection.closing = true;
      connection.incoming.clear();
      return;
    case GuestStep::kRequest:
      connection.outgoing = answer(request, metadata_);
      connection.incoming.erase(0, used);
      return;
  }
}

void MetadataStack::remove_finished() {
  counts_.connections_destroyed += std::erase_if(connections_, [](const Connection& one) {
    return one.closed && one.peer_closed && !one.acknowledge;
  });
}

size_t MetadataStack::next(std::span<std::byte> frame) {
  size_t bytes = 0;
  if (!refusals_.empty()) {
    const Refusal refusal = refusals_.front();
    refusals_.pop_front();
    bytes =
        refusal.arp
            ? write_arp(refusal.peer, frame)
            : write_segment(refusal.peer,
                            static_cast<uint8_t>(refusal.acknowledgement ? kReset | kAck : kReset),
                            refusal.sequence, refusal.acknowledgement.value_or(0), {}, "", frame);
  }
  for (size_t count = connections_.size(); bytes == 0 && count > 0; --count) {
    bytes = next_of(connections_.front(), frame);
    std::rotate(connections_.begin(), connections_.begin() + 1, connections_.end());
  }
  remove_finished();
  if (bytes > 0) {
    ++counts_.frames_sent;
    counts_.bytes_sent += bytes;
  }
  return bytes;
}

size_t MetadataStack::next_of(Connection& connection, std::span<std::byte> frame) {
  const MonotonicTime retry_at = clock_() + kGuestRetryAfter * (1 << connection.retries);
  if (!connection.opened) {
    if (connection.opening_sent) return 0;
    connection.opening_sent = true;
    connection.retry_at = retry_at;
    std::array<std::byte, 4> options = {std::byte{2}, std::byte{4}};
    write16(options, 2, kSegmentBytesMax);
    return write_segment(connection.peer, kSyn | kAck, connection.send_first,
                         connection.receive_next, options, "", frame);
  }
  const size_t window = std::max<size_t>(connection.peer_window, connection.probe ? 1 : 0);
  const size_t room = window - std::min(window, connection.sent);
  const size_t bytes = std::min<size_t>(
      {connection.outgoing.size() - connection.sent, room, connection.peer_segment_bytes});
  // Without room: who opens the window might not be heard, so it is tried again.
  if (bytes == 0 && connection.sent == 0 && !connection.outgoing.empty() &&
      connection.retry_at <= clock_())
    connection.retry_at = retry_at;
  const auto sequence = [&] {
    return connection.send_first + static_cast<uint32_t>(connection.sent);
  };
  if (bytes > 0) {
    const std::string_view payload =
        std::string_view(connection.outgoing).substr(connection.sent, bytes);
    const uint32_t first = sequence();
    connection.sent += bytes;
    connection.acknowledge = connection.probe = false;
    connection.retry_at = retry_at;
    return write_segment(connection.peer, kAck | kPush, first, connection.receive_next, {}, payload,
                         frame);
  }
  if (connection.closing && !connection.close_sent &&
      connection.sent == connection.outgoing.size()) {
    connection.close_sent = true;
    connection.acknowledge = false;
    connection.retry_at = retry_at;
    return write_segment(connection.peer, kAck | kFin, sequence(), connection.receive_next, {}, "",
                         frame);
  }
  if (!connection.acknowledge) return 0;
  connection.acknowledge = false;
  return write_segment(connection.peer, kAck,
                       sequence() + (connection.close_sent && !connection.closed ? 1 : 0),
                       connection.receive_next, {}, "", frame);
}

std::optional<MonotonicTime> MetadataStack::deadline() const {
  std::optional<MonotonicTime> first;
  for (const Connection& one : connections_) {
    if (!one.waits() && one.outgoing.empty()) continue;
    if (!first || one.retry_at < *first) first = one.retry_at;
  }
  return first;
}

void MetadataStack::time_passed() {
  const MonotonicTime now = clock_();
  counts_.connections_destroyed += std::erase_if(connections_, [&](Connection& one) {
    if ((!one.waits() && one.outgoing.empty()) || now < one.retry_at) return false;
    if (++one.retries > kGuestRetriesMax) return true;
    one.retry_at = now + kGuestRetryAfter * (1 << one.retries);
    // All of it again, from what is not acknowledged on.
    if (!one.opened) one.opening_sent = false;
    one.probe = one.sent == 0 && !one.outgoing.empty();
    one.sent = 0;
    if (!one.closed) one.close_sent = false;
    return false;
  });
}

size_t MetadataStack::write_segment(const Peer& peer, uint8_t flags, uint32_t sequence,
                                    uint32_t acknowledgement, std::span<const std::byte> options,
                                    std::string_view payload, std::span<std::byte> frame) {
  const size_t tcp_bytes = kTcpBytes + options.size() + payload.size();
  const size_t bytes = kEthernetHeaderBytes + kIpBytes + tcp_bytes;
  HOB_ASSERT(bytes <= frame.size());
  std::ranges::fill(frame.first(bytes), std::byte{0});
  write_ethernet(frame, peer.mac, kTypeIpv4);
  const std::span<std::byte> ip = frame.subspan(kEthernetHeaderBytes, kIpBytes);
  ip[0] = std::byte{0x45};
  write16(ip, 2, static_cast<uint16_t>(kIpBytes + tcp_bytes));
  write16(ip, 4, ++identification_);
  write16(ip, 6, 0x4000);  // not to be fragmented
  ip[8] = std::byte{1};    // no router's
  ip[9] = std::byte{kTcp};
  write_bytes(ip, 12, address_);
  write_bytes(ip, 16, peer.address);
  write16(ip, 10, checksum(ip, 0));
  const std::span<std::byte> tcp = frame.subspan(kEthernetHeaderBytes + kIpBytes, tcp_bytes);
  write16(tcp, 0, kPort);
  write16(tcp, 2, peer.port);
  write32(tcp, 4, sequence);
  write32(tcp, 8, acknowledgement);
  tcp[12] = static_cast<std::byte>((kTcpBytes + options.size()) / 4 << 4);
  tcp[13] = static_cast<std::byte>(flags);
  write16(tcp, 14, kGuestRequestBytesMax);
  std::ranges::copy(options, tcp.subspan(kTcpBytes).begin());
  std::ranges::copy(std::as_bytes(std::span(payload)),
                    tcp.subspan(kTcpBytes + options.size()).begin());
  // With the pseudo-header of 3.1: addresses, protocol, length.
  const uint32_t pseudo = uint32_t{read16(ip, 12)} + read16(ip, 14) + read16(ip, 16) +
                          read16(ip, 18) + kTcp + static_cast<uint32_t>(tcp_bytes);
  write16(tcp, 16, checksum(tcp, pseudo));
  return bytes;
}

size_t MetadataStack::write_arp(const Peer& peer, std::span<std::byte> frame) {
  const size_t bytes = kEthernetHeaderBytes + kArpBytes;
  HOB_ASSERT(bytes <= frame.size());
  write_ethernet(frame, peer.mac, kTypeArp);
  const std::span<std::byte> arp = frame.subspan(kEthernetHeaderBytes, kArpBytes);
  write32(arp, 0, 0x00010800);
  write32(arp, 4, 0x06040002);
  write_bytes(arp, 8, kOurMac);
  write_bytes(arp, 14, address_);
  write_bytes(arp, 18, peer.mac);
  write_bytes(arp, 24, peer.address);
  return bytes;
}

}  // namespace hob::microvm
