#include "guest/relay.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <thread>

namespace hob::guest {
namespace {

// A shell's line, relayed; the test holds the other side of its connection.
class RelayTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ::signal(SIGPIPE, SIG_IGN); }
  void start(const char* line) {
    int pipes[3][2];
    for (auto& pair : pipes) ASSERT_EQ(::pipe2(pair, O_CLOEXEC), 0);
    const pid_t process = ::fork();
    if (process == 0) {
      ::dup2(pipes[0][0], 0);
      ::dup2(pipes[1][1], 1);
      ::dup2(pipes[2][1], 2);
      ::execl("/bin/sh", "sh", "-c", line, nullptr);
      ::_exit(127);
    }
    for (const int end : {pipes[0][0], pipes[1][1], pipes[2][1]}) ::close(end);
    int sockets[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    asker_ = Fd(sockets[0]);
    relay_ = std::thread(
        [connection = Fd(sockets[1]), process,
         streams = Streams{
             .in = Fd(pipes[0][1]), .out = Fd(pipes[1][0]), .errors = Fd(pipes[2][0])}]() mutable {
          relay(0, connection, FrameReader(kOrderBytesMax), std::move(streams), process);
        });
  }
  void TearDown() override {
    if (relay_.joinable()) relay_.join();
  }
  void send(FrameKind kind, std::string_view body) {
    std::string bytes;
    append_frame(bytes, kind, 0, body);
    ASSERT_EQ(::send(asker_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  // All that comes; the exit code that was reported, -1: none.
  int read_to_end() {
    FrameReader reader(kReportBytesMax);
    char bytes[16384];
    for (ssize_t got = 0; (got = ::recv(asker_.get(), bytes, sizeof bytes, 0)) > 0;) {
      reader.feed({bytes, static_cast<size_t>(got)});
      for (auto frame = reader.next(); frame && *frame; frame = reader.next()) {
        if ((*frame)->kind == FrameKind::kOutput) output_ += (*frame)->body;
        if ((*frame)->kind == FrameKind::kErrors) errors_ += (*frame)->body;
        if ((*frame)->kind == FrameKind::kRecord) return decode_report((*frame)->body)->exit_code;
      }
    }
    return -1;
  }

  Fd asker_;
  std::thread relay_;
  std::string output_, errors_;
};

TEST_F(RelayTest, CarriesMuchInBothDirectionsAtOnce) {
  constexpr int kPieces = 128;
  start("tee /dev/stderr");
  std::thread typing([&] {
    for (int i = 0; i < kPieces; ++i)
      send(FrameKind::kInput, std::string(kDataBytesMax, static_cast<char>('a' + i % 26)));
    send(FrameKind::kInput, "");
  });
  EXPECT_EQ(read_to_end(), 0);
  typing.join();
  EXPECT_EQ(output_.size(), kPieces * kDataBytesMax);
  EXPECT_EQ(output_, errors_);
}

TEST_F(RelayTest, ASignalReachesACommandThatDoesNotReadItsInput) {
  start("trap 'exit 7' TERM; echo ready; while true; do sleep 0.01; done");
  send(FrameKind::kInput, std::string(kDataBytesMax, 'x'));
  send(FrameKind::kInput, std::string(kDataBytesMax, 'x'));
  send(FrameKind::kInput, std::string(kDataBytesMax, 'x'));
  char byte = 0;
  ASSERT_EQ(::recv(asker_.get(), &byte, 1, MSG_PEEK), 1) << "it is ready";
  send(FrameKind::kRecord, encode(Order{.signal = Signal{.number = SIGTERM}}));
  EXPECT_EQ(read_to_end(), 7);
  EXPECT_EQ(output_, "ready\n");
}

TEST_F(RelayTest, ACommandThatClosedItsOutputIsHeardOfWhenItEnds) {
  start("exec >&- 2>&-; read line; exit 5");
  send(FrameKind::kInput, "go\n");
  EXPECT_EQ(read_to_end(), 5);
}

TEST_F(RelayTest, WhoGoesTakesTheCommandAlong) {
  start("while true; do echo more; done");  // more than anybody reads
  char byte = 0;
  ASSERT_EQ(::recv(asker_.get(), &byte, 1, MSG_PEEK), 1);
  asker_.reset();
  relay_.join();  // it waited for the command's end
}

TEST_F(RelayTest, WhatIsNoFrameEndsIt) {
  start("cat");
  ASSERT_EQ(::send(asker_.get(), "nonsense", 8, MSG_NOSIGNAL), 8);
  EXPECT_EQ(read_to_end(), -1);
}

}  // namespace
}  // namespace hob::guest
