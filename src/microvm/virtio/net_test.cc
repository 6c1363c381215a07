#include "microvm/virtio/net.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "microvm/testing.h"

namespace hob::microvm {
namespace {

using namespace std::chrono_literals;
using testing::Driver;
using testing::memory_of;

MonotonicTime now{1000s};
MonotonicTime clock_now() { return now; }
constexpr uint64_t kMergeableFeature = net_feature::kMergeable;
constexpr uint64_t kLargeFeature = net_feature::kReceiveTso4;
constexpr GuestAddress kBuffers = 0x10000;
constexpr size_t kReceive = 0;
constexpr size_t kSend = 1;
constexpr size_t kTap = 0;
constexpr size_t kTimer = 1;

// The tap is one end of a pair of sockets that keep frames apart, `wire_` the other.
class NetTest : public ::testing::Test {
 protected:
  void make(NetOptions options, uint64_t features) {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    wire_ = Fd(pair[1]);
    options.clock = &clock_now;
    auto net = Net::create(Tap(Fd(pair[0])), std::move(options));
    ASSERT_TRUE(net);
    net_ = *std::move(net);
    ASSERT_TRUE(queues_[0].start(memory_, false) && queues_[1].start(memory_, false));
    net_->activate(
        {.memory = memory_, .queues = queues_, .interrupt = interrupts_, .features = features});
  }
  void from_wire(const std::string& payload) {
    const std::string frame = std::string(kNetHeaderBytes, '\0') + payload;
    ASSERT_EQ(write(wire_.get(), frame.data(), frame.size()), static_cast<ssize_t>(frame.size()));
  }
  // The frame without its header; empty: none.
  std::string to_wire() {
    std::string frame(kNetFrameBytesMax, '\0');
    const ssize_t got = read(wire_.get(), frame.data(), frame.size());
    return got < 0 ? "" : frame.substr(kNetHeaderBytes, static_cast<size_t>(got) - kNetHeaderBytes);
  }
  void offer_buffer(uint16_t index, uint32_t bytes) {
    receive_.descriptor(index, kBuffers + uint64_t{0x1000} * index, bytes, Driver::kWrite);
    receive_.offer(index);
  }
  void send(const std::string& payload) {
    testing::put(memory_, 0x30000, std::string(kNetHeaderBytes, '\0') + payload);
    send_.descriptor(0, 0x30000, static_cast<uint32_t>(kNetHeaderBytes + payload.size()), 0);
    send_.offer(0);
  }

