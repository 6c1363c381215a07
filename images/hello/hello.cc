// The sample image: a small static web server without a dependency, one thread, one epoll.
//
//   /            a page that says who answers     /healthz    "ok"
//   /env?NAME    the value of a variable           /wait?ms=N  answers after N milliseconds (at
//   most a minute) /echo        the request's body
// Listens on $PORT (default 8080). SIGTERM: accepts no more, finishes what was asked, exits with 0.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr size_t kHeadBytesMax = 64 * 1024;        // request line and headers; beyond: 431
constexpr size_t kBodyBytesMax = 4 * 1024 * 1024;  // beyond: 413
constexpr int kConnectionsMax = 8192;
constexpr long kWaitMax = 60'000;  // ms

using Clock = std::chrono::steady_clock;

struct Request {
  std::string method{};
  std::string path{};
  std::string query{};
  std::vector<std::pair<std::string, std::string>> headers{};
  std::string body{};
  bool keep_alive = true;
};

struct Connection {
  int fd = -1;
  std::string in{};
  std::string out{};
  bool close_after = false;
  std::optional<Clock::time_point> answer_at{};  // a /wait that is being waited for
  std::string waiting{};
  bool writing = false;
};

bool same_name(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (tolower(static_cast<unsigned char>(a[i])) != tolower(static_cast<unsigned char>(b[i])))
      return false;
  }
  return true;
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '&')
      out += "&amp;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

std::string answer(int status, std::string_view reason, std::string_view type,
                   std::string_view body, bool keep, bool head = false) {
  std::string out = "HTTP/1.1 " + std::to_string(status) + " ";
  out.append(reason).append("\r\nContent-Type: ").append(type).append("\r\nContent-Length: ");
  out += std::to_string(body.size());
  out += keep ? "\r\n\r\n" : "\r\nConnection: close\r\n\r\n";
  if (!head) out.append(body);
  return out;
}

std::string host_name() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  return name;
}

std::string page(const Request& request) {
  const char* set = getenv("HELLO_NAME");
  const std::string name = set != nullptr && *set != '\0' ? set : "Hob";
  std::string rows;
  for (const auto& [key, value] : request.headers) {
    rows += "<tr><th>" + escaped(key) + "</th><td>" + escaped(value) + "</td></tr>";
  }
  return "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
         "content='width=device-width'>"
         "<title>Hello from " +
         escaped(name) +
         "</title><style>"
         "body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:12vh auto;padding:0 "
         "1.5rem;color:#223}"
         "h1{font-size:2.4rem;margin:0}p{color:#556}table{font-size:.85rem;border-collapse:"
         "collapse;width:100%}"
         "th{text-align:left;padding:.2rem 1rem .2rem "
         "0;color:#778;font-weight:500;vertical-align:top}"
         "td{word-break:break-all}@media(prefers-color-scheme:dark){body{background:#14161a;color:#"
         "dde}p{color:#99a}}"
         "</style><h1>Hello from " +
         escaped(name) +
         "</h1><p>Your image is a running service. This page was "
         "answered by <b>" +
         escaped(host_name()) + "</b>.</p><table>" + rows + "</table></html>\n";
}

std::string query_value(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(pair.size() == query.size() ? pair.size() : pair.size() + 1);
    if (pair.starts_with(name) && pair.size() > name.size() && pair[name.size()] == '=') {
      return std::string(pair.substr(name.size() + 1));
    }
  }
  return {};
}

// What became of the bytes received so far.
enum class Parsed { kIncomplete, kRequest, kRefused };

