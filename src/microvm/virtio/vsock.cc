#include "microvm/virtio/vsock.h"

#include <fmt/core.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

#include "microvm/snapshot/encoding.h"
#include "microvm/virtio/segments.h"

namespace hob::microvm {
namespace {

constexpr uint32_t kHeaderBytes = sizeof(VsockHeader);
// The guest is told of freed buffer when so much has become free: it always knows of some.
constexpr uint32_t kCreditStep = kVsockBufferBytes / 2;

std::optional<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path || path.contains('\0'))
    return std::nullopt;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Fd connect_to(const std::string& path) {
  const auto address = address_of(path);
  if (!address) return {};
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // A unix socket connects at once, or its listener's queue is full and it does not.
  if (fd && connect(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) < 0)
    fd.reset();
  return fd;
}

bool has_hung_up(const Fd& fd) {
  pollfd state{.fd = fd.get(), .events = 0, .revents = 0};
  return poll(&state, 1, 0) == 1 && (state.revents & (POLLHUP | POLLERR)) != 0;
}

// The port in "CONNECT <port>\n", any case.
std::optional<uint32_t> port_of(std::string_view line) {
  constexpr std::string_view kWord = "connect ";
  const auto same = [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; };
  if (line.size() <= kWord.size() ||
      !std::ranges::equal(line.substr(0, kWord.size()), kWord, same) || line.back() != '\n')
    return std::nullopt;
  line = line.substr(kWord.size(), line.size() - kWord.size() - 1);
  uint32_t port = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), port);
  if (error != std::errc() || end != line.data() + line.size()) return std::nullopt;
  return port;
}

}  // namespace

Result<VsockListener> VsockListener::bind(const std::string& path) {
  const auto address = address_of(path);
  if (!address)
    return fail(Code::kInvalid, "the socket's path must have 1 to {} bytes",
                sizeof address->sun_path - 1);
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno(errno, "making a socket");
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) < 0)
    return fail_errno(errno, "binding " + path);
  VsockListener listener(std::move(fd), path);
  if (listen(listener.fd_.get(), SOMAXCONN) < 0) return fail_errno(errno, "listening on " + path);
  return listener;
}

VsockListener::~VsockListener() {
  if (fd_) unlink(path_.c_str());
}

struct Vsock::Client {
  Fd fd{};
  std::string line{};  // as far as it has come
};

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
  void forward(size_t bytes) {
    forwarded += static_cast<uint32_t>(bytes);
    if (forwarded - forwarded_told >= kCreditStep) owes_credit = true;
  }
};

Vsock::Vsock(uint64_t guest_cid, Fd listener, std::string path, Loop& loop, Event wake)
    : guest_cid_(guest_cid),
      listener_(std::move(listener)),
      path_(std::move(path)),
      loop_(loop),
      wake_(std::move(wake)) {}

Result<std::unique_ptr<Vsock>> Vsock::create(uint64_t guest_cid, Fd listener, std::string path,
                                             Loop& loop) {
  HOB_TRY(Event wake, Event::create());
  std::unique_ptr<Vsock> vsock(
      new Vsock(guest_cid, std::move(listener), std::move(path), loop, std::move(wake)));
  HOB_CHECK(
      loop.watch(vsock->wake_.fd(), EPOLLIN, [vsock = vsock.get()](uint32_t) { vsock->woken(); }));
  HOB_CHECK(loop.watch(vsock->listener_.get(), EPOLLIN,
                       [vsock = vsock.get()](uint32_t) { vsock->accept_clients(); }));
  return vsock;
}

Vsock::~Vsock() {
  close_all();
  loop_.forget(listener_.get());
  loop_.forget(wake_.fd());
}

size_t Vsock::connections() const {
  const std::lock_guard lock(mutex_);
  return connections_.size();
}

void Vsock::read_configuration(uint64_t offset, std::span<std::byte> data) {
  const auto bytes = std::as_bytes(std::span(&guest_cid_, 1));
  for (size_t i = 0; i < data.size(); ++i)
    data[i] = offset + i < bytes.size() ? bytes[offset + i] : std::byte{0};
}

void Vsock::activate(const Active& active) {
  const std::lock_guard lock(mutex_);
  active_.emplace(active);
}

