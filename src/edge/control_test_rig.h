// For tests: control as an edge sees it.
#pragma once

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <thread>

#include "edge/test_rig.h"
#include "link/link.h"

namespace hob::edge {

// Control's side of one link, in a thread of its own.
class Control {
 public:
  explicit Control(const std::string& path) {
    auto fd = http::listen_unix(path, 0600);
    EXPECT_TRUE(fd.has_value());
    listener_ = std::make_unique<link::Listener>(
        context_.get_executor(), std::move(*fd), std::set<uid_t>{::getuid()},
        [this](std::shared_ptr<link::Session> session) -> Async<> {
          return serve(std::move(session));
        });
    listener_->start();
    thread_ = std::thread([this] { context_.run(); });
  }
  ~Control() {
    std::promise<void> done;
    AsyncScope scope(context_.get_executor());
    boost::asio::post(context_, [&] {
      scope.spawn("stop", [&]() -> Async<> {
        co_await listener_->stop();
        done.set_value();
      });
    });
    done.get_future().wait();
    guard_.reset();
    thread_.join();
  }
  Async<> serve(std::shared_ptr<link::Session> session) {
    for (;;) {
      auto message = co_await session->receive();
      if (!message) break;
      if (message->type == "EdgeHello") {
        if (auto sent = session->send(link::encode(table)); !sent) break;
      } else if (message->type == "EdgeReport") {
        link::EdgeReport report;
        if (!link::decode(*message, report)) break;
        applied = report.applied_version;
        leaving = report.leaving && report.targets.empty();
      }
    }
    ended = true;
  }
  link::RouteTable table{};
  std::atomic<int64_t> applied = -1;
  std::atomic<bool> leaving = false;  // by the last report, with no request in hand
  std::atomic<bool> ended = false;    // a link

 private:
  boost::asio::io_context context_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_{
      boost::asio::make_work_guard(context_)};
  std::unique_ptr<link::Listener> listener_;
  std::thread thread_;
};

}  // namespace hob::edge
