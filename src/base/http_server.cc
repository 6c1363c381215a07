#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <cstring>
#include <ctime>

#include "base/http.h"
#include "base/http_wire.h"
#include "base/log.h"

namespace hob::http {

namespace asio = boost::asio;
using Acceptor = asio::basic_socket_acceptor<asio::generic::stream_protocol>;

namespace {

// What is read and dropped of a body that the handler did not want, to keep the connection; beyond,
// it is closed.
constexpr uint64_t kDrainBytesMax = 256 * 1024;
// When we close while the peer still sends, we read on for a moment, or its TCP would drop our
// answer.
constexpr uint64_t kLingerBytesMax = 4 * 1024 * 1024;
constexpr Duration kLinger{2'000};
constexpr size_t kCrowd = 256;         // connections that leave memory worth giving back
constexpr Duration kAcceptRetry{100};  // out of descriptors or memory

// "Mon, 23 Nov 2026 22:11:49 GMT", made once a second for each thread.
const std::string& http_date() {
  thread_local std::time_t made = 0;
  thread_local std::string text;
  const std::time_t now = std::time(nullptr);
  if (now != made) {
    std::tm tm{};
    gmtime_r(&now, &tm);
    char buffer[64];
    text.assign(buffer, std::strftime(buffer, sizeof buffer, "%a, %d %b %Y %H:%M:%S GMT", &tm));
    made = now;
  }
  return text;
}

std::string describe_peer(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "unknown";
  if (address.ss_family == AF_UNIX) {
    ucred credentials{};
    socklen_t credentials_size = sizeof credentials;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &credentials_size) != 0)
      return "unix:uid=unknown";
    return fmt::format("unix:uid={}", credentials.uid);
  }
  asio::ip::tcp::endpoint endpoint;
  if (size > endpoint.capacity()) return "unknown";
  std::memcpy(endpoint.data(), &address, size);
  endpoint.resize(size);
  const std::string host = endpoint.address().to_string();
  return endpoint.address().is_v6() ? fmt::format("[{}]:{}", host, endpoint.port())
                                    : fmt::format("{}:{}", host, endpoint.port());
}

Request make_request(const RequestHead& head, const std::string& peer) {
  Request request;
  request.method = head.method;
  request.target = head.target;
  request.path = head.path;
  request.query = head.query;
  request.peer = peer;
  for (size_t i = 0; i < head.field_count; ++i) {
    request.headers.add(std::string(head.fields[i].name), std::string(head.fields[i].value));
  }
  // The absolute form's authority is what the client asked for (RFC 9112 §3.2.2).
  if (!head.host.empty() && request.headers.get("host") != head.host) {
    request.headers.set("Host", std::string(head.host));
  }
  if (head.framing != Framing::kChunked) request.body_size = head.content_length;
  return request;
}

}  // namespace

// The answer of one request.
class WireResponder final : public Responder {
 public:
  // `closing`: asked when the head is written; true: this is the connection's last answer.
  WireResponder(Wire& wire, const RequestHead& head, const WireBody& body, Duration idle,
                const bool& stopping)
      : wire_(wire),
        body_(body),
        idle_(idle),
        stopping_(stopping),
        head_request_(head.method == "HEAD"),
        minor_(head.minor),
        keep_alive_(head.keep_alive) {}

  Async<Result<void>> respond(Response response) override {
    if (state_ != State::kNothing) co_return fail(Code::kInternal, "answered twice");
    const bool bodiless = response.status == 204 || response.status == 304;
    std::optional<uint64_t> size = response.body.size();
    if (bodiless) size = std::nullopt;
    // A HEAD answer may state the length of what it does not carry.
    if (head_request_ && response.headers.find("content-length") != nullptr) {
      size = parse_content_length(response.headers.get("content-length")).value_or(0);
    }
    std::string out = start(response.status, response.headers, size, bodiless);
    if (!head_request_ && !bodiless) out += response.body;
    state_ = State::kEnded;
    co_return co_await put(std::move(out));
  }

