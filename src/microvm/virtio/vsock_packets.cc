// The socket device's packets: what the guest's say, and what it is sent.
#include <fmt/core.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

#include "microvm/virtio/segments.h"
#include "microvm/virtio/vsock_connection.h"

namespace hob::microvm {
namespace {

constexpr uint32_t kHeaderBytes = sizeof(VsockHeader);

Fd connect_to(const std::string& path) {
  const auto address = unix_address(path);
  if (!address) return {};
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // A unix socket connects at once, or its listener's queue is full and it does not.
  if (fd && connect(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) < 0)
    fd.reset();
  return fd;
}

}  // namespace

VirtioDevice::Progress Vsock::take_packets() {
  if (!active_) return Progress::kDone;
  Queue& queue = active_->queues[kFromGuest];
  for (int count = 0; count < kVsockTurnPackets;) {
    // It takes none of our refusals, so we take nothing that would need another.
    if (refusals_.size() >= kVsockRefusalsMax) return Progress::kDone;
    const Queue::Popped popped = queue.pop(active_->memory, chain_);
    if (popped == Queue::Popped::kEmpty) {
      if (queue.enable_notification(active_->memory)) continue;
      return Progress::kDone;
    }
    VsockHeader header{};
    if (popped == Queue::Popped::kBroken ||
        !copy_in(active_->memory, chain_.readable, 0,
                 std::as_writable_bytes(std::span(&header, 1)))) {
      active_->interrupt.needs_reset();
      active_.reset();
      was_reset_ = true;
      wake_.signal();
      return Progress::kDone;
    }
    ++counts_.sent_packets;
    counts_.sent_bytes += chain_.readable_bytes - kHeaderBytes;
    take(header, chain_);
    queue.push_used(active_->memory, chain_.head, 0);
    ++count;
  }
  return Progress::kMore;
}

void Vsock::take(const VsockHeader& header, const Chain& chain) {
  if (header.from_cid != guest_cid_) return;
  const VsockPorts ports{.host = header.to_port, .guest = header.from_port};
  const auto found = connections_.find(ports);
  const bool ours = header.type == kVsockStream && header.to_cid == kVsockHostCid;
  if (!ours || found == connections_.end()) {
    if (ours && header.operation == kVsockRequest) return take_request(header);
    if (header.operation != kVsockReset) refuse(header);
    return;
  }
  Connection& connection = *found->second;
  connection.guest_buffer = header.buffer_bytes;
  connection.guest_forwarded = header.forwarded_bytes;
  connection.asked_for_credit = false;
  switch (header.operation) {
    case kVsockResponse:
      if (connection.open || !connection.by_host || connection.owes_request)
        return drop(ports, true);
      return established(connection);
    case kVsockReset:
      return drop(ports, false);
    case kVsockShutdown:
      return take_shutdown(connection, header.flags);
    case kVsockData:
      return take_data(connection, header, chain);
    case kVsockCreditUpdate:
      return wait_for_turn(connection);
    case kVsockCreditRequest:
      connection.owes_credit = true;
      return wait_for_turn(connection);
    default:
      return drop(ports, true);
  }
}

void Vsock::take_request(const VsockHeader& header) {
  Fd fd;
  if (has_room()) fd = connect_to(fmt::format("{}_{}", path_, header.to_port));
  if (!fd) return refuse(header);
  auto connection = std::make_unique<Connection>();
  connection->ports = {.host = header.to_port, .guest = header.from_port};
  connection->fd = std::move(fd);
  connection->open = connection->owes_response = true;
  connection->guest_buffer = header.buffer_bytes;
  connection->guest_forwarded = header.forwarded_bytes;
  Connection& kept = *connection;
  connections_[kept.ports] = std::move(connection);
  ++counts_.begun;
  wait_for_turn(kept);
  watch(kept);
}

void Vsock::established(Connection& connection) {
  const std::string line = fmt::format("OK {}\n", connection.ports.host);
  if (send(connection.fd.get(), line.data(), line.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(line.size()))
    return drop(connection.ports, true);
  connection.open = true;
  watch(connection);
}

void Vsock::take_data(Connection& connection, const VsockHeader& header, const Chain& chain) {
  const uint32_t bytes = header.bytes;
  const bool allowed = connection.open && connection.fd &&
                       (connection.guest_shutdown & kVsockNoSend) == 0 &&
                       bytes <= chain.readable_bytes - kHeaderBytes &&
                       bytes <= kVsockBufferBytes - connection.unsent_bytes();
  if (!allowed) return drop(connection.ports, true);
  size_t sent = 0;
  if (connection.unsent_bytes() == 0 && bytes > 0 &&
      io_ranges(active_->memory, chain.readable, kHeaderBytes, bytes, false, vectors_)) {
    msghdr message{};
    message.msg_iov = vectors_.data();
    message.msg_iovlen = vectors_.size();
    const ssize_t done = sendmsg(connection.fd.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (done < 0 && errno != EAGAIN && errno != EINTR) return drop(connection.ports, true);
    if (done > 0) sent = static_cast<size_t>(done);
    connection.forward(sent);
  }
  if (sent < bytes) {
    std::vector<std::byte>& unsent = connection.unsent;
    unsent.erase(unsent.begin(), unsent.begin() + static_cast<ptrdiff_t>(connection.unsent_at));
    connection.unsent_at = 0;
    const size_t before = unsent.size();
    unsent.resize(before + bytes - sent);
    if (!copy_in(active_->memory, chain.readable, kHeaderBytes + sent,
                 std::span(unsent).subspan(before)))
      return drop(connection.ports, true);
  }
  wait_for_turn(connection);
  watch(connection);
}

// False: the connection is gone.
bool Vsock::flush_to_host(Connection& connection) {
  while (connection.unsent_bytes() > 0) {
    const ssize_t sent = send(connection.fd.get(), connection.unsent.data() + connection.unsent_at,
                              connection.unsent_bytes(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return true;
    if (sent < 0) {
      drop(connection.ports, true);
      return false;
    }
    connection.unsent_at += static_cast<size_t>(sent);
    connection.forward(static_cast<size_t>(sent));
  }
  connection.unsent.clear();
  connection.unsent_at = 0;
  const uint32_t ended = connection.guest_shutdown;
  if (ended == (kVsockNoReceive | kVsockNoSend)) {
    drop(connection.ports, true);
    return false;
  }
  if ((ended & kVsockNoSend) != 0) shutdown(connection.fd.get(), SHUT_WR);
  return true;
}

void Vsock::take_shutdown(Connection& connection, uint32_t flags) {
  connection.guest_shutdown |= flags & (kVsockNoReceive | kVsockNoSend);
  if (!connection.fd || !connection.open) return drop(connection.ports, true);
  if ((flags & kVsockNoReceive) != 0) {
    shutdown(connection.fd.get(), SHUT_RD);
    connection.readable = false;
  }
  if (flush_to_host(connection)) watch(connection);
}

void Vsock::refuse(const VsockHeader& header) {
  refusals_.push_back({.from_cid = header.to_cid,
                       .to_cid = guest_cid_,
                       .from_port = header.to_port,
                       .to_port = header.from_port,
                       .type = header.type,
                       .operation = kVsockReset});
}

void Vsock::wait_for_turn(Connection& connection) {
  if (std::exchange(connection.waiting, true)) return;
  waiting_.push_back(connection.ports);
}

VsockHeader Vsock::header_of(const Connection& connection, uint16_t operation) const {
  return {.from_cid = kVsockHostCid,
          .to_cid = guest_cid_,
          .from_port = connection.ports.host,
          .to_port = connection.ports.guest,
          .type = kVsockStream,
          .operation = operation,
          .buffer_bytes = kVsockBufferBytes,
          .forwarded_bytes = connection.forwarded};
}

VirtioDevice::Progress Vsock::send_waiting() {
  for (int count = 0; count < kVsockTurnPackets; ++count) {
    if (!active_) return Progress::kDone;
    if (!refusals_.empty()) {
      if (send_refusal() == Sent::kNoBuffer) return Progress::kDone;
      continue;
    }
    if (waiting_.empty()) return Progress::kDone;
    const VsockPorts ports = waiting_.front();
    Connection& connection = *connections_.at(ports);
    const Sent sent = send_next(connection);
    if (sent == Sent::kNoBuffer) return Progress::kDone;
    waiting_.pop_front();
    connection.waiting = false;
    if (sent == Sent::kYes) wait_for_turn(connection);  // there may be more, after the others'
    watch(connection);
  }
  return Progress::kMore;
}

Vsock::Sent Vsock::send_refusal() {
  const Sent sent = send_packet(refusals_.front());
  if (sent == Sent::kYes) refusals_.pop_front();
  return sent;
}

Vsock::Sent Vsock::send_next(Connection& connection) {
  const auto send_once = [&](bool& owed, uint16_t operation) {
    const Sent sent = send_packet(header_of(connection, operation));
    if (sent == Sent::kYes) {
      owed = false;
      connection.owes_credit = false;  // each packet tells
      connection.forwarded_told = connection.forwarded;
    }
    return sent;
  };
  if (connection.owes_request) return send_once(connection.owes_request, kVsockRequest);
  if (connection.owes_response) return send_once(connection.owes_response, kVsockResponse);
  if (connection.readable && connection.reads_host()) {
    if (connection.room() > 0) {
      if (const Sent sent = send_data(connection); sent != Sent::kNothing) return sent;
    } else if (!connection.asked_for_credit) {
      bool owed = true;
      const Sent sent = send_once(owed, kVsockCreditRequest);
      connection.asked_for_credit = sent == Sent::kYes;
      return sent;
    }
  }
  if (connection.owes_shutdown != 0) {
    VsockHeader header = header_of(connection, kVsockShutdown);
    header.flags = connection.owes_shutdown;
    const Sent sent = send_packet(header);
    if (sent == Sent::kYes) connection.owes_shutdown = 0;
    return sent;
  }
  if (connection.owes_credit) return send_once(connection.owes_credit, kVsockCreditUpdate);
  return Sent::kNothing;
}

Vsock::Sent Vsock::send_data(Connection& connection) {
  if (!take_buffer()) return Sent::kNoBuffer;
  const uint64_t bytes = std::min<uint64_t>(
      {connection.room(), kVsockBufferBytes, buffer_.writable_bytes - kHeaderBytes});
  ssize_t got = -1;
  if (io_ranges(active_->memory, buffer_.writable, kHeaderBytes, bytes, true, vectors_)) {
    do {
      got = readv(connection.fd.get(), vectors_.data(), static_cast<int>(vectors_.size()));
    } while (got < 0 && errno == EINTR);
  }
  if (got < 0 && errno == EAGAIN) {
    connection.readable = false;
    return Sent::kNothing;
  }
  if (got <= 0) {
    connection.readable = false;
    connection.host_ended = true;
    connection.owes_shutdown = kVsockNoSend;
    if (has_hung_up(connection.fd)) left_by_host(connection);
    return Sent::kNothing;
  }
  VsockHeader header = header_of(connection, kVsockData);
  header.bytes = static_cast<uint32_t>(got);
  if (!copy_out(active_->memory, buffer_.writable, 0, std::as_bytes(std::span(&header, 1))))
    return Sent::kNoBuffer;
  use_buffer(kHeaderBytes + header.bytes);
  connection.sent += header.bytes;
  connection.owes_credit = false;
  connection.forwarded_told = connection.forwarded;
  return Sent::kYes;
}

// The entry stays until the guest has answered.
void Vsock::left_by_host(Connection& connection) {
  connection.owes_shutdown = kVsockNoSend | kVsockNoReceive;
  if (std::exchange(connection.watched, 0) != 0) loop_.forget(connection.fd.get());
  connection.fd.reset();
}

Vsock::Sent Vsock::send_packet(const VsockHeader& header) {
  if (!take_buffer() ||
      !copy_out(active_->memory, buffer_.writable, 0, std::as_bytes(std::span(&header, 1))))
    return Sent::kNoBuffer;
  use_buffer(kHeaderBytes);
  return Sent::kYes;
}

// Takes the guest's next empty buffer into buffer_, if there is one. One that was taken and not
// used stays there.
bool Vsock::take_buffer() {
  if (has_buffer_) return true;
  Queue& queue = active_->queues[kToGuest];
  while (true) {
    const Queue::Popped popped = queue.pop(active_->memory, buffer_);
    if (popped == Queue::Popped::kEmpty) {
      if (queue.enable_notification(active_->memory)) continue;
      return false;
    }
    // One that takes a header and nothing else would hold up data for ever.
    has_buffer_ = popped == Queue::Popped::kChain && buffer_.writable_bytes > kHeaderBytes;
    if (has_buffer_) return true;
    active_->interrupt.needs_reset();
    active_.reset();
    was_reset_ = true;
    wake_.signal();
    return false;
  }
}

void Vsock::use_buffer(uint32_t bytes) {
  ++counts_.received_packets;
  counts_.received_bytes += bytes - kHeaderBytes;
  active_->queues[kToGuest].push_used(active_->memory, buffer_.head, bytes);
  has_buffer_ = false;
}

}  // namespace hob::microvm