// Perhaps on a vCPU's thread, where the loop's files are not to be touched.
void Vsock::reset() {
  const std::lock_guard lock(mutex_);
  active_.reset();
  has_buffer_ = false;
  was_reset_ = true;
  wake_.signal();
}

VirtioDevice::Progress Vsock::notified(size_t index) {
  const std::lock_guard lock(mutex_);
  if (index == kEvents) {
    tell_restored();
    return Progress::kDone;
  }
  if (was_reset_) close_all();
  const Progress taken = take_packets();
  const Progress sent = send_waiting();
  interrupt_if_wanted();
  return taken == Progress::kMore || sent == Progress::kMore ? Progress::kMore : Progress::kDone;
}

Result<std::string> Vsock::save() {
  const std::lock_guard lock(mutex_);
  // What was taken and not used is the guest's again; it is taken anew when the machine goes on.
  if (active_ && has_buffer_) active_->queues[kToGuest].unpop(1);
  has_buffer_ = false;
  return encode(VsockState{.next_host_port = next_host_port_});
}

Result<void> Vsock::restore(std::string_view state) {
  HOB_TRY(const VsockState saved, decode<VsockState>(state));
  const std::lock_guard lock(mutex_);
  next_host_port_ = saved.next_host_port | kVsockFirstHostPort;
  restored_ = true;
  return {};
}

void Vsock::tell_restored() {
  if (!restored_ || !active_) return;
  Queue& events = active_->queues[kEvents];
  if (events.pop(active_->memory, chain_) != Queue::Popped::kChain) return;
  const uint32_t transport_reset = 0;
  if (copy_out(active_->memory, chain_.writable, 0, std::as_bytes(std::span(&transport_reset, 1))))
    events.push_used(active_->memory, chain_.head, sizeof transport_reset);
  restored_ = false;
  if (events.wants_interrupt(active_->memory)) active_->interrupt.queue_used();
}

void Vsock::woken() {
  wake_.take();
  const std::lock_guard lock(mutex_);
  if (was_reset_) close_all();
  if (send_waiting() == Progress::kMore) wake_.signal();
  interrupt_if_wanted();
}

void Vsock::interrupt_if_wanted() {
  if (!active_) return;
  bool wanted = false;
  for (const size_t index : {kToGuest, kFromGuest})
    wanted |= active_->queues[index].wants_interrupt(active_->memory);
  if (wanted) active_->interrupt.queue_used();
}

void Vsock::close_all() {
  for (const auto& connection : connections_) {
    if (connection.second->watched != 0) loop_.forget(connection.second->fd.get());
  }
  for (const auto& client : clients_) loop_.forget(client.first);
  connections_.clear();
  clients_.clear();
  waiting_.clear();
  refusals_.clear();
  was_reset_ = false;
}

// ---- Clients of the host's.

void Vsock::accept_clients() {
  const std::lock_guard lock(mutex_);
  if (was_reset_) close_all();
  while (true) {
    Fd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) return;
    const int number = fd.get();
    if (!active_ || !has_room() ||
        !loop_.watch(number, EPOLLIN, [this, number](uint32_t) { client_ready(number); }))
      continue;
    clients_[number] = std::make_unique<Client>(Client{.fd = std::move(fd)});
  }
}

void Vsock::client_ready(int fd) {
  const std::lock_guard lock(mutex_);
  if (was_reset_) close_all();
  const auto client = clients_.find(fd);
  if (client == clients_.end()) return;
  // Not a byte behind the line is taken: it is the stream's.
  std::array<char, kVsockConnectLineMax> bytes{};
  const ssize_t seen = recv(fd, bytes.data(), bytes.size(), MSG_PEEK);
  if (seen < 0 && (errno == EAGAIN || errno == EINTR)) return;
  const std::string_view piece(bytes.data(), seen > 0 ? static_cast<size_t>(seen) : 0);
  const size_t end = piece.find('\n');
  const size_t taken_bytes = end == std::string_view::npos ? piece.size() : end + 1;
  std::string& line = client->second->line;
  line += piece.substr(0, taken_bytes);
  const bool taken = recv(fd, bytes.data(), taken_bytes, 0) == static_cast<ssize_t>(taken_bytes);
  if (taken && !piece.empty() && end == std::string_view::npos &&
      line.size() < kVsockConnectLineMax)
    return;
  const auto port = line.size() <= kVsockConnectLineMax ? port_of(line) : std::nullopt;
  Fd asking = std::move(client->second->fd);
  loop_.forget(fd);
  clients_.erase(client);
  if (!taken || !port || !active_ || !begin(*port, std::move(asking))) return;
  if (send_waiting() == Progress::kMore) wake_.signal();
  interrupt_if_wanted();
}

