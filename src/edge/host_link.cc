#include "edge/host_link.h"

#include <utility>

#include "base/ids.h"
#include "base/log.h"
#include "link/link.h"

namespace hob::edge {

HostLink::HostLink(AsyncScope& scope, std::string socket, link::EdgeHello hello, Calls calls)
    : scope_(scope),
      socket_(std::move(socket)),
      hello_(std::move(hello)),
      calls_(std::move(calls)) {}

void HostLink::tell(const link::TargetHold& change) {
  if (session_ == nullptr) return;
  if (auto sent = session_->send(link::encode(change)); !sent) session_->close();
}

void HostLink::close() {
  if (session_ != nullptr) session_->close();
}

Async<> HostLink::run() {
  SystemRandom random;
  Backoff backoff{.min = kHostRetryMin, .max = kHostRetryMax};
  for (;;) {
    auto session = co_await link::connect(scope_, socket_);
    if (session) {
      const bool answered = co_await follow(std::move(*session));
      if (answered) backoff.reset();
      log::warn("link to the host ended; what sleeps there cannot be woken until it is back");
    }
    uint8_t byte = 0;
    random.fill(&byte, 1);
    co_await sleep_for(backoff.next(byte / 256.0));
  }
}

Async<bool> HostLink::follow(std::shared_ptr<link::Session> session) {
  // Hello and the whole go first; what changes from now on comes after them.
  const bool sent =
      session->send(link::encode(hello_)) && session->send(link::encode(calls_.whole()));
  if (!sent) {
    session->close();
    co_return false;
  }
  session_ = session;
  bool answered = false;
  for (;;) {
    auto message = co_await session->receive();
    if (!message) break;
    if (message->type != "TargetsAwake") continue;  // a newer host's
    link::TargetsAwake answer;
    if (auto decoded = link::decode(*message, answer); !decoded) {
      log::error("a host's answer cannot be read", {{"error", decoded.error().message}});
      break;
    }
    answered = true;
    calls_.answered(answer);
  }
  session_ = nullptr;
  session->close();
  co_return answered;
}

}  // namespace hob::edge
