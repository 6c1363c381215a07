#include "sim/sim_link.h"

#include <algorithm>

#include "sim/virtual_time.h"

namespace hob::sim {

// Both directions of one link.
struct Network::Wire {
  struct Way {
    explicit Way(const Executor& executor) : readable(executor) {}
    std::deque<std::pair<int64_t, link::Message>> messages{};  // when each arrives
    Event readable;
  };
  Wire(const Executor& executor, SeededRandom& source)
      : random(source), ways{Way(executor), Way(executor)} {}
  void close() {
    closed = true;
    for (Way& way : ways) {
      way.messages.clear();
      way.readable.set();
    }
  }
  SeededRandom& random;
  Way ways[2];  // to the near end, to the far end
  int delay_ms_max = 0;
  bool closed = false;
  bool silent = false;  // parted; when that began
  int64_t silent_since_us = 0;
};

namespace {

class WireSession final : public link::Session {
 public:
  WireSession(std::shared_ptr<Network::Wire> wire, int side, uid_t peer)
      : wire_(std::move(wire)), side_(side), peer_(peer) {}
  ~WireSession() override { close(); }

  Result<void> send(link::Message message) override {
    if (wire_->closed) return fail(Code::kUnavailable, "the link has ended");
    auto& way = wire_->ways[1 - side_];
    if (way.messages.size() >= link::kSendQueueMax) {
      close();
      return fail(Code::kUnavailable, "the link's peer does not read");
    }
    int64_t at = virtual_time::now_us();
    if (wire_->delay_ms_max > 0) at += wire_->random.below(wire_->delay_ms_max * 1000);
    if (!way.messages.empty()) at = std::max(at, way.messages.back().first);
    way.messages.emplace_back(at, std::move(message));
    way.readable.set();
    return {};
  }

  // The network has what was sent at once.
  Async<Result<void>> flush() override {
    if (wire_->closed) co_return fail(Code::kUnavailable, "the link has ended");
    co_return Result<void>();
  }

  Async<Result<link::Message>> receive() override {
    // Its own pointer: the session may go while this waits.
    const std::shared_ptr<Network::Wire> wire = wire_;
    auto& way = wire->ways[side_];
    for (;;) {
      if (wire->closed) co_return fail(Code::kUnavailable, "the link has ended");
      const int64_t now = virtual_time::now_us();
      way.readable.reset();
      if (wire->silent) {
        const int64_t end =
            wire->silent_since_us + std::chrono::microseconds(link::kSilenceMax).count();
        if (now >= end) {
          wire->close();
          continue;
        }
        co_await way.readable.wait_for(Duration((end - now + 999) / 1000));
      } else if (way.messages.empty()) {
        co_await way.readable.wait();
      } else if (way.messages.front().first > now) {
        co_await way.readable.wait_for(Duration((way.messages.front().first - now + 999) / 1000));
      } else {
        link::Message message = std::move(way.messages.front().second);
        way.messages.pop_front();
        co_return message;
      }
    }
  }

  uid_t peer_uid() const override { return peer_; }
  void close() override { wire_->close(); }

 private:
  std::shared_ptr<Network::Wire> wire_;
  int side_;
  uid_t peer_;
};

}  // namespace

std::pair<std::string, std::string> Network::ends(std::string one, std::string other) {
  if (other < one) std::swap(one, other);
  return {std::move(one), std::move(other)};
}

Result<Network::Pair> Network::connect(const std::string& near, const std::string& far, uid_t uid) {
  if (parted(near, far)) return fail(Code::kUnavailable, "no way from {} to {}", near, far);
  std::erase_if(wires_, [](const auto& wire) { return wire.second.expired(); });
  const auto wire = std::make_shared<Wire>(executor_, random_);
  wire->delay_ms_max = delay_ms_max_;
  wires_.emplace_back(ends(near, far), wire);
  return Pair{.near = std::make_shared<WireSession>(wire, 0, 0),
              .far = std::make_shared<WireSession>(wire, 1, uid)};
}

void Network::part(const std::string& one, const std::string& other) {
  if (!parted_.insert(ends(one, other)).second) return;
  for (const auto& [between, weak] : wires_) {
    const auto wire = weak.lock();
    if (between != ends(one, other) || !wire) continue;
    wire->silent = true;
    wire->silent_since_us = virtual_time::now_us();
    for (auto& way : wire->ways) way.readable.set();
  }
}

void Network::mend(const std::string& one, const std::string& other) {
  if (parted_.erase(ends(one, other)) == 0) return;
  mended_us_[ends(one, other)] = virtual_time::now_us();
  for (const auto& [between, weak] : wires_) {
    const auto wire = weak.lock();
    if (between != ends(one, other) || !wire) continue;
    wire->silent = false;
    for (auto& way : wire->ways) way.readable.set();
  }
}

int64_t Network::mended_us(const std::string& one, const std::string& other) const {
  const auto found = mended_us_.find(ends(one, other));
  return found == mended_us_.end() ? 0 : found->second;
}

void Network::mend_all() {
  while (!parted_.empty()) {
    const auto between = *parted_.begin();
    mend(between.first, between.second);
  }
}

bool Network::parted(const std::string& one, const std::string& other) const {
  return parted_.contains(ends(one, other));
}

void Network::cut(const std::string& one, const std::string& other) {
  for (const auto& [between, weak] : wires_) {
    const auto wire = weak.lock();
    if (between == ends(one, other) && wire) wire->close();
  }
}

}  // namespace hob::sim
