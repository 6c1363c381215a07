#include "microvm/virtio/vsock.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <optional>

#include "microvm/testing.h"

namespace hob::microvm {
namespace {

using testing::Driver;
using testing::memory_of;
constexpr uint64_t kGuestCid = 3;
constexpr GuestAddress kBuffers = 0x20000;  // to the guest, 16 KiB each
constexpr uint32_t kBufferBytes = 0x4000;
constexpr GuestAddress kPacket = 0x60000;  // from the guest

struct Packet {
  VsockHeader header{};
  std::string data{};
};

// A guest's driver: it offers eight buffers, sends packets, reads what came.
class VsockTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/hob-vsock-test-XXXXXX";
    folder_ = mkdtemp(name);
    path_ = folder_ + "/v";
    auto loop = Loop::create();
    ASSERT_TRUE(loop);
    loop_ = *std::move(loop);
    auto listener = VsockListener::bind(path_);
    ASSERT_TRUE(listener) << listener.error().message;
    listener_.emplace(*std::move(listener));
    auto vsock = Vsock::create(kGuestCid, Fd(dup(listener_->fd().get())), path_, *loop_);
    ASSERT_TRUE(vsock) << vsock.error().message;
    vsock_ = *std::move(vsock);
    for (Queue& queue : queues_) ASSERT_TRUE(queue.start(memory_, false));
    vsock_->activate(
        {.memory = memory_, .queues = queues_, .interrupt = interrupts_, .features = 0});
    for (uint16_t i = 0; i < Driver::kSize; ++i)
      receive_.descriptor(i, kBuffers + i * kBufferBytes, kBufferBytes, Driver::kWrite);
  }
  void TearDown() override {
    vsock_.reset();
    listener_.reset();
    EXPECT_EQ(std::system(("rm -r " + folder_).c_str()), 0);
  }