  Async<Result<void>> begin(int status, Headers headers, std::optional<uint64_t> size) override {
    if (state_ != State::kNothing) co_return fail(Code::kInternal, "answered twice");
    const bool bodiless = status == 204 || status == 304;
    chunked_ = !size && !bodiless && minor_ == 1;
    until_close_ = !size && !bodiless && minor_ == 0;
    left_ = size;
    silent_ = head_request_ || bodiless;
    state_ = State::kBegun;
    std::string out = start(status, headers, size, bodiless);
    co_return co_await put(std::move(out));
  }

  Async<Result<void>> write(std::string piece) override {
    if (state_ != State::kBegun)
      co_return fail(Code::kInternal, "write() outside of begin() and end()");
    if (silent_ || piece.empty()) co_return Result<void>();
    if (left_) {
      if (piece.size() > *left_) {
        keep_alive_ = false;
        co_return fail(Code::kInternal, "more was written than announced");
      }
      *left_ -= piece.size();
    }
    if (chunked_) {
      std::string framed = fmt::format("{:x}\r\n", piece.size());
      framed += piece;
      framed += "\r\n";
      piece = std::move(framed);
    }
    co_return co_await put(std::move(piece));
  }

  Async<Result<void>> end() override {
    if (state_ != State::kBegun) co_return fail(Code::kInternal, "end() without begin()");
    state_ = State::kEnded;
    if (left_ && *left_ > 0 && !silent_) {
      keep_alive_ = false;
      co_return fail(Code::kInternal, "less was written than announced");
    }
    if (!chunked_ || silent_) co_return Result<void>();
    co_return co_await put("0\r\n\r\n");
  }

  bool started() const { return state_ != State::kNothing; }
  // The connection may carry another request.
  bool reusable() const { return state_ == State::kEnded && keep_alive_ && !failed_; }

 private:
  enum class State { kNothing, kBegun, kEnded };

  std::string start(int status, const Headers& headers, std::optional<uint64_t> size,
                    bool bodiless) {
    // A body that will not be read to its end ends the connection, and the answer says so.
    const bool too_much_left = !body_.finished() && (body_.continue_pending() || body_.failed() ||
                                                     body_.left().value_or(0) > kDrainBytesMax);
    if (stopping_ || too_much_left || until_close_) keep_alive_ = false;
    if (equal_without_case(headers.get("connection"), "close")) keep_alive_ = false;
    std::string out = fmt::format("HTTP/1.1 {} {}\r\n", status, reason_phrase(status));
    for (const auto& [name, value] : headers.all()) {
      if (equal_without_case(name, "content-length") ||
          equal_without_case(name, "transfer-encoding") || equal_without_case(name, "connection")) {
        continue;
      }
      append_field(out, name, value);
    }
    if (headers.find("date") == nullptr) append_field(out, "Date", http_date());
    if (size && !bodiless) append_field(out, "Content-Length", fmt::format("{}", *size));
    if (chunked_) append_field(out, "Transfer-Encoding", "chunked");
    if (!keep_alive_)
      append_field(out, "Connection", "close");
    else if (minor_ == 0)
      append_field(out, "Connection", "keep-alive");
    out += "\r\n";
    return out;
  }

  Async<Result<void>> put(std::string bytes) {
    Result<void> written = co_await wire_.write(std::move(bytes), idle_);
    if (!written) failed_ = true;
    co_return written;
  }

  Wire& wire_;
  const WireBody& body_;
  Duration idle_;
  const bool& stopping_;
  bool head_request_;
  int minor_;
  bool keep_alive_;
  State state_ = State::kNothing;
  bool chunked_ = false;
  bool until_close_ = false;
  bool silent_ = false;
  bool failed_ = false;
  std::optional<uint64_t> left_{};
};

