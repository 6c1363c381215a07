// A connection to a hostile target of HTTP/2, the whole of it: requests, answers, windows, resets,
// time. The input is a script: what the target sends, cut anywhere, and what clients do meanwhile.
//
// Every exchange ends, each front is told in order and holds no more than its bound, and in the end
// no connection and no buffer is left.
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "edge/exchange.h"
#include "edge/http2_frame.h"
#include "edge/routes.h"
#include "edge/worker.h"

namespace hob::edge {

// Sockets that the script connects, feeds and ends; time is the script's, too.
class ScriptedLoop final : public Loop {
 public:
  // From the same place in the wheel of timers each time.
  ScriptedLoop() {
    constexpr uint64_t kRound = TimerWheel::kSlotMs * TimerWheel::kSlots;
    now_ms_ = (now_ms_ / kRound + 1) * kRound;
    now_us_ = now_ms_ * 1'000;
    run_timers();
  }
  const char* name() const override { return "scripted"; }
  void run() override {}
  void listen(int, Listener&, size_t) override {}
  void unlisten(Backlog) override {}
  void connect(Socket& socket, const sockaddr_in&) override {
    socket.connecting_ = true;
    sockets_.push_back(&socket);
  }
  void read(Socket& socket) override { socket.want_read_ = true; }
  void pause(Socket& socket) override { socket.want_read_ = false; }

  // The first one that waits for it.
  void connected(int error) {
    const auto waits =
        std::ranges::find_if(sockets_, [](const Socket* each) { return each->connecting_; });
    if (waits == sockets_.end()) return;
    Socket& socket = **waits;
    socket.connecting_ = false;
    socket.on_connected(error);
    if (!socket.closing_ && socket.unsent() > 0) flush(socket);
  }
  void arrives(std::string_view bytes) {
    for (Socket* socket = reader(); socket != nullptr && !bytes.empty(); socket = reader()) {
      Buffer* const buffer = buffers_.take();
      if (buffer == nullptr) return;
      const size_t count = std::min(bytes.size(), kBufferBytes);
      std::copy_n(bytes.data(), count, buffer->data);
      buffer->used = static_cast<uint32_t>(count);
      bytes.remove_prefix(count);
      socket->take(Slice(buffer, buffer->data, count));
    }
  }
  void ends(int error) {
    if (Socket* const socket = reader()) ended(*socket, error);
  }
  // Whether the target takes what is sent.
  void takes(bool all) {
    takes_ = all;
    if (!takes_) return;
    for (Socket* const socket : sockets_) {
      if (!socket->connecting_ && socket->unsent() > 0) flush(*socket);
    }
  }
  void turn(uint64_t milliseconds) {
    now_ms_ += milliseconds;
    now_us_ = now_ms_ * 1'000;
    run_timers();
    run_posted();
    let_go_held();
    do {
      flush_all();
      run_released();
    } while (busy());
  }
  uint64_t next_timer() const { return timers_.wait(now_ms_); }
  size_t sockets() const { return sockets_.size(); }

 private:
  // The newest one that may hear something.
  Socket* reader() {
    const auto found = std::find_if(sockets_.rbegin(), sockets_.rend(), [](const Socket* each) {
      return !each->connecting_ && each->want_read_ && !each->ended_;
    });
    return found == sockets_.rend() ? nullptr : *found;
  }
  void start_socket(Socket&) override {}
  void start_send(Socket& socket) override {
    if (takes_) sent(socket, socket.unsent());
  }
  bool start_close(Socket& socket) override {
    std::erase(sockets_, &socket);
    return true;
  }
  void shut_now(Socket&) override {}