bool Vsock::begin(uint32_t guest_port, Fd client) {
  // As many as there can be connections, and one: one of them is free.
  for (size_t tries = 0; tries <= kVsockConnectionsMax; ++tries) {
    const VsockPorts ports{.host = next_host_port_, .guest = guest_port};
    next_host_port_ = (next_host_port_ + 1) | kVsockFirstHostPort;
    if (connections_.contains(ports)) continue;
    auto connection = std::make_unique<Connection>();
    connection->ports = ports;
    connection->fd = std::move(client);
    connection->by_host = connection->owes_request = true;
    wait_for_turn(*connection);
    connections_[ports] = std::move(connection);
    return true;
  }
  return false;
}

// Those that only wait for a guest that may never answer make room.
bool Vsock::has_room() {
  if (connections_.size() + clients_.size() < kVsockConnectionsMax) return true;
  const auto idle = std::ranges::find_if(connections_, [](const auto& entry) {
    const Connection& connection = *entry.second;
    return !connection.fd || (!connection.open && has_hung_up(connection.fd));
  });
  if (idle == connections_.end()) return false;
  drop(idle->first, true);
  return true;
}

void Vsock::connection_ready(VsockPorts ports, uint32_t events) {
  const std::lock_guard lock(mutex_);
  if (was_reset_) close_all();
  const auto found = connections_.find(ports);
  if (found == connections_.end() || !active_) return;
  Connection& connection = *found->second;
  if ((events & EPOLLOUT) != 0 && !flush_to_host(connection)) {
    interrupt_if_wanted();
    return;
  }
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && connection.reads_host())
    connection.readable = true;
  wait_for_turn(connection);
  watch(connection);
  if (send_waiting() == Progress::kMore) wake_.signal();
  interrupt_if_wanted();
}

// What waits for the guest is not watched: a socket that has ended would say so for ever.
void Vsock::watch(Connection& connection) {
  const uint32_t wanted =
      (connection.reads_host() && !connection.readable ? uint32_t{EPOLLIN} : 0) |
      (connection.fd && connection.unsent_bytes() > 0 ? uint32_t{EPOLLOUT} : 0);
  if (wanted == connection.watched) return;
  const int fd = connection.fd.get();
  if (wanted == 0) {
    loop_.forget(fd);
  } else if (connection.watched == 0) {
    const VsockPorts ports = connection.ports;
    if (!loop_.watch(fd, wanted,
                     [this, ports](uint32_t events) { connection_ready(ports, events); }))
      return;
  } else if (!loop_.change(fd, wanted)) {
    return;
  }
  connection.watched = wanted;
}

void Vsock::drop(VsockPorts ports, bool tell_guest) {
  const auto found = connections_.find(ports);
  if (found == connections_.end()) return;
  Connection& connection = *found->second;
  if (connection.watched != 0) loop_.forget(connection.fd.get());
  if (connection.waiting) std::erase(waiting_, ports);
  if (tell_guest && !connection.owes_request)
    refusals_.push_back(header_of(connection, kVsockReset));
  connections_.erase(found);
}

// ---- Packets from the guest.

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

// ---- Packets to the guest.

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
    if (has_hung_up(connection.fd)) {
      // Nobody is left there. The entry stays until the guest has answered.
      connection.owes_shutdown |= kVsockNoReceive;
      if (std::exchange(connection.watched, 0) != 0) loop_.forget(connection.fd.get());
      connection.fd.reset();
    }
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
  active_->queues[kToGuest].push_used(active_->memory, buffer_.head, bytes);
  has_buffer_ = false;
}

}  // namespace hob::microvm