class Server::Impl {
 public:
  Impl(Executor executor, Fd listener, Handler handler, ServerOptions options)
      : acceptor_(executor),
        handler_(std::move(handler)),
        options_(options),
        changed_(executor),
        scope_(executor) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    HOB_ASSERT(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    tcp_ = address.ss_family != AF_UNIX;
    acceptor_.assign(asio::generic::stream_protocol(address.ss_family, tcp_ ? IPPROTO_TCP : 0),
                     listener.release());
    acceptor_.non_blocking(true);
  }
  ~Impl() { HOB_ASSERT(connections_.empty()); }

  void start() {
    scope_.spawn("http accept", [this] { return accept(); });
  }

  Async<> stop(Duration grace) {
    stopping_ = true;
    boost::system::error_code ignored;
    acceptor_.close(ignored);
    for (Wire* wire : idle_) wire->interrupt();
    const auto until = std::chrono::steady_clock::now() + grace;
    while (!connections_.empty()) {
      const auto left =
          std::chrono::duration_cast<Duration>(until - std::chrono::steady_clock::now());
      if (left <= Duration(0)) break;
      changed_.reset();
      co_await changed_.wait_for(left);
    }
    scope_.cancel();
    co_await scope_.join();
  }

 private:
  Async<> accept() {
    while (!stopping_) {
      if (connections_.size() >= kConnectionsMax) {
        // Whoever has waited longest without a whole request makes room: idle connections must not
        // keep others out.
        if (!waiting_.empty()) waiting_.begin()->second->interrupt();
        changed_.reset();
        co_await changed_.wait();
        continue;
      }
      boost::system::error_code error;
      Socket socket(scope_.executor());
      co_await acceptor_.async_accept(socket, asio::redirect_error(asio::use_awaitable, error));
      co_await throw_if_cancelled();
      if (stopping_) co_return;
      if (error) {
        if (error != asio::error::connection_aborted) {
          log::warn("accepting a connection failed", {{"error", error.message()}});
          co_await sleep_for(kAcceptRetry);
        }
        continue;
      }
      const int one = 1;
      if (tcp_) setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      auto wire = std::make_shared<Wire>(std::move(socket));
      scope_.spawn("http connection", [this, wire] { return serve(wire); });
    }
  }

  // A connection that no whole request has come on, by its turn: the oldest goes first when there
  // is no room.
  struct Waiting {
    Waiting(Impl& owner, Wire* which) : impl(owner), turn(owner.next_turn_++) {
      impl.waiting_.emplace(turn, which);
    }
    ~Waiting() { impl.waiting_.erase(turn); }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;
    Impl& impl;
    uint64_t turn;
  };

  // Keeps the lists of connections whatever way serve() ends.
  struct Registration {
    Registration(Impl& owner, Wire* which) : impl(owner), wire(which) {
      impl.connections_.insert(wire);
      impl.most_ = std::max(impl.most_, impl.connections_.size());
    }
    ~Registration() {
      impl.connections_.erase(wire);
      impl.idle_.erase(wire);
      impl.give_back();
      impl.changed_.set();
    }
    Registration(const Registration&) = delete;
    Registration& operator=(const Registration&) = delete;
    Impl& impl;
    Wire* wire;
  };

  // A crowd that has gone leaves free memory between what is in use; the allocator would keep it.
  void give_back() {
    if (most_ < kCrowd || connections_.size() > most_ / 8) return;
    most_ = connections_.size();
    malloc_trim(0);
  }

  Async<> serve(std::shared_ptr<Wire> wire) {
    const Registration registration(*this, wire.get());
    const std::string peer = describe_peer(wire->socket().native_handle());
    bool again = true;
    while (again && !stopping_) again = co_await serve_one(*wire, peer);
  }

