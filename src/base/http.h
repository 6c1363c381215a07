// HTTP/1.1 as our own endpoints speak it: messages, the server and the client on coroutines.
//
// Not the edge's request path (that has its own loop and connections), but the same strict parser
// (http_parser.h).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/async.h"
#include "base/file.h"
#include "base/result.h"

namespace hob::http {

inline constexpr size_t kChunkBytesMax = 64 * 1024;  // what one read of a body gives at most
inline constexpr size_t kConnectionsMax = 4096;  // a server's; beyond: new ones wait in the backlog

// Fields in the order they came. Names compare without case.
class Headers {
 public:
  const std::string* find(std::string_view name) const;  // the first; nullptr: none
  std::string_view get(std::string_view name) const;     // the first; empty: none
  void add(std::string name, std::string value);
  void set(std::string_view name, std::string value);  // replaces all of that name
  void remove(std::string_view name);
  const std::vector<std::pair<std::string, std::string>>& all() const { return fields_; }

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

// A body being received.
class BodyReader {
 public:
  virtual ~BodyReader() = default;
  // The next piece (at most kChunkBytesMax); empty at the end. kUnavailable: the peer went away.
  // kInvalid: broken framing. kTimeout: the peer stalled.
  virtual Async<Result<std::string>> read() = 0;
};

// All of it. kLimit: more than `bytes_max`.
Async<Result<std::string>> read_all(BodyReader& body, size_t bytes_max);

struct Request {
  std::string method{};
  std::string target{};  // as sent: "/v2/a/blobs/uploads/?digest=x"
  std::string path{};    // before '?', still percent-encoded
  std::string query{};   // after '?', still encoded
  Headers headers{};
  std::string peer{};                   // "127.0.0.1:51234", or "unix:uid=0"
  std::optional<uint64_t> body_size{};  // nullopt: chunked
};

struct Response {
  int status = 200;
  Headers headers{};
  std::string body{};
};

// Answers one request, exactly once: respond(), or begin(), write()…, end().
class Responder {
 public:
  virtual ~Responder() = default;
  virtual Async<Result<void>> respond(Response response) = 0;
  // `size`: Content-Length; nullopt: chunked. Nothing is written to the body of a HEAD answer.
  virtual Async<Result<void>> begin(int status, Headers headers, std::optional<uint64_t> size) = 0;
  virtual Async<Result<void>> write(std::string piece) = 0;  // waits while the peer reads slowly
  virtual Async<Result<void>> end() = 0;
};

// Handles one request. What it leaves unread of the body is drained within a bound, or the
// connection closed; a handler that answers nothing gives 500.
using Handler = std::function<Async<>(const Request&, BodyReader&, Responder&)>;

struct ServerOptions {
  Duration header_timeout{10'000};  // from a request's first byte to the end of its header: 408
  Duration body_idle_timeout{60'000};
  Duration write_idle_timeout{60'000};
  Duration keep_alive{75'000};
};

// Serves on a listening socket that it is given (TCP or unix), until stop().
class Server {
 public:
  Server(Executor executor, Fd listener, Handler handler, ServerOptions options = {});
  ~Server();
  void start();
  // Accepts no more, lets running requests end for `grace`, then closes what is left.
  Async<> stop(Duration grace);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Where a client connects: "127.0.0.1", 4566; or a unix socket's path with port 0.
struct Endpoint {
  std::string host{};
  uint16_t port = 0;
};

// One request on a connection of its own; the whole answer in memory.
// kUnavailable: refused or broken off. kTimeout: not done in `timeout`. kLimit: the body is over
// `bytes_max`.
Async<Result<Response>> fetch(Endpoint endpoint, Request request, std::string body,
                              Duration timeout, size_t bytes_max);
// The same, the body given to `sink` piece by piece as it comes; an error of the sink ends it.
Async<Result<Response>> fetch_streaming(Endpoint endpoint, Request request, std::string body,
                                        Duration idle_timeout,
                                        std::function<Async<Result<void>>(std::string)> sink);

// "a%2Fb+c" -> "a/b+c" (plus_is_space: "a/b c"). nullopt: a broken escape.
enum class Plus { kLiteral, kSpace };
std::optional<std::string> percent_decode(std::string_view text, Plus plus);
// Everything but A-Z a-z 0-9 - . _ ~ is escaped, '/' too unless kept.
enum class Slash { kEscape, kKeep };
std::string percent_encode(std::string_view text, Slash slash);
// Decoded pairs of a query string or form, in order. kInvalid: a broken escape, or over 1,000
// pairs.
Result<std::vector<std::pair<std::string, std::string>>> parse_query(std::string_view query);
// "Not Found" for 404.
std::string_view reason_phrase(int status);

// A listening TCP socket on `address` ("127.0.0.1"), or a unix one (mode as given). kExists: the
// port is taken.
Result<Fd> listen_tcp(const std::string& address, uint16_t port);
Result<Fd> listen_unix(const std::string& path, unsigned mode);

}  // namespace hob::http