  void offer(int buffers) {
    for (int i = 0; i < buffers; ++i)
      receive_.offer(static_cast<uint16_t>(offered_++ % Driver::kSize));
    vsock_->notified(0);
  }
  void refill() { offer(Driver::kSize - (offered_ - seen_)); }
  void turns() {
    for (int i = 0; i < 8; ++i) loop_->turn(0);
  }
  // The next packet that the guest got.
  std::optional<Packet> next() {
    turns();
    if (receive_.used() == seen_) return std::nullopt;
    const GuestAddress at = kBuffers + seen_ % Driver::kSize * kBufferBytes;
    ++seen_;
    Packet packet{.header = *memory_.read<VsockHeader>(at)};
    packet.data = testing::get(memory_, at + sizeof(VsockHeader), packet.header.bytes);
    return packet;
  }
  void send(uint16_t operation, VsockPorts ports, const std::string& data = "", uint32_t flags = 0,
            uint32_t buffer = 256 << 10, uint32_t forwarded = 0) {
    const VsockHeader header{.from_cid = kGuestCid,
                             .to_cid = kVsockHostCid,
                             .from_port = ports.guest,
                             .to_port = ports.host,
                             .bytes = static_cast<uint32_t>(data.size()),
                             .type = kVsockStream,
                             .operation = operation,
                             .flags = flags,
                             .buffer_bytes = buffer,
                             .forwarded_bytes = forwarded};
    send_raw(header, data);
  }
  void send_raw(const VsockHeader& header, const std::string& data) {
    EXPECT_TRUE(memory_.write(kPacket, header));
    testing::put(memory_, kPacket + sizeof header, data);
    transmit_.descriptor(0, kPacket, static_cast<uint32_t>(sizeof header + data.size()), 0);
    transmit_.offer(0);
    vsock_->notified(1);
  }
  Fd client(const std::string& line) {
    Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    say(fd, line);
    return fd;
  }
  static void say(const Fd& fd, const std::string& text) {
    EXPECT_EQ(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  // What there is to read; "<end>" behind it where the other side has ended.
  std::string heard(const Fd& fd) {
    turns();
    std::string text;
    char bytes[4096];
    ssize_t got = 0;
    while ((got = recv(fd.get(), bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
      text.append(bytes, static_cast<size_t>(got));
    return got == 0 || errno == ECONNRESET ? text + "<end>" : text;
  }
  // A connection from the host, accepted by the guest.
  Fd connected(uint32_t port, VsockPorts& ports) {
    Fd fd = client("CONNECT " + std::to_string(port) + "\n");
    const auto request = next();
    EXPECT_TRUE(request && request->header.operation == kVsockRequest);
    ports = {.host = request->header.from_port, .guest = request->header.to_port};
    send(kVsockResponse, ports);
    EXPECT_EQ(heard(fd), "OK " + std::to_string(ports.host) + "\n");
    return fd;
  }

  // Sends to a host that does not read until its socket's buffer is full, then ours; answers how
  // much.
  uint32_t fill(VsockPorts ports) {
    const std::string piece(8'000, 'x');
    uint32_t sent = 0;
    uint32_t forwarded = 0;
    while (sent - forwarded + piece.size() <= kVsockBufferBytes && sent < 100u << 20) {
      send(kVsockData, ports, piece);
      sent += static_cast<uint32_t>(piece.size());
      if (const auto told = next()) {
        EXPECT_EQ(told->header.operation, kVsockCreditUpdate);
        forwarded = told->header.forwarded_bytes;
        offer(1);
      }
    }
    EXPECT_LT(sent, 100u << 20);
    return sent;
  }

  std::string folder_, path_;
  GuestMemory memory_ = memory_of(0x80000);
  std::vector<Queue> queues_{Queue(kQueueSizeMax), Queue(kQueueSizeMax), Queue(kQueueSizeMax)};
  Driver receive_{memory_, queues_[0], 0x1000};
  Driver transmit_{memory_, queues_[1], 0x5000};
  Driver events_{memory_, queues_[2], 0x9000};
  testing::Interrupts interrupts_;
  std::unique_ptr<Loop> loop_;
  std::optional<VsockListener> listener_;
  std::unique_ptr<Vsock> vsock_;
  int offered_ = 0;
  uint16_t seen_ = 0;
};

TEST_F(VsockTest, AClientOfTheHostReachesAPortOfTheGuest) {
  offer(8);
  const Fd fd = client("connect 52\nearly");
  const auto request = next();
  ASSERT_TRUE(request);
  EXPECT_EQ(request->header.operation, kVsockRequest);
  EXPECT_EQ(request->header.from_cid, kVsockHostCid);
  EXPECT_EQ(request->header.to_cid, kGuestCid);
  EXPECT_EQ(request->header.to_port, 52u);
  EXPECT_EQ(request->header.from_port, kVsockFirstHostPort);
  EXPECT_EQ(request->header.buffer_bytes, kVsockBufferBytes);
  const VsockPorts ports{.host = kVsockFirstHostPort, .guest = 52};
  send(kVsockResponse, ports);
  EXPECT_EQ(heard(fd), "OK 1073741824\n");
  const auto early = next();
  ASSERT_TRUE(early);
  EXPECT_EQ(early->header.operation, kVsockData);
  EXPECT_EQ(early->data, "early");
  send(kVsockData, ports, "answer");
  EXPECT_EQ(heard(fd), "answer");
  say(fd, "more");
  EXPECT_EQ(next()->data, "more");
  EXPECT_GT(interrupts_.used, 0);
}

TEST_F(VsockTest, TheGuestReachesAListenerOfTheHost) {
  offer(8);
  auto listening = VsockListener::bind(path_ + "_1024");
  ASSERT_TRUE(listening);
  const VsockPorts ports{.host = 1024, .guest = 4000};
  send(kVsockRequest, ports);
  EXPECT_EQ(next()->header.operation, kVsockResponse);
  const Fd accepted(accept4(listening->fd().get(), nullptr, nullptr, SOCK_NONBLOCK));
  ASSERT_TRUE(accepted);
  send(kVsockData, ports, "hello");
  EXPECT_EQ(heard(accepted), "hello");
  send(kVsockShutdown, ports, "", kVsockNoReceive | kVsockNoSend);
  EXPECT_EQ(heard(accepted), "<end>");
  EXPECT_EQ(next()->header.operation, kVsockReset);
  EXPECT_EQ(vsock_->connections(), 0u);
}

TEST_F(VsockTest, WhereNobodyListensTheGuestIsRefused) {
  offer(8);
  send(kVsockRequest, {.host = 1, .guest = 2});
  const auto answer = next();
  EXPECT_EQ(answer->header.operation, kVsockReset);
  EXPECT_EQ(answer->header.from_port, 1u);
  EXPECT_EQ(answer->header.to_port, 2u);
  // Another kind of socket, and another machine.
  VsockHeader header{.from_cid = kGuestCid, .to_cid = kVsockHostCid, .type = 2, .operation = 1};
  send_raw(header, "");
  EXPECT_EQ(next()->header.type, 2);
  header = {.from_cid = kGuestCid, .to_cid = 77, .type = kVsockStream, .operation = 1};
  send_raw(header, "");
  EXPECT_EQ(next()->header.from_cid, 77u);
  // A refusal of a refusal would never end; one that is not from this guest gets nothing.
  send(kVsockReset, {.host = 1, .guest = 2});
  header.from_cid = 99;
  send_raw(header, "");
  EXPECT_FALSE(next());
}

TEST_F(VsockTest, ClientsThatAskWronglyAreLetGo) {
  offer(8);
  for (const char* line :
       {"CONNECT\n", "CONNECT x\n", "CONNECT 4294967296\n", "CONNECT  5\n", "HELLO 5\n",
        "CONNECT 5 \n", "CONNECT 0000000000000000000000000000000005\n", "\n"}) {
    const Fd fd = client(line);
    EXPECT_EQ(heard(fd), "<end>") << line;
  }
  const Fd slow = client("CONN");
  EXPECT_EQ(heard(slow), "");
  say(slow, "ECT 5\n");
  EXPECT_EQ(next()->header.to_port, 5u);
  EXPECT_EQ(vsock_->connections(), 1u);
}

TEST_F(VsockTest, ARefusedClientReadsTheEnd) {
  offer(8);
  const Fd fd = client("CONNECT 52\n");
  const auto request = next();
  send(kVsockReset, {.host = request->header.from_port, .guest = 52});
  EXPECT_EQ(heard(fd), "<end>");
  EXPECT_EQ(vsock_->connections(), 0u);
}

TEST_F(VsockTest, TheGuestGetsNoMoreThanItHasRoomFor) {
  offer(8);
  VsockPorts ports;
  const Fd fd = connected(52, ports);
  send(kVsockCreditUpdate, ports, "", 0, 10, 0);
  say(fd, "0123456789abcdef");
  EXPECT_EQ(next()->data, "0123456789");
  EXPECT_EQ(next()->header.operation, kVsockCreditRequest);
  EXPECT_FALSE(next()) << "asked once";
  send(kVsockCreditUpdate, ports, "", 0, 10, 4);
  EXPECT_EQ(next()->data, "abcd");
  EXPECT_EQ(next()->header.operation, kVsockCreditRequest);
  // A count that says more than was sent offers nothing.
  send(kVsockCreditUpdate, ports, "", 0, 10, 400);
  EXPECT_EQ(next()->header.operation, kVsockCreditRequest);
  send(kVsockCreditUpdate, ports, "", 0, 10, 14);
  EXPECT_EQ(next()->data, "ef");
}

TEST_F(VsockTest, WithoutBuffersTheHostWaits) {
  offer(3);
  VsockPorts ports;
  const Fd fd = connected(52, ports);
  say(fd, "a");
  EXPECT_EQ(next()->data, "a");
  say(fd, std::string(40'000, 'b'));
  EXPECT_EQ(next()->data, std::string(kBufferBytes - sizeof(VsockHeader), 'b'));
  EXPECT_FALSE(next());
  offer(2);
  EXPECT_EQ(next()->data.size(), kBufferBytes - sizeof(VsockHeader));
  EXPECT_EQ(next()->data.size(), 40'000 - 2 * (kBufferBytes - sizeof(VsockHeader)));
}

TEST_F(VsockTest, AHostThatDoesNotReadStopsItsGuestAlone) {
  offer(8);
  VsockPorts ports;
  const Fd fd = connected(52, ports);
  const uint32_t sent = fill(ports);
  EXPECT_FALSE(next());
  std::string all = heard(fd);
  for (std::string more; !(more = heard(fd)).empty();) all += more;
  EXPECT_EQ(all.size(), sent);
  const auto told = next();
  ASSERT_TRUE(told);
  EXPECT_EQ(told->header.operation, kVsockCreditUpdate);
  EXPECT_GE(told->header.forwarded_bytes, sent - kVsockBufferBytes / 2);
}

TEST_F(VsockTest, WhatTheHostWillNotReadAnyMoreKeepsNobodyBusy) {
  offer(8);
  VsockPorts ports;
  const Fd fd = connected(52, ports);
  fill(ports);
  shutdown(fd.get(), SHUT_RDWR);
  turns();
  EXPECT_EQ(vsock_->connections(), 0u) << "what waits for it has no way any more";
}

TEST_F(VsockTest, AGuestThatSendsBeyondItsRoomLosesTheConnection) {
  offer(8);
  VsockPorts ports;
  const Fd fd = connected(52, ports);
  const std::string piece(16'000, 'x');
  std::optional<Packet> answer;
  for (int i = 0; i < 10'000 && !answer; ++i) {
    send(kVsockData, ports, piece);
    answer = next();
    if (answer && answer->header.operation == kVsockCreditUpdate) {
      answer.reset();
      offer(1);
    }
  }
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->header.operation, kVsockReset);
  EXPECT_EQ(vsock_->connections(), 0u);
}

TEST_F(VsockTest, TheEndOfEachDirectionIsTold) {
  offer(8);
  VsockPorts ports;
  const Fd half = connected(52, ports);
  say(half, "last");
  shutdown(half.get(), SHUT_WR);
  EXPECT_EQ(next()->data, "last");
  const auto told = next();
  EXPECT_EQ(told->header.operation, kVsockShutdown);
  EXPECT_EQ(told->header.flags, kVsockNoSend);
  send(kVsockData, ports, "answer");
  EXPECT_EQ(heard(half), "answer");
  send(kVsockShutdown, ports, "", kVsockNoSend);
  EXPECT_EQ(heard(half), "<end>");
  send(kVsockShutdown, ports, "", kVsockNoReceive);

  EXPECT_EQ(next()->header.operation, kVsockReset);
  refill();
  VsockPorts whole;
  {
    const Fd fd = connected(53, whole);
    say(fd, "last");
  }
  EXPECT_EQ(next()->data, "last");
  EXPECT_EQ(next()->header.flags, kVsockNoSend | kVsockNoReceive);
  send(kVsockReset, whole);
  EXPECT_EQ(vsock_->connections(), 0u);
}

TEST_F(VsockTest, AHostThatLeavesAHalfClosedConnectionIsNoticedAtOnce) {
  offer(8);
  VsockPorts ports;
  Fd fd = connected(52, ports);
  shutdown(fd.get(), SHUT_WR);
  EXPECT_EQ(next()->header.flags, kVsockNoSend);
  EXPECT_FALSE(next());
  fd.reset();  // the guest sends nothing by which it could learn of it
  const auto told = next();
  ASSERT_TRUE(told);
  EXPECT_EQ(told->header.operation, kVsockShutdown);
  EXPECT_EQ(told->header.flags, kVsockNoSend | kVsockNoReceive);
  send(kVsockReset, ports);
  EXPECT_EQ(vsock_->connections(), 0u);

  // Likewise where it is the guest that hears no more.
  fd = connected(53, ports);
  send(kVsockShutdown, ports, "", kVsockNoReceive);
  EXPECT_FALSE(next());
  fd.reset();
  EXPECT_EQ(next()->header.flags, kVsockNoSend | kVsockNoReceive);
}

TEST_F(VsockTest, PacketsThatBreakTheRulesResetTheirConnection) {
  struct Case {
    const char* name;
    uint16_t operation;
    uint32_t flags;
  };
  for (const Case& c : std::initializer_list<Case>{{"a request again", kVsockRequest, 0},
                                                   {"an answer again", kVsockResponse, 0},
                                                   {"no operation", 0, 0},
                                                   {"an unknown one", 77, 0}}) {
    refill();
    VsockPorts ports;
    const Fd fd = connected(52, ports);
    send(c.operation, ports, "", c.flags);
    const auto answer = next();
    ASSERT_TRUE(answer) << c.name;
    EXPECT_EQ(answer->header.operation, kVsockReset) << c.name;
    EXPECT_EQ(heard(fd), "<end>") << c.name;
  }
}

TEST_F(VsockTest, LengthsBeyondThePacketResetTheConnection) {
  offer(8);
  VsockPorts ports;
  const Fd fd = connected(52, ports);
  const VsockHeader header{.from_cid = kGuestCid,
                           .to_cid = kVsockHostCid,
                           .from_port = ports.guest,
                           .to_port = ports.host,
                           .bytes = 6,
                           .type = kVsockStream,
                           .operation = kVsockData};
  send_raw(header, "short");
  EXPECT_EQ(next()->header.operation, kVsockReset);
  EXPECT_EQ(heard(fd), "<end>");
}

TEST_F(VsockTest, AShortHeaderBreaksTheDevice) {
  offer(8);
  transmit_.descriptor(0, kPacket, 43, 0);
  transmit_.offer(0);
  vsock_->notified(1);
  EXPECT_EQ(interrupts_.broken, 1);
  vsock_->notified(1);
  EXPECT_EQ(interrupts_.broken, 1);
}

TEST_F(VsockTest, AGuestThatTakesNoRefusalsIsNotListenedTo) {
  for (size_t i = 0; i < 2 * kVsockRefusalsMax; ++i)
    send(kVsockRequest, {.host = 1, .guest = static_cast<uint32_t>(i)});
  EXPECT_LT(transmit_.used(), kVsockRefusalsMax + kVsockTurnPackets);
}

TEST_F(VsockTest, AResetEndsAllConnections) {
  offer(8);
  VsockPorts ports;
  const Fd fd = connected(52, ports);
  const Fd asking = client("CONN");
  turns();
  vsock_->reset();
  EXPECT_EQ(heard(fd), "<end>");
  EXPECT_EQ(heard(asking), "<end>");
  EXPECT_EQ(vsock_->connections(), 0u);
  EXPECT_EQ(heard(client("CONNECT 52\n")), "<end>") << "nobody drives the device";
}

TEST_F(VsockTest, AfterARestoreTheDriverIsToldThatAllConnectionsAreGone) {
  offer(8);
  VsockPorts before;
  const Fd fd = connected(52, before);
  // A buffer that was taken and is not used yet: the snapshot's queue still offers it.
  const uint16_t taken = queues_[0].save().next_available;
  const auto state = vsock_->save();
  ASSERT_TRUE(state);
  EXPECT_LE(queues_[0].save().next_available, taken);
  EXPECT_EQ(queues_[0].save().next_available, receive_.used());

  auto restored = Vsock::create(kGuestCid, Fd(dup(listener_->fd().get())), path_, *loop_);
  ASSERT_TRUE(restored);
  vsock_ = *std::move(restored);
  ASSERT_TRUE(vsock_->restore(*state));
  vsock_->activate({.memory = memory_, .queues = queues_, .interrupt = interrupts_, .features = 0});
  constexpr GuestAddress kEvent = 0x70000;
  ASSERT_TRUE(memory_.write(kEvent, uint32_t{0xffffffff}));
  events_.descriptor(0, kEvent, 4, Driver::kWrite);
  vsock_->notified(2);
  EXPECT_EQ(events_.used(), 0) << "the driver has offered no buffer yet";
  events_.offer(0);
  vsock_->notified(2);
  vsock_->notified(2);
  EXPECT_EQ(events_.used(), 1) << "once";
  EXPECT_EQ(*memory_.read<uint32_t>(kEvent), 0u) << "transport reset, 5.10.6.7";
  // Ports of before are not given again.
  VsockPorts after;
  seen_ = receive_.used();
  refill();
  const Fd again = connected(52, after);
  EXPECT_NE(after.host, before.host);
  EXPECT_FALSE(vsock_->restore("x"));
}

TEST_F(VsockTest, ThePathIsTakenOnceAndGivenBack) {
  EXPECT_FALSE(VsockListener::bind(path_));
  EXPECT_FALSE(VsockListener::bind(""));
  EXPECT_FALSE(VsockListener::bind(std::string(200, 'x')));
  listener_.reset();
  EXPECT_NE(access(path_.c_str(), F_OK), 0);
}

TEST_F(VsockTest, TheGuestReadsItsNumber) {
  uint64_t cid = 0;
  vsock_->read_configuration(0, std::as_writable_bytes(std::span(&cid, 1)));
  EXPECT_EQ(cid, kGuestCid);
}

}  // namespace
}  // namespace hob::microvm
