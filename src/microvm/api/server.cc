#include "microvm/api/server.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace hob::microvm {

struct ApiServer::Connection {
  Connection(Fd socket, size_t body_bytes_max) : fd(std::move(socket)), parser(body_bytes_max) {}
  Fd fd;
  HttpParser parser;
  std::string unsent{};
};

ApiServer::ApiServer(Loop& loop, size_t body_bytes_max, Handler handler)
    : loop_(loop), body_bytes_max_(body_bytes_max), handler_(std::move(handler)) {}

Result<std::unique_ptr<ApiServer>> ApiServer::listen(Loop& loop, const std::string& path,
                                                     size_t body_bytes_max, Handler handler) {
  std::unique_ptr<ApiServer> server(new ApiServer(loop, body_bytes_max, std::move(handler)));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    return fail(Code::kInvalid, "the socket's path must have 1 to {} bytes",
                sizeof address.sun_path - 1);
  std::memcpy(address.sun_path, path.data(), path.size());
  server->listener_ = Fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!server->listener_) return fail_errno(errno, "making a socket");
  const int fd = server->listener_.get();
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0)
    return fail_errno(errno, "binding it");
  if (::listen(fd, static_cast<int>(kConnectionsMax)) < 0)
    return fail_errno(errno, "listening on it");
  HOB_CHECK(loop.watch(fd, EPOLLIN, [server = server.get()](uint32_t) { server->accept_all(); }));
  return server;
}

ApiServer::~ApiServer() {
  for (const auto& connection : connections_) loop_.forget(connection.first);
  loop_.forget(listener_.get());
}

void ApiServer::accept_all() {
  while (true) {
    Fd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) return;
    if (connections_.size() >= kConnectionsMax) {
      const std::string refusal = encode_too_many_connections();
      // A new socket's buffer takes so little at once.
      (void)!send(fd.get(), refusal.data(), refusal.size(), MSG_NOSIGNAL);
      continue;
    }
    const int number = fd.get();
    if (!loop_.watch(number, EPOLLIN, [this, number](uint32_t events) { ready(number, events); }))
      continue;
    connections_[number] = std::make_unique<Connection>(std::move(fd), body_bytes_max_);
  }
}

void ApiServer::ready(int fd, uint32_t events) {
  Connection& connection = *connections_.at(fd);
  bool alive = true;
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 &&
      connection.unsent.size() < kUnsentBytesMax) {
    std::array<char, 8192> bytes{};
    const ssize_t got = recv(fd, bytes.data(), bytes.size(), 0);
    if (got > 0) {
      connection.parser.feed({bytes.data(), static_cast<size_t>(got)});
      take_requests(connection);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
      alive = false;
    }
  }
  // What was left when its answers became too many.
  if (alive && (events & EPOLLOUT) != 0) take_requests(connection);
  if (alive) alive = send_some(connection);
  if (!alive) {
    loop_.forget(fd);
    connections_.erase(fd);
  }
}

void ApiServer::take_requests(Connection& connection) {
  while (connection.unsent.size() < kUnsentBytesMax) {
    switch (connection.parser.next()) {
      case HttpParser::Step::kMore:
        return;
      case HttpParser::Step::kRequest:
        connection.unsent += encode(handler_(connection.parser.request));
        break;
      case HttpParser::Step::kContinue:
        connection.unsent += "HTTP/1.1 100 \r\n\r\n";
        return;
      case HttpParser::Step::kRefused:
        connection.unsent += encode_refusal(connection.parser.reason);
        return;
    }
  }
}

bool ApiServer::send_some(Connection& connection) {
  const int fd = connection.fd.get();
  while (!connection.unsent.empty()) {
    const ssize_t sent = send(fd, connection.unsent.data(), connection.unsent.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) return false;
    if (sent < 0) break;
    connection.unsent.erase(0, static_cast<size_t>(sent));
  }
  const uint32_t reading = connection.unsent.size() < kUnsentBytesMax ? EPOLLIN : 0;
  return loop_.change(fd, reading | (connection.unsent.empty() ? 0 : EPOLLOUT)).has_value();
}

void ApiServer::flush() {
  for (const auto& connection : connections_) send_some(*connection.second);
}

}  // namespace hob::microvm
