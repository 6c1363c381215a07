// A socket device (virtio 1.2, section 5.10): streams between programs in the guest and unix
// sockets of the host, as Firecracker joins them.
//
// Host to guest: a program connects to `path` and sends "CONNECT <port>\n"; once somebody in the
// guest has accepted it reads "OK <host's port>\n", then the stream. Refused: the connection ends.
// Guest to host (CID 2, port P): we connect to `path`_P.
//
// A connection has 64 KiB of buffer towards the host, and sends the guest as much as that offers
// room for: who does not read stops who writes, and nobody else. A guest that breaks the rules of a
// connection loses it. All on the loop, but for what the transport calls.
#pragma once

#include <array>
#include <boost/describe.hpp>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "microvm/devices/event.h"
#include "microvm/loop.h"
#include "microvm/virtio/device.h"
#include "microvm/virtio/vsock_packet.h"

namespace hob::microvm {

// Packets of one turn on the loop: then others' turn.
inline constexpr int kVsockTurnPackets = 128;
// Refusals that wait for the guest to offer buffers; beyond, its own packets wait.
inline constexpr size_t kVsockRefusalsMax = 256;
inline constexpr size_t kVsockConnectLineMax = 32;  // "CONNECT <port>\n"

// The socket at `path` that clients connect to; it is removed with this.
class VsockListener {
 public:
  // kExists: the path is there already.
  static Result<VsockListener> bind(const std::string& path);
  VsockListener(VsockListener&&) noexcept = default;
  VsockListener& operator=(VsockListener&&) = delete;
  ~VsockListener();
  const std::string& path() const { return path_; }
  const Fd& fd() const { return fd_; }

 private:
  VsockListener(Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  Fd fd_;
  std::string path_;
};

// For snapshots.
struct VsockState {
  uint32_t next_host_port = kVsockFirstHostPort;
};
BOOST_DESCRIBE_STRUCT(VsockState, (), (next_host_port))

class Vsock final : public VirtioDevice {
 public:
  // `listener`: bound to `path`, non-blocking. The loop must outlive the device.
  static Result<std::unique_ptr<Vsock>> create(uint64_t guest_cid, Fd listener, std::string path,
                                               Loop& loop);
  ~Vsock() override;

  uint32_t type() const override { return 19; }
  uint64_t features() const override { return kFeatureVersion1 | kFeatureEventIndex; }
  std::span<const uint16_t> queue_sizes() const override { return kQueueSizes; }
  void read_configuration(uint64_t offset, std::span<std::byte> data) override;
  void write_configuration(uint64_t, std::span<const std::byte>) override {}
  void activate(const Active& active) override;
  Progress notified(size_t index) override;
  void reset() override;

  // Connections are not kept: after a restore the driver is told that all are gone (5.10.6.7).
  Result<std::string> save() override;
  Result<void> restore(std::string_view state) override;

  size_t connections() const;
  // Received: by the guest.
  struct Counts {
    uint64_t received_packets = 0, received_bytes = 0, sent_packets = 0, sent_bytes = 0;
    uint64_t begun = 0, ended = 0, reset = 0;  // connections; those reset among the ended
    uint64_t notices[3] = {};                  // by queue
  };
  Counts counts() const;

 private:
  struct Connection;
  struct Client;
  static constexpr std::array<uint16_t, 3> kQueueSizes = {kQueueSizeMax, kQueueSizeMax,
                                                          kQueueSizeMax};
  enum : size_t { kToGuest, kFromGuest, kEvents };
  // What came of an attempt to send a packet.
  enum class Sent { kYes, kNothing, kNoBuffer };

  Vsock(uint64_t guest_cid, Fd listener, std::string path, Loop& loop, Event wake);

  // From the loop, outside the transport's lock.
  void accept_clients();
  void client_ready(int fd);
  void connection_ready(VsockPorts ports, uint32_t events);
  void woken();
  void interrupt_if_wanted();
  void tell_restored();

  // With the lock held.
  Progress take_packets();
  void take(const VsockHeader& header, const Chain& chain);
  void take_request(const VsockHeader& header);
  void take_data(Connection& connection, const VsockHeader& header, const Chain& chain);
  void take_shutdown(Connection& connection, uint32_t flags);
  void established(Connection& connection);
  void refuse(const VsockHeader& header);
  bool begin(uint32_t guest_port, Fd client);
  bool has_room();
  // Sends what waits, connections in turn. kMore: buffers and packets are left.
  Progress send_waiting();
  Sent send_next(Connection& connection);
  Sent send_data(Connection& connection);
  Sent send_refusal();
  Sent send_packet(const VsockHeader& header);
  VsockHeader header_of(const Connection& connection, uint16_t operation) const;
  bool take_buffer();
  void use_buffer(uint32_t bytes);
  void wait_for_turn(Connection& connection);
  bool flush_to_host(Connection& connection);
  void watch(Connection& connection);
  // Nobody is left at the host's side.
  void left_by_host(Connection& connection);
  void drop(VsockPorts ports, bool tell_guest);
  void close_all();

  const uint64_t guest_cid_;
  const Fd listener_;
  const std::string path_;
  Loop& loop_;
  Event wake_;  // the loop shall go on with what another thread, or the last turn, left
  mutable std::mutex mutex_;
  std::optional<Active> active_;
  bool was_reset_ = false;  // connections of before are to be closed, on the loop
  std::map<VsockPorts, std::unique_ptr<Connection>> connections_;
  std::map<int, std::unique_ptr<Client>> clients_;  // that have not said which port yet
  std::deque<VsockPorts> waiting_;                  // have something to send; each once
  std::deque<VsockHeader> refusals_;
  uint32_t next_host_port_ = kVsockFirstHostPort;
  Chain buffer_;  // the guest's next empty one, where has_buffer_
  bool has_buffer_ = false;
  bool restored_ = false;  // and the driver was not told yet
  Chain chain_;
  std::vector<iovec> vectors_;
  Counts counts_;
};

}  // namespace hob::microvm