  GuestMemory memory_ = memory_of(0x80000);
  std::vector<Queue> queues_{Queue(kQueueSizeMax), Queue(kQueueSizeMax)};
  Driver receive_{memory_, queues_[0], 0x1000};
  Driver send_{memory_, queues_[1], 0x4000};
  testing::Interrupts interrupts_;
  std::unique_ptr<Net> net_;
  Fd wire_;
};

std::string frame_of(size_t bytes, char filler = 'x') { return std::string(bytes, filler); }

TEST_F(NetTest, FramesGoBothWays) {
  make({}, 0);
  send(frame_of(60, 'a'));
  net_->notified(kSend);
  EXPECT_EQ(to_wire(), frame_of(60, 'a'));
  EXPECT_EQ(send_.used(), 1);
  offer_buffer(0, 2048);
  from_wire(frame_of(70, 'b'));
  net_->host_ready(kTap);
  ASSERT_EQ(receive_.used(), 1);
  EXPECT_EQ(receive_.used_bytes(0), kNetHeaderBytes + 70);
  EXPECT_EQ(testing::get(memory_, kBuffers + kNetHeaderBytes, 70), frame_of(70, 'b'));
  EXPECT_EQ(*memory_.read<uint16_t>(kBuffers + 10), 1);
  EXPECT_EQ(interrupts_.used, 2);
  EXPECT_EQ(net_->counts().received_frames, 1u);
  EXPECT_EQ(net_->counts().sent_frames, 1u);
}

TEST_F(NetTest, ALargeFrameLiesInSeveralBuffers) {
  make({}, kMergeableFeature | kLargeFeature);
  for (uint16_t i = 0; i < Driver::kSize; ++i) offer_buffer(i, 1024);
  std::string payload;
  for (size_t i = 0; i < 2500; ++i) payload += static_cast<char>('a' + i % 26);
  from_wire(payload);
  from_wire("second---------");
  net_->host_ready(kTap);
  ASSERT_EQ(receive_.used(), 3);
  EXPECT_EQ(*memory_.read<uint16_t>(kBuffers + 10), 3);
  EXPECT_EQ(receive_.used_bytes(0), 1024u);
  EXPECT_EQ(receive_.used_bytes(2), kNetHeaderBytes + 2500 - 2048);
  const std::string got =
      testing::get(memory_, kBuffers + kNetHeaderBytes, 1024 - kNetHeaderBytes) +
      testing::get(memory_, kBuffers + 0x1000, 1024) +
      testing::get(memory_, kBuffers + 0x2000, kNetHeaderBytes + 2500 - 2048);
  EXPECT_EQ(got, payload);
  // The next one may be as large: it waits for all that this queue holds.
  for (uint16_t i = 0; i < 3; ++i) offer_buffer(i, 1024);
  net_->notified(kReceive);
  ASSERT_EQ(receive_.used(), 4);
  EXPECT_EQ(testing::get(memory_, kBuffers + 0x3000 + kNetHeaderBytes, 6), "second");
  EXPECT_EQ(*memory_.read<uint16_t>(kBuffers + 0x3000 + 10), 1);
}

TEST_F(NetTest, FramesWaitForBuffers) {
  make({}, kMergeableFeature | kLargeFeature);
  offer_buffer(0, 2048);  // of eight: the driver has more to give
  from_wire(frame_of(100));
  net_->host_ready(kTap);
  EXPECT_EQ(receive_.used(), 0);
  EXPECT_EQ(net_->counts().no_receive_buffers, 1u);
  for (uint16_t i = 1; i < Driver::kSize; ++i) offer_buffer(i, 2048);
  net_->notified(kReceive);
  EXPECT_EQ(receive_.used(), 1);
}

TEST_F(NetTest, WhatDoesNotFitIsDropped) {
  make({}, kMergeableFeature);
  for (uint16_t i = 0; i < Driver::kSize; ++i) offer_buffer(i, 16);
  from_wire(frame_of(200, 'l'));
  from_wire("fits----------");
  net_->host_ready(kTap);
  EXPECT_EQ(net_->counts().receive_failures, 1u);
  ASSERT_EQ(receive_.used(), 2);
  EXPECT_EQ(testing::get(memory_, kBuffers + kNetHeaderBytes, 4), "fits");
}

TEST_F(NetTest, MalformedFramesAreDropped) {
  make({}, 0);
  send_.descriptor(0, 0x30000, kNetHeaderBytes + kEthernetHeaderBytes - 1, 0);
  send_.offer(0);
  send_.descriptor(1, 0x10000, kNetFrameBytesMax + 1, 0);
  send_.offer(1);
  send_.descriptor(2, 0x30000, 100, Driver::kWrite);
  send_.offer(2);
  net_->notified(kSend);
  EXPECT_EQ(send_.used(), 3);
  EXPECT_EQ(net_->counts().malformed, 3u);
  EXPECT_EQ(to_wire(), "");
}

TEST_F(NetTest, ABufferWithoutRoomForTheHeaderBreaksTheDevice) {
  make({}, 0);
  offer_buffer(0, kNetHeaderBytes - 1);
  from_wire(frame_of(60));
  net_->host_ready(kTap);
  EXPECT_EQ(interrupts_.broken, 1);
  EXPECT_EQ(receive_.used(), 0);
}

TEST_F(NetTest, AFullTapHoldsTheGuestBack) {
  make({}, 0);
  size_t sent = 0;
  while (net_->counts().send_waits == 0) {
    ASSERT_LT(sent, 100'000u);
    send(frame_of(1000, static_cast<char>('a' + sent % 26)));
    net_->notified(kSend);
    ++sent;
  }
  EXPECT_EQ(net_->counts().sent_frames, sent - 1);
  for (size_t i = 0; i + 1 < sent; ++i)
    ASSERT_EQ(to_wire(), frame_of(1000, static_cast<char>('a' + i % 26)));
  net_->host_ready(kTap);
  EXPECT_EQ(to_wire(), frame_of(1000, static_cast<char>('a' + (sent - 1) % 26)));
}

// Takes what begins with its letter, and gives it back.
class Echo final : public FrameResponder {
 public:
  explicit Echo(int& times) : times_(times) {}
  bool wants(std::span<const std::byte> head) const override { return head[0] == std::byte{'e'}; }
  void take(std::span<const std::byte> frame) override {
    frame_.assign(frame.begin(), frame.end());
    due_ = now + 1s;
  }
  size_t next(std::span<std::byte> frame) override {
    std::ranges::copy(frame_, frame.begin());
    return std::exchange(frame_, {}).size();
  }
  std::optional<MonotonicTime> deadline() const override { return due_; }
  void time_passed() override { ++times_; }

 private:
  int& times_;
  std::vector<std::byte> frame_;
  std::optional<MonotonicTime> due_;
};

TEST_F(NetTest, AResponderAnswersInTheTapsPlace) {
  int times = 0;
  make({.responder = std::make_unique<Echo>(times)}, kMergeableFeature);
  for (uint16_t i = 0; i < Driver::kSize; ++i) offer_buffer(i, 40);
  send(frame_of(100, 'e'));
  net_->notified(kSend);
  EXPECT_EQ(to_wire(), "");
  ASSERT_EQ(receive_.used(), 3);
  EXPECT_EQ(*memory_.read<uint16_t>(kBuffers + 10), 3);
  EXPECT_EQ(testing::get(memory_, kBuffers, kNetHeaderBytes),
            std::string("\0\0\0\0\0\0\0\0\0\0\3\0", 12));
  EXPECT_EQ(testing::get(memory_, kBuffers + kNetHeaderBytes, 28), frame_of(28, 'e'));
  EXPECT_EQ(testing::get(memory_, kBuffers + 0x2000, 32), frame_of(32, 'e'));
  send(frame_of(100, 't'));
  net_->notified(kSend);
  EXPECT_EQ(to_wire(), frame_of(100, 't'));
  net_->host_ready(2);
  EXPECT_EQ(times, 1);
  // The largest that it is given, and one more.
  send("e" + frame_of(kResponderFrameBytesMax));
  net_->notified(kSend);
  EXPECT_EQ(net_->counts().malformed, 1u);
}

TEST_F(NetTest, LimitsHoldEachDirectionBack) {
  const RateLimiterOptions two_a_second{
      .bandwidth = {}, .operations = TokenBucketOptions{.size = 2, .burst = 0, .refill_ms = 1000}};
  make({.receive = two_a_second, .send = two_a_second}, 0);
  for (int i = 0; i < 3; ++i) {
    send(frame_of(60));
    offer_buffer(static_cast<uint16_t>(i), 2048);
    from_wire(frame_of(60));
  }
  net_->notified(kSend);
  net_->host_ready(kTap);
  EXPECT_EQ(send_.used(), 2);
  EXPECT_EQ(receive_.used(), 2);
  now += 499ms;
  net_->host_ready(kTimer);
  EXPECT_EQ(send_.used(), 2);
  now += 1ms;
  net_->host_ready(kTimer);
  EXPECT_EQ(send_.used(), 3);
  EXPECT_EQ(receive_.used(), 3);
}

TEST_F(NetTest, ALimitTakenAwayLetsThemGo) {
  const RateLimiterOptions one_a_day{
      .bandwidth = {},
      .operations = TokenBucketOptions{.size = 1, .burst = 0, .refill_ms = 86'400'000}};
  make({.send = one_a_day}, 0);
  send(frame_of(60));
  send(frame_of(60));
  net_->notified(kSend);
  EXPECT_EQ(send_.used(), 1);
  net_->set_limits({.receive = {}, .send = {.bandwidth = {}, .operations = TokenBucketOptions{}}});
  net_->host_ready(kTimer);
  EXPECT_EQ(send_.used(), 2);
}

TEST_F(NetTest, TheConfigurationTellsAddressAndMtu) {
  make({.mac = MacAddress{2, 0, 0, 0, 0, 9}, .mtu = 1400}, 0);
  EXPECT_NE(net_->features() & net_feature::kMac, 0u);
  EXPECT_NE(net_->features() & net_feature::kMtu, 0u);
  std::array<std::byte, 12> bytes{};
  net_->read_configuration(0, bytes);
  EXPECT_EQ(bytes[0], std::byte{2});
  EXPECT_EQ(bytes[5], std::byte{9});
  EXPECT_EQ(std::to_integer<int>(bytes[10]) | std::to_integer<int>(bytes[11]) << 8, 1400);
  net_->read_configuration(UINT64_MAX - 4, bytes);
  send(frame_of(60));
  net_->notified(kSend);
  EXPECT_EQ(net_->counts().foreign_mac, 1u);
}

}  // namespace
}  // namespace hob::microvm