// Takes one request off the front of `in`; when refused, `refusal` is the answer and the connection
// is to be closed.
Parsed parse(std::string& in, Request& request, std::string& refusal) {
  const size_t end = in.find("\r\n\r\n");
  if (end == std::string::npos) {
    if (in.size() <= kHeadBytesMax) return Parsed::kIncomplete;
    refusal = answer(431, "Request Header Fields Too Large", "text/plain",
                     "The header is too large.\n", false);
    return Parsed::kRefused;
  }
  const std::string_view head = std::string_view(in).substr(0, end);
  const std::string_view line = head.substr(0, head.find("\r\n"));
  const size_t first = line.find(' ');
  const size_t second = line.rfind(' ');
  const std::string_view version = second == std::string_view::npos ? "" : line.substr(second + 1);
  refusal = answer(400, "Bad Request", "text/plain", "That is no HTTP/1.1 request.\n", false);
  if (first == std::string_view::npos || second <= first || !version.starts_with("HTTP/1."))
    return Parsed::kRefused;
  request.method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, second - first - 1);
  const size_t mark = target.find('?');
  request.path = target.substr(0, mark);
  if (mark != std::string_view::npos) request.query = target.substr(mark + 1);
  request.keep_alive = version == "HTTP/1.1";

  size_t body_bytes = 0;
  for (size_t at = line.size() + 2; at < head.size();) {
    const std::string_view field = head.substr(at, head.find("\r\n", at) - at);
    at += field.size() + 2;
    const size_t colon = field.find(':');
    if (colon == std::string_view::npos || colon == 0) return Parsed::kRefused;
    std::string_view value = field.substr(colon + 1);
    while (!value.empty() && (value.front() == ' ' || value.front() == '\t'))
      value.remove_prefix(1);
    while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.remove_suffix(1);
    const std::string name(field.substr(0, colon));
    if (same_name(name, "content-length")) {
      if (value.empty() || value.size() > 9 ||
          value.find_first_not_of("0123456789") != std::string_view::npos) {
        return Parsed::kRefused;
      }
      body_bytes = std::stoul(std::string(value));
    } else if (same_name(name, "transfer-encoding")) {
      refusal = answer(411, "Length Required", "text/plain", "Send a Content-Length.\n", false);
      return Parsed::kRefused;
    } else if (same_name(name, "connection")) {
      if (same_name(value, "close")) request.keep_alive = false;
      if (same_name(value, "keep-alive")) request.keep_alive = true;
    }
    request.headers.emplace_back(name, value);
  }
  if (body_bytes > kBodyBytesMax) {
    refusal = answer(413, "Content Too Large", "text/plain", "The body is too large.\n", false);
    return Parsed::kRefused;
  }
  const size_t whole = end + 4 + body_bytes;
  if (in.size() < whole) return Parsed::kIncomplete;
  request.body = in.substr(end + 4, body_bytes);
  in.erase(0, whole);
  return Parsed::kRequest;
}

class Server {
 public:
  explicit Server(int listener, int signals) : listener_(listener), signals_(signals) {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    watch(listener_, EPOLLIN, EPOLL_CTL_ADD);
    watch(signals_, EPOLLIN, EPOLL_CTL_ADD);
  }

  void run() {
    epoll_event events[256];
    while (!(stopping_ && connections_.empty())) {
      const int count = epoll_wait(epoll_, events, 256, next_wait());
      if (count < 0 && errno != EINTR) return;
      for (int i = 0; i < count; ++i) {
        const int fd = events[i].data.fd;
        if (fd == listener_)
          accept_all();
        else if (fd == signals_)
          stop();
        else if (connections_.contains(fd))
          serve(fd, events[i].events);
      }
      answer_waiting();
    }
  }

 private:
  void watch(int fd, uint32_t what, int operation) {
    epoll_event event{};
    event.events = what;
    event.data.fd = fd;
    epoll_ctl(epoll_, operation, fd, &event);
  }