  std::vector<Socket*> sockets_;
  bool takes_ = true;
};

namespace {

constexpr size_t kClientsMax = 24;
constexpr size_t kOperationsMax = 2'000;
constexpr std::string_view kFirstLine = "POST / HTTP/1.1\r\nHost: s.local\r\n";
constexpr std::string_view kUpgradeLines =
    "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

void must(bool holds) {
  if (!holds) std::abort();
}

// Asks, and hears the answer.
class Client final : public Front {
 public:
  Client(Worker& worker, uint8_t kind) : worker_(worker), exchange_(worker.take_exchange()) {
    const bool upgrade = (kind & 3) == 3;
    body_ = (kind & 3) == 1;
    Chain& head = exchange_->head();
    head.append(worker.buffers(), kFirstLine);
    if (upgrade) {
      head.append(worker.buffers(), kUpgradeLines);
      exchange_->expect_websocket("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
    const RequestFacts facts{.framing = body_ ? http::Framing::kChunked : http::Framing::kNone,
                             .head_method = (kind & 4) != 0 && !upgrade,
                             .idempotent = (kind & 8) != 0,
                             .upgrade = upgrade,
                             .connect = upgrade && (kind & 16) != 0,
                             .secure = (kind & 32) != 0};
    exchange_->start(*this, worker.find("s.local")->service, facts, 0);
    if (!ended_ && !body_ && !upgrade) exchange_->request_end("");
  }
  ~Client() { worker_.give_back(std::move(exchange_)); }

  void answer_head(const http::ResponseHead& head, std::string_view raw) override {
    must(!ended_ && !answered_ && !raw.empty());
    answered_ = head.code >= 200 || head.code == 101;
  }
  void answer_body(Slice data) override {
    must(!ended_ && answered_);
    queued_ += data.size();
    must(queued_ <= kQueuedBytesHigh + kBufferBytes);
  }
  void answer_end(std::string_view trailers) override {
    must(!ended_ && answered_ && trailers.size() <= http::kHeadBytesMax);
    ended_ = true;
  }
  void answer_refusal(Refusal, int status) override {
    must(!ended_ && !answered_ && status >= 400);
    ended_ = true;
  }
  void answer_abort(Refusal) override {
    must(!ended_ && answered_);
    ended_ = true;
  }
  size_t answer_queued() const override { return queued_; }
  void body_wanted() override {}

  void sends(size_t bytes) {
    const bool may = !ended_ && !exchange_->request_ended() && !exchange_->deciding() &&
                     (body_ || exchange_->upgraded()) && exchange_->wants_body();
    Buffer* const buffer = may ? worker_.buffers().take() : nullptr;
    if (buffer == nullptr) return;
    std::fill_n(buffer->data, bytes, 'b');
    buffer->used = static_cast<uint32_t>(bytes);
    exchange_->request_body(Slice(buffer, buffer->data, bytes));
  }
  void ends() {
    if (!ended_ && !exchange_->request_ended() && !exchange_->deciding())
      exchange_->request_end(body_ ? "x-trailer: 1\r\n" : "");
  }
  void takes() {
    if (std::exchange(queued_, 0) > 0 && !ended_) exchange_->answer_drained();
  }
  void leaves() {
    if (!ended_) exchange_->cancel();
    ended_ = true;
  }
  bool ended() const { return ended_; }

 private:
  Worker& worker_;
  std::unique_ptr<Exchange> exchange_;
  size_t queued_ = 0;
  bool body_ = false;
  bool answered_ = false;
  bool ended_ = false;
};

std::string frame(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload) {
  char head[9];
  http2::put(head, static_cast<uint32_t>(payload.size()), 3);
  http2::put(head + 3, type, 1);
  http2::put(head + 4, flags, 1);
  http2::put(head + 5, stream, 4);
  return std::string(head, sizeof head).append(payload);
}

class Script {
 public:
  Script(const uint8_t* data, size_t size) : data_(data), left_(size) {
    auto loop = std::make_unique<ScriptedLoop>();
    loop_ = loop.get();
    worker_ = std::make_unique<Worker>(std::move(loop), 0, context_, std::vector<uint16_t>{});
    const link::Route route{.service = "s",
                            .host_names = {"s.local"},
                            .request_timeout = Duration(20'000),
                            .idle_timeout = Duration(10'000),
                            .targets = {{.task = TaskId{"t"}, .address = "127.0.0.1", .port = 80}},
                            .queue_timeout = Duration(2'000),
                            .protocol = link::TargetProtocol::kHttp2};
    worker_->apply(*book_.compile({.version = 1, .routes = {route}}));
  }

  void run() {
    for (size_t i = 0; i < kOperationsMax && left_ > 0; ++i) {
      act();
      loop_->turn(0);
    }
    // From here on the target is silent: time alone must end everything.
    for (int steps = 0; !clients_.empty(); ++steps) {
      must(steps < 1'000);
      pass();
    }
    for (int steps = 0; loop_->sockets() > 0; ++steps) {
      must(steps < 1'000);
      pass();
    }
    must(worker_->counts().upstream_connections.value() == 0);
    must(loop_->buffers().in_use() == 0);
  }

 private:
  uint8_t byte() {
    if (left_ == 0) return 0;
    --left_;
    return *data_++;
  }
  std::string_view bytes(size_t count) {
    count = std::min(count, left_);
    const std::string_view taken(reinterpret_cast<const char*>(data_), count);
    data_ += count;
    left_ -= count;
    return taken;
  }
  void pass() {
    // Clients that still hear something take it.
    for (const auto& client : clients_) client->takes();
    loop_->turn(std::clamp<uint64_t>(loop_->next_timer(), 1, 4'000));
    reap();
  }
  void reap() {
    std::erase_if(clients_, [](const auto& client) { return client->ended(); });
  }
  template <class Act>
  void with_client(Act act) {
    const size_t at = byte();
    if (!clients_.empty()) act(*clients_[at % clients_.size()]);
    reap();
  }

  void act() {
    switch (byte() % 18) {
      case 0:
      case 1: {
        const uint8_t kind = byte();
        if (clients_.size() < kClientsMax)
          clients_.push_back(std::make_unique<Client>(*worker_, kind));
        break;
      }
      case 2: {
        const size_t count = size_t{byte()} * 64;
        with_client([count](Client& client) { client.sends(std::max<size_t>(count, 1)); });
        break;
      }
      case 3:
        with_client([](Client& client) { client.ends(); });
        break;
      case 4:
        with_client([](Client& client) { client.takes(); });
        break;
      case 5:
        with_client([](Client& client) { client.leaves(); });
        break;
      case 6:
        loop_->turn(uint64_t{byte()} * 40);
        break;
      case 7:
        loop_->connected(0);
        break;
      case 8:
        loop_->connected(ECONNREFUSED);
        break;
      case 9:
        loop_->arrives(bytes(byte()));
        break;
      case 10:
      case 11: {
        const uint8_t type = byte(), flags = byte(), stream = byte();
        loop_->arrives(frame(static_cast<uint8_t>(type % 11), flags, stream, bytes(byte())));
        break;
      }
      case 12: {  // ":status: 200", of the static table
        const uint8_t stream = byte();
        loop_->arrives(frame(1, (stream & 1) != 0 ? 4 : 5, stream | 1, "\x88"));
        break;
      }
      case 13: {
        const uint8_t stream = byte();
        loop_->arrives(frame(0, 0, stream | 1, std::string(size_t{byte()} * 64, 'd')));
        break;
      }
      case 14:
        loop_->arrives(
            frame(4, 0, 0, byte() % 2 == 0 ? "" : std::string_view("\0\x08\0\0\0\1", 6)));
        break;
      case 15:
        loop_->ends(0);
        break;
      case 16:
        loop_->ends(ECONNRESET);
        break;
      case 17:
        loop_->takes(byte() % 2 == 0);
        break;
    }
    reap();
  }

  const uint8_t* data_;
  size_t left_;
  WorkerContext context_;
  RouteBook book_{1};
  std::unique_ptr<Worker> worker_;
  ScriptedLoop* loop_ = nullptr;
  std::vector<std::unique_ptr<Client>> clients_;  // those that have not heard their end
};

}  // namespace
}  // namespace hob::edge

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  hob::edge::Script(data, size).run();
  return 0;
}
