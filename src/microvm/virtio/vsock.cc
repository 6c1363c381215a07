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
#include "microvm/virtio/vsock_connection.h"

namespace hob::microvm {
namespace {

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
  const auto address = unix_address(path);
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

Vsock::Counts Vsock::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
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
  ++counts_.notices[index];
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
  counts_.ended += connections_.size();
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
    ++counts_.begun;
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
  const bool hung_up = (events & (EPOLLHUP | EPOLLERR)) != 0;
  if (((events & EPOLLOUT) != 0 || hung_up) && !flush_to_host(connection)) {
    interrupt_if_wanted();
    return;
  }
  if (connection.reads_host())
    connection.readable |= (events & EPOLLIN) != 0 || hung_up;
  else if (hung_up)
    left_by_host(connection);
  wait_for_turn(connection);
  watch(connection);
  if (send_waiting() == Progress::kMore) wake_.signal();
  interrupt_if_wanted();
}

// What waits for the guest is not watched: a socket that has ended would say so for ever.
void Vsock::watch(Connection& connection) {
  const uint32_t wanted =
      (connection.reads_host() && !connection.readable ? uint32_t{EPOLLIN} : 0) |
      (connection.fd && connection.unsent_bytes() > 0 ? uint32_t{EPOLLOUT} : 0) |
      (connection.only_sends() ? uint32_t{EPOLLHUP} : 0);
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
  ++counts_.ended;
  if (tell_guest) ++counts_.reset;
}

}  // namespace hob::microvm