  void accept_all() {
    while (connections_.size() < kConnectionsMax) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      auto connection = std::make_unique<Connection>();
      connection->fd = fd;
      connections_.emplace(fd, std::move(connection));
      watch(fd, EPOLLIN, EPOLL_CTL_ADD);
    }
  }

  void stop() {
    signalfd_siginfo info{};
    if (read(signals_, &info, sizeof info) < 0 || stopping_) return;
    stopping_ = true;
    puts("stopping");
    // Connections that wait in the backlog were promised an answer.
    accept_all();
    close(listener_);
    std::vector<int> idle;
    for (auto& [fd, connection] : connections_) {
      read_some(*connection);
      handle(*connection);
      if (connection->out.empty() && !connection->answer_at && connection->in.empty())
        idle.push_back(fd);
      else
        flush(*connection);
    }
    for (const int fd : idle) drop(fd);
  }

  void drop(int fd) {
    close(fd);
    connections_.erase(fd);
  }

  // False: the peer has gone.
  static bool read_some(Connection& connection) {
    char buffer[16384];
    while (true) {
      const ssize_t got = recv(connection.fd, buffer, sizeof buffer, 0);
      if (got > 0)
        connection.in.append(buffer, static_cast<size_t>(got));
      else
        return got < 0 && (errno == EAGAIN || errno == EINTR);
      if (connection.in.size() > kHeadBytesMax + kBodyBytesMax) return false;
    }
  }

  void serve(int fd, uint32_t what) {
    Connection& connection = *connections_.at(fd);
    bool alive = (what & (EPOLLERR | EPOLLHUP)) == 0;
    if (alive && (what & EPOLLIN) != 0) alive = read_some(connection);
    if (alive || !connection.in.empty()) handle(connection);
    if (!flush(connection) || (!alive && connection.out.empty() && !connection.answer_at))
      drop(fd);
    else if (!alive)
      drop(fd);
  }

  // Answers every whole request received.
  void handle(Connection& connection) {
    while (!connection.close_after && !connection.answer_at) {
      Request request;
      std::string refusal;
      const Parsed parsed = parse(connection.in, request, refusal);
      if (parsed == Parsed::kIncomplete) return;
      if (parsed == Parsed::kRefused) {
        connection.out += refusal;
        connection.close_after = true;
        return;
      }
      const bool keep = request.keep_alive && !stopping_;
      const bool head = request.method == "HEAD";
      if (request.path == "/wait") {
        const long ms =
            std::min(kWaitMax, std::max(0L, atol(query_value(request.query, "ms").c_str())));
        connection.answer_at = Clock::now() + std::chrono::milliseconds(ms);
        connection.waiting = answer(200, "OK", "text/plain", "waited\n", keep, head);
        connection.close_after = false;
        waits_close_[connection.fd] = !keep;
        return;
      }
      connection.out += respond(request, keep, head);
      connection.close_after = !keep;
    }
  }

  static std::string respond(const Request& request, bool keep, bool head) {
    if (request.path == "/healthz") return answer(200, "OK", "text/plain", "ok\n", keep, head);
    if (request.path == "/echo") {
      return answer(200, "OK", "application/octet-stream", request.body, keep, head);
    }
    if (request.path == "/env") {
      const char* value = getenv(request.query.c_str());
      if (value == nullptr) return answer(404, "Not Found", "text/plain", "not set\n", keep, head);
      return answer(200, "OK", "text/plain", std::string(value) + "\n", keep, head);
    }
    if (request.path == "/") {
      printf("%s %s\n", request.method.c_str(), request.path.c_str());
      return answer(200, "OK", "text/html; charset=utf-8", page(request), keep, head);
    }
    return answer(404, "Not Found", "text/plain", "There is no such page here.\n", keep, head);
  }

  void answer_waiting() {
    const auto now = Clock::now();
    std::vector<int> done;
    for (auto& [fd, connection] : connections_) {
      if (!connection->answer_at || *connection->answer_at > now) continue;
      connection->answer_at.reset();
      connection->out += std::move(connection->waiting);
      connection->close_after = waits_close_[fd] || stopping_;
      waits_close_.erase(fd);
      handle(*connection);
      if (!flush(*connection)) done.push_back(fd);
    }
    for (const int fd : done) drop(fd);
  }

  int next_wait() const {
    int wait = -1;
    for (const auto& [fd, connection] : connections_) {
      if (!connection->answer_at) continue;
      const auto left =
          std::chrono::ceil<std::chrono::milliseconds>(*connection->answer_at - Clock::now())
              .count();
      const int ms = left < 0 ? 0 : static_cast<int>(left);
      if (wait < 0 || ms < wait) wait = ms;
    }
    return wait;
  }

  // Writes what it can; false: all is said, or nobody listens, and the connection is to be dropped.
  bool flush(Connection& connection) {
    while (!connection.out.empty()) {
      const ssize_t sent =
          send(connection.fd, connection.out.data(), connection.out.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EAGAIN) {
        if (!connection.writing) watch(connection.fd, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
        connection.writing = true;
        return true;
      }
      if (sent < 0) return false;
      connection.out.erase(0, static_cast<size_t>(sent));
    }
    if (connection.writing) watch(connection.fd, EPOLLIN, EPOLL_CTL_MOD);
    connection.writing = false;
    if (connection.answer_at) return true;
    return !connection.close_after && !(stopping_ && connection.in.empty());
  }

  int listener_;
  int signals_;
  int epoll_ = -1;
  bool stopping_ = false;
  std::map<int, std::unique_ptr<Connection>> connections_;
  std::map<int, bool> waits_close_;
};

}  // namespace

int main() {
  setvbuf(stdout, nullptr, _IOLBF, 0);
  const char* set = getenv("PORT");
  const int port = set != nullptr ? atoi(set) : 8080;
  if (port < 1 || port > 65535) {
    fprintf(stderr, "PORT is %s; it must be a number from 1 to 65535\n", set);
    return 1;
  }
  // PID 1 of a container has no default signal actions: without this SIGTERM would be ignored.
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGTERM);
  sigaddset(&mask, SIGINT);
  sigprocmask(SIG_BLOCK, &mask, nullptr);
  const int signals = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);

  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener, 1024) != 0) {
    fprintf(stderr, "cannot listen on port %d: %s\n", port, strerror(errno));
    return 1;
  }
  printf("hello: listening on port %d\n", port);
  Server(listener, signals).run();
  puts("bye");
  return 0;
}
