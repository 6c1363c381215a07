#include "microvm/devices/console.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "microvm/devices/serial.h"

namespace hob::microvm {
namespace {

constexpr uint64_t kData = 0;
constexpr uint64_t kInterruptEnable = 1;
constexpr uint64_t kLineStatus = 5;

uint8_t read_register(Serial& serial, uint64_t offset) {
  std::byte value{};
  serial.read(offset, std::span(&value, 1));
  return std::to_integer<uint8_t>(value);
}

TEST(Console, WhatIsTypedIsReadByTheGuestInItsTime) {
  auto loop = *Loop::create();
  int pair[2];
  ASSERT_EQ(pipe2(pair, O_CLOEXEC | O_NONBLOCK), 0);
  const Fd reader(pair[0]);
  Fd writer(pair[1]);
  auto console = *Console::create(*loop, {.input = reader.get()});
  Event interrupt = *Event::create();
  Serial serial(
      interrupt, [](std::byte) {}, [&] { console->has_room(); });
  std::string typed;
  for (size_t i = 0; i < 3 * kSerialInputBytesMax; ++i) typed += static_cast<char>('a' + i % 26);
  ASSERT_EQ(write(writer.get(), typed.data(), typed.size()), static_cast<ssize_t>(typed.size()));
  std::byte enable{1};
  serial.write(kInterruptEnable, std::span(&enable, 1));
  std::string read;
  console->read_into([&](std::span<const std::byte> bytes) { return serial.type(bytes); });
  // The guest reads one byte at each turn of the loop.
  const Event turn = *Event::create();
  turn.signal();
  ASSERT_TRUE(loop->watch(turn.fd(), EPOLLIN, [&](uint32_t) {
    if ((read_register(serial, kLineStatus) & 1) != 0)
      read += static_cast<char>(read_register(serial, kData));
    if (read.size() == typed.size()) loop->stop();
  }));
  loop->run();
  EXPECT_EQ(read, typed);
  EXPECT_TRUE(interrupt.take());
}

TEST(Console, OutputOverItsLimitIsDropped) {
  static MonotonicTime now;
  now = MonotonicTime(std::chrono::seconds(1));
  auto loop = *Loop::create();
  int pair[2];
  ASSERT_EQ(pipe2(pair, O_CLOEXEC | O_NONBLOCK), 0);
  const Fd reader(pair[0]);
  const Fd writer(pair[1]);
  auto console = *Console::create(*loop, {.output = writer.get(),
                                          .limit = TokenBucketOptions{.size = 3, .refill_ms = 30},
                                          .clock = [] { return now; }});
  const auto say = [&](std::string_view text) {
    for (const char c : text) console->write(static_cast<std::byte>(c));
    std::string read(16, ' ');
    const ssize_t got = ::read(reader.get(), read.data(), read.size());
    read.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return read;
  };
  EXPECT_EQ(say("abcde"), "abc");
  EXPECT_EQ(say("f"), "");
  now += std::chrono::milliseconds(10);
  EXPECT_EQ(say("gh"), "g");
}

TEST(Console, AnInputThatEndsOrIsAFileIsLeftAlone) {
  auto loop = *Loop::create();
  const Fd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
  auto of_file = *Console::create(*loop, {.input = file.get()});
  of_file->read_into([](std::span<const std::byte> bytes) { return bytes.size(); });
  int pair[2];
  ASSERT_EQ(pipe2(pair, O_CLOEXEC | O_NONBLOCK), 0);
  const Fd reader(pair[0]);
  close(pair[1]);
  auto of_pipe = *Console::create(*loop, {.input = reader.get()});
  of_pipe->read_into([](std::span<const std::byte> bytes) { return bytes.size(); });
  const Event turn = *Event::create();
  turn.signal();
  int turns = 0;
  ASSERT_TRUE(loop->watch(turn.fd(), EPOLLIN, [&](uint32_t) {
    if (++turns == 10) loop->stop();
  }));
  loop->run();
}

}  // namespace
}  // namespace hob::microvm
