// For tests of the agent: an edge that holds tasks awake, and time that passes when the test says
// so.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/async.h"
#include "base/time.h"
#include "link/link.h"

namespace hob::host::testing {

// A test that has not got what it waits for by then has failed.
inline constexpr Duration kPatience{10'000};

// An edge's end of a real link to the agent: holds and releases, and remembers the answers.
class SimulatedEdge {
 public:
  SimulatedEdge(const Executor& executor, std::string socket, EdgeId id)
      : socket_(std::move(socket)), id_(std::move(id)), changed_(executor), scope_(executor) {}

  // Connects and names all it holds.
  Async<> link(std::vector<TaskId> holds) {
    auto connected = co_await link::connect(scope_, socket_);
    EXPECT_TRUE(connected.has_value()) << (connected ? "" : connected.error().message);
    if (!connected) co_return;
    session_ = *connected;
    send(link::EdgeHello{.edge = id_, .zone = "us-east-1a", .version = "1"});
    send(link::TargetHold{.hold = std::move(holds)});
    scope_.spawn("edge", [this, session = session_] { return listen(session); });
  }
  void hold(const TaskId& task) { send(link::TargetHold{.hold = {task}}); }
  void release(const TaskId& task) { send(link::TargetHold{.release = {task}}); }
  template <class M>
  void send(const M& message) {
    (void)session_->send(link::encode(message));
  }
  void send_bytes(link::Message message) { (void)session_->send(std::move(message)); }
  Async<> unlink() {
    session_->close();
    session_ = nullptr;
    co_await scope_.join();
  }
  Async<> stop() {
    if (session_) session_->close();
    scope_.cancel();
    co_await scope_.join();
  }
  // The next answer; fails the test if none comes.
  Async<link::TargetsAwake> answer() {
    const auto give_up = std::chrono::steady_clock::now() + kPatience;
    while (answers_.empty() && std::chrono::steady_clock::now() < give_up) {
      changed_.reset();
      (void)co_await changed_.wait_for(Duration(10));
    }
    EXPECT_FALSE(answers_.empty()) << "no answer";
    if (answers_.empty()) co_return link::TargetsAwake{};
    link::TargetsAwake first = std::move(answers_.front());
    answers_.pop_front();
    co_return first;
  }
  bool unlinked() const { return ended_; }
  bool has_answer() const { return !answers_.empty(); }

 private:
  Async<> listen(std::shared_ptr<link::Session> session) {
    ended_ = false;
    for (;;) {
      const Result<link::Message> message = co_await session->receive();
      if (!message) break;
      link::TargetsAwake answer;
      EXPECT_TRUE(link::decode(*message, answer).has_value());
      answers_.push_back(std::move(answer));
      changed_.set();
    }
    ended_ = true;
    changed_.set();
  }

  std::string socket_;
  EdgeId id_;
  Event changed_;
  std::shared_ptr<link::Session> session_;
  std::deque<link::TargetsAwake> answers_;
  bool ended_ = false;
  AsyncScope scope_;
};

// The system's, and whatever the test lets pass. What waits for the time hears of it at its next
// event.
class TestClock final : public Clock {
 public:
  Instant now() const override { return system_.now() + passed_; }
  void pass(Duration time) { passed_ += time; }

 private:
  SystemClock system_;
  Duration passed_{0};
};

}  // namespace hob::host::testing
