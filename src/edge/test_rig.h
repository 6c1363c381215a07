// For this room's tests: an edge on a free port, targets that do what the path says, and a client
// that reads answers strictly. All on loopback, with real sockets.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <condition_variable>
#include <future>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/http.h"
#include "base/http_parser.h"
#include "edge/edge.h"

namespace hob::edge {

inline constexpr int kPatienceSeconds =
    20;  // longer than anything takes; only a broken test waits for it

inline uint16_t port_of(int fd) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

// A blocking connection.
class Connection {
 public:
  explicit Connection(Fd fd) : fd_(std::move(fd)) {
    const timeval patience{.tv_sec = kPatienceSeconds, .tv_usec = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    const int one = 1;
    ::setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  }
  static Connection to(uint16_t port) {
    Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return Connection(std::move(fd));
  }
  // For reads that nothing may answer: a second is as good as for ever.
  void shrink_patience() {
    const timeval patience{.tv_sec = 1, .tv_usec = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }
  bool write(std::string_view text) {
    while (!text.empty()) {
      const ssize_t done = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) return false;
      text.remove_prefix(static_cast<size_t>(done));
    }
    return true;
  }
  // More bytes into buffer(). False: the end, or broken.
  bool fill() {
    char room[16 * 1024];
    ssize_t got = 0;
    do {  // with a time-out set, the kernel starts no read again after a signal
      got = ::recv(fd_.get(), room, sizeof room, 0);
    } while (got < 0 && errno == EINTR);
    if (got <= 0) return false;
    buffer_.append(room, static_cast<size_t>(got));
    return true;
  }
  // Up to and with the empty line; empty: the end came first.
  std::string read_head() {
    for (;;) {
      if (const size_t end = buffer_.find("\r\n\r\n"); end != std::string::npos)
        return take(end + 4);
      if (!fill()) return {};
    }
  }
  std::string read_exactly(size_t count) {
    while (buffer_.size() < count) {
      if (!fill()) return take(buffer_.size());
    }
    return take(count);
  }
  std::string read_to_end() {
    while (fill()) {
    }
    return take(buffer_.size());
  }
  std::string take(size_t count) {
    std::string out = buffer_.substr(0, count);
    buffer_.erase(0, count);
    return out;
  }
  void shut() { ::shutdown(fd_.get(), SHUT_WR); }
  void reset() {  // closes with RST
    const linger now{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    fd_.reset();
  }
  void close() { fd_.reset(); }
  int fd() const { return fd_.get(); }
  std::string& buffer() { return buffer_; }

 private:
  Fd fd_;
  std::string buffer_;
};

struct Answer {
  int status = 0;  // 0: none that is valid
  std::string head{};
  std::string body{};
  bool whole = false;
  bool has(std::string_view text) const { return head.find(text) != std::string::npos; }
};

// Reads one answer, 1xx not counted.
inline Answer read_answer(Connection& connection, std::string_view method = "GET") {
  for (;;) {
    http::ResponseHead head;
    http::Parsed parsed;
    while ((parsed = http::parse(connection.buffer(), head, method)) == http::Parsed::kMore) {
      if (!connection.fill()) return {};
    }
    if (parsed == http::Parsed::kBad) return {};
    Answer answer{.status = head.code};
    const http::Framing framing = head.framing;
    const uint64_t length = head.content_length;
    answer.head = connection.take(head.bytes);
    if (answer.status < 200 && answer.status != 101) continue;
    answer.whole = true;
    if (framing == http::Framing::kLength) {
      answer.body = connection.read_exactly(length);
      answer.whole = answer.body.size() == length;
    } else if (framing == http::Framing::kUntilClose) {
      answer.body = connection.read_to_end();
    } else if (framing == http::Framing::kChunked) {
      http::ChunkedDecoder decoder;
      for (;;) {
        const auto step = decoder.decode(connection.buffer());
        answer.body += step.data;
        connection.take(step.consumed);
        if (step.parsed == http::Parsed::kDone) break;
        if (step.parsed == http::Parsed::kBad ||
            (connection.buffer().empty() && !connection.fill())) {
          answer.whole = false;
          break;
        }
      }
    }
    return answer;
  }
}

// A gate that opens once.
class Gate {
 public:
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  bool wait() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(kPatienceSeconds), [&] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

// A target: one thread a connection, that answers as the path says.
class Backend {
 public:
  using Serve = std::function<void(Connection&, Backend&)>;
  // `port`: 0 for any.
  explicit Backend(Serve serve = serve_by_path, uint16_t port = 0) : serve_(std::move(serve)) {
    auto listener = http::listen_tcp("127.0.0.1", port);
    EXPECT_TRUE(listener.has_value());
    listener_ = std::move(*listener);
    ::fcntl(listener_.get(), F_SETFL, 0);
    port_ = port_of(listener_.get());
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~Backend() { stop(); }
  void stop() {
    if (!acceptor_.joinable()) return;
    stopping_ = true;
    gate.open();
    ::shutdown(listener_.get(), SHUT_RDWR);
    acceptor_.join();
    listener_.reset();
    {
      const std::lock_guard lock(mutex_);
      for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
    }
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  uint16_t port() const { return port_; }
  void note(std::string request) {
    const std::lock_guard lock(mutex_);
    requests_.push_back(std::move(request));
    noted_.notify_all();
  }
  std::vector<std::string> requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  bool wait_for_requests(size_t count) {
    std::unique_lock lock(mutex_);
    return noted_.wait_for(lock, std::chrono::seconds(kPatienceSeconds),
                           [&] { return requests_.size() >= count; });
  }
  int connections() const { return connections_; }
  Gate gate;  // what "/wait" waits for

  static void serve_by_path(Connection& connection, Backend& backend);

 private:
  void accept_all() {
    for (;;) {
      Fd fd(::accept(listener_.get(), nullptr, nullptr));
      if (!fd || stopping_) return;
      ++connections_;
      const std::lock_guard lock(mutex_);
      open_.push_back(fd.get());
      threads_.emplace_back([this, taken = std::make_shared<Connection>(std::move(fd))] {
        const int number = taken->fd();
        serve_(*taken, *this);
        const std::lock_guard inner(mutex_);
        std::erase(open_, number);
        taken->close();
      });
    }
  }
  Serve serve_;
  Fd listener_;
  uint16_t port_ = 0;
  std::atomic<bool> stopping_ = false;
  std::atomic<int> connections_ = 0;
  std::thread acceptor_;
  std::mutex mutex_;
  std::condition_variable noted_;
  std::list<std::thread> threads_;
  std::vector<int> open_;
  std::vector<std::string> requests_;
};

inline std::string answer_with(std::string_view body, std::string_view fields = "") {
  return fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{}\r\n{}", body.size(), fields,
                     body);
}

inline void Backend::serve_by_path(Connection& connection, Backend& backend) {
  for (;;) {
    const std::string head = connection.read_head();
    if (head.empty()) return;
    http::RequestHead parsed;
    if (http::parse(head, parsed) != http::Parsed::kDone) {
      backend.note("BAD " + head);
      connection.write("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n");
      return;
    }
    const std::string path(parsed.path);
    if (path == "/early") {  // answers without reading the body
      backend.note(head);
      connection.write(answer_with("early"));
      return;
    }
    if (path == "/continue") {
      connection.write(
          "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    }
    std::string body;
    if (parsed.framing == http::Framing::kLength) {
      body = connection.read_exactly(parsed.content_length);
      if (body.size() < parsed.content_length) return;
    } else if (parsed.framing == http::Framing::kChunked) {
      http::ChunkedDecoder decoder;
      for (;;) {
        const auto step = decoder.decode(connection.buffer());
        body += step.data;
        connection.take(step.consumed);
        if (step.parsed == http::Parsed::kDone) break;
        if (step.parsed == http::Parsed::kBad) {
          backend.note("BAD CHUNK");
          return;
        }
        if (connection.buffer().empty() && !connection.fill()) return;
      }
    }
    backend.note(head + body);
    std::string answer;
    bool last = false;
    if (path == "/hello" || path == "/continue") {
      answer = answer_with("hello");
    } else if (path == "/who") {
      answer = answer_with(std::to_string(backend.port()));
    } else if (path == "/echo") {
      answer = answer_with(head + body);
    } else if (path == "/length") {
      answer = answer_with(std::to_string(body.size()));
    } else if (path == "/chunked") {
      answer =
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
          "5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 11\r\nContent-Length: 3\r\n\r\n";
    } else if (path == "/close") {
      answer = "HTTP/1.0 200 OK\r\n\r\nuntil the end";
      last = true;
    } else if (path == "/204") {
      answer = "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n";
    } else if (path == "/304") {
      answer = "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\n";
    } else if (path == "/head") {
      answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    } else if (path == "/hop") {
      answer = answer_with(
          "hop",
          "Connection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nX-Keep: 1\r\n");
    } else if (path == "/500") {
      answer = "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops";
    } else if (path == "/both") {
      answer =
          "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: "
          "chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
      last = true;
    } else if (path == "/two-lengths") {
      answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd";
      last = true;
    } else if (path == "/garbage") {
      answer = "this is not HTTP\r\n\r\n";
      last = true;
    } else if (path == "/large-head") {
      answer = "HTTP/1.1 200 OK\r\nX-Large: " + std::string(70'000, 'x') +
               "\r\nContent-Length: 0\r\n\r\n";
      last = true;
    } else if (path == "/extra") {
      answer = answer_with("hello") + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    } else if (path == "/die") {
      answer = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this";
      last = true;
    } else if (path == "/drop") {
      return;
    } else if (path == "/wait") {
      backend.gate.wait();
      answer = answer_with("waited");
    } else if (path == "/big") {
      const size_t bytes = std::stoul(std::string(parsed.query));
      std::string text(bytes, 'x');
      for (size_t i = 0; i < bytes; i += 1009) text[i] = static_cast<char>('a' + i % 26);
      answer = answer_with(text);
    } else if (path == "/upgrade") {
      connection.write(
          "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
      while (!connection.buffer().empty() || connection.fill()) {
        connection.write(connection.take(connection.buffer().size()));
      }
      connection.write("bye");
      return;
    } else {
      answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    }
    if (!connection.write(answer) || last) return;
  }
}

// An edge that serves "test.local" (unless told otherwise) from the given targets.
class Rig {
 public:
  // `certificates`: a directory of them; then there is a listener for TLS, too. `shared`: another
  // rig's listen_too().
  explicit Rig(Io io, size_t loops = 1, Times times = {}, std::string control = {},
               std::string directory = {}, std::string certificates = {}, std::string host = {},
               Fd shared = {}, std::string zone = {})
      : guard_(boost::asio::make_work_guard(context_)), thread_([this] { context_.run(); }) {
    const bool takes_over = static_cast<bool>(shared);
    auto listener = shared ? Result<Fd>(std::move(shared)) : http::listen_tcp("127.0.0.1", 0);
    EXPECT_TRUE(listener.has_value());
    listener_ = Fd(::dup(listener->get()));
    port_ = port_of(listener->get());
    Options options;
    options.http_listeners.push_back(std::move(*listener));
    if (!certificates.empty()) {
      auto secure = http::listen_tcp("127.0.0.1", 0);
      EXPECT_TRUE(secure.has_value());
      https_port_ = port_of(secure->get());
      options.https_listeners.push_back(std::move(*secure));
      options.certificates = std::move(certificates);
    }
    options.takes_over = takes_over;
    options.loops = loops;
    options.io = io;
    options.times = times;
    options.control_socket = std::move(control);
    options.directory = std::move(directory);
    options.host_socket = std::move(host);
    options.zone = std::move(zone);
    on_loop([&] {
      edge_ = std::make_unique<Edge>(std::move(options), context_.get_executor(), metrics);
      const auto started = edge_->start();
      EXPECT_TRUE(started.has_value()) << (started ? "" : started.error().message);
    });
  }
  ~Rig() { stop(Duration(100)); }
  void stop(Duration grace) {
    if (!thread_.joinable()) return;
    await([&, grace]() -> Async<> { co_await edge_->stop(grace); });
    on_loop([&] { edge_.reset(); });
    guard_.reset();
    thread_.join();
  }
  // To one that has the same listening socket; returns when no connection is left, or after
  // `limit`.
  void hand_over(Duration limit = Duration(60'000)) {
    const auto done = [this]() -> Async<Result<void>> {
      co_await edge_->hand_over();
      co_return Result<void>{};
    };
    await([&]() -> Async<> { (void)co_await within(limit, done()); });
  }
  Fd listen_too() const { return Fd(::dup(listener_.get())); }
  // What control would tell.
  void apply(link::CertificateTable table) {
    const int64_t version = table.version;
    on_loop([&] { edge_->apply(std::move(table)); });
    wait_until([&] { return report().certificates_version == version; });
  }
  void ask(link::AcmeChallenge challenge, const link::Route& route) {
    link::RouteTable table{
        .version = ++version_, .routes = {route}, .challenges = {std::move(challenge)}};
    on_loop([&] { edge_->apply(table); });
    wait_until([&] { return report().applied_version == version_; });
  }
  void reload_certificates() {
    await([&]() -> Async<> { co_await edge_->reload_certificates(); });
  }
  template <class F>
  void on_loop(F function) {
    std::promise<void> done;
    boost::asio::post(context_, [&] {
      function();
      done.set_value();
    });
    done.get_future().wait();
  }
  link::Route route(const std::vector<const Backend*>& targets) {
    link::Route route{
        .account = "1", .service = "s1", .service_name = "shop", .host_names = {"test.local"}};
    for (const Backend* target : targets) {
      route.targets.push_back({.task = TaskId{std::to_string(target->port())},
                               .address = "127.0.0.1",
                               .port = target->port()});
    }
    return route;
  }
  void apply(std::vector<link::Route> routes) {
    on_loop([&] { edge_->apply({.version = ++version_, .routes = std::move(routes)}); });
    wait_until([&] { return report().applied_version >= version_; });
  }
  link::EdgeReport report() {
    link::EdgeReport report;
    on_loop([&] { report = edge_->report(); });
    return report;
  }
  Edge::Usage usage() {
    Edge::Usage usage;
    on_loop([&] { usage = edge_->usage(); });
    return usage;
  }
  // Asks again and again; false: patience ran out.
  template <class Condition>
  static bool wait_until(Condition condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(kPatienceSeconds);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::yield();
    }
    return true;
  }
  Connection connect() const { return Connection::to(port_); }
  Answer get(std::string_view path, std::string_view fields = "") const {
    Connection client = connect();
    client.write(fmt::format("GET {} HTTP/1.1\r\nHost: test.local\r\n{}\r\n", path, fields));
    return read_answer(client);
  }
  uint16_t port() const { return port_; }
  uint16_t https_port() const { return https_port_; }
  Metrics metrics;

 private:
  // Runs a coroutine on the edge's executor, to its end.
  template <class Work>
  void await(Work work) {
    std::promise<void> done;
    AsyncScope scope(context_.get_executor());
    boost::asio::post(context_, [&] {
      scope.spawn("test", [&]() -> Async<> {
        co_await work();
        done.set_value();
      });
    });
    done.get_future().wait();
    on_loop([] {});  // it has ended, too
  }

  boost::asio::io_context context_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_;
  std::thread thread_;
  std::unique_ptr<Edge> edge_;
  Fd listener_;
  uint16_t port_ = 0;
  uint16_t https_port_ = 0;
  int64_t version_ = 0;
};

inline std::string io_test_name(const ::testing::TestParamInfo<Io>& info) {
  return info.param == Io::kUring ? "uring" : "epoll";
}
// Both backends, but io_uring only where the kernel allows it.
inline std::vector<Io> available_io() {
  if (Loop::make(Io::kUring)) return {Io::kUring, Io::kEpoll};
  return {Io::kEpoll};
}

}  // namespace hob::edge