  // One request. True: the connection is good for another.
  Async<bool> serve_one(Wire& wire, const std::string& peer) {
    // The head's 128 fields are 4 KiB: on the heap only while a request runs.
    auto head = std::make_unique<RequestHead>();
    HOB_ASSERT(head != nullptr);
    std::optional<Waiting> waiting;
    waiting.emplace(*this, &wire);
    if (wire.buffered().empty()) {
      head.reset();
      idle_.insert(&wire);
      const Result<bool> more = co_await wire.fill(options_.keep_alive);
      idle_.erase(&wire);
      if (!more || !*more) co_return false;
      head = std::make_unique<RequestHead>();
    }
    // Absolute, so that a byte now and then does not hold a connection for ever.
    wire.set_deadline(std::chrono::steady_clock::now() + options_.header_timeout);
    Parsed parsed = Parsed::kMore;
    while ((parsed = parse(wire.buffered(), *head)) == Parsed::kMore) {
      const Result<bool> more = co_await wire.fill(options_.header_timeout);
      if (!more && more.error().code == Code::kTimeout) {
        wire.set_deadline(std::nullopt);
        co_await refuse(wire, 408, "the request's head took too long");
        co_return false;
      }
      if (!more || !*more) co_return false;
    }
    wire.set_deadline(std::nullopt);
    waiting.reset();
    if (parsed == Parsed::kBad) {
      co_await refuse(wire, head->status, head->error);
      co_return false;
    }
    const Request request = make_request(*head, peer);
    wire.take(
        head->bytes);  // the head's views are gone from here on: what is needed of them is copied
    head->method = request.method;
    co_return co_await answer(wire, request, *head);
  }

  Async<bool> answer(Wire& wire, const Request& request, const RequestHead& head) {
    WireBody body(wire, head.framing, head.content_length, options_.body_idle_timeout,
                  head.expect_continue);
    WireResponder responder(wire, head, body, options_.write_idle_timeout, stopping_);
    co_await handler_(request, body, responder);
    if (!responder.started()) {
      log::error("a request was not answered",
                 {{"method", request.method}, {"path", request.path}});
      Response response{.status = 500};
      (void)co_await responder.respond(std::move(response));
    }
    if (body.finished()) co_return responder.reusable();
    if (responder.reusable() && !body.continue_pending()) {
      uint64_t drained = 0;
      while (drained <= kDrainBytesMax) {
        const Result<std::string> piece = co_await body.read();
        if (!piece) co_return false;
        if (piece->empty()) co_return true;
        drained += piece->size();
      }
    }
    co_await linger(wire);
    co_return false;
  }

  Async<> refuse(Wire& wire, int status, const char* why) {
    log::debug("request refused", {{"status", status}, {"why", why}});
    std::string out = fmt::format("HTTP/1.1 {} {}\r\n", status, reason_phrase(status));
    const std::string text = std::string(why) + "\n";
    append_field(out, "Date", http_date());
    append_field(out, "Content-Type", "text/plain");
    append_field(out, "Content-Length", fmt::format("{}", text.size()));
    append_field(out, "Connection", "close");
    out += "\r\n" + text;
    const Result<void> written = co_await wire.write(std::move(out), options_.write_idle_timeout);
    if (written) co_await linger(wire);
  }

  Async<> linger(Wire& wire) {
    wire.shutdown_send();
    wire.take(wire.buffered().size());
    wire.set_deadline(std::chrono::steady_clock::now() + kLinger);
    uint64_t dropped = 0;
    while (dropped < kLingerBytesMax) {
      const Result<std::string> piece = co_await wire.read_some(kLinger);
      if (!piece || piece->empty()) co_return;
      dropped += piece->size();
    }
  }

  Acceptor acceptor_;
  Handler handler_;
  ServerOptions options_;
  bool tcp_ = true;
  bool stopping_ = false;
  std::set<Wire*> connections_;
  std::set<Wire*> idle_;  // those between two requests
  std::map<uint64_t, Wire*> waiting_;
  uint64_t next_turn_ = 0;
  size_t most_ = 0;  // connections at once, since memory was given back
  Event changed_;    // a connection ended
  AsyncScope scope_;
};

Server::Server(Executor executor, Fd listener, Handler handler, ServerOptions options)
    : impl_(std::make_unique<Impl>(std::move(executor), std::move(listener), std::move(handler),
                                   options)) {}
Server::~Server() = default;
void Server::start() { impl_->start(); }
Async<> Server::stop(Duration grace) { return impl_->stop(grace); }

}  // namespace hob::http
