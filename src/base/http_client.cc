#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>

#include "base/http.h"
#include "base/http_wire.h"

namespace hob::http {

namespace asio = boost::asio;

namespace {

constexpr int kInterimResponsesMax = 10;  // 1xx before the answer
constexpr size_t kSunPathMax = 107;

bool is_localhost(std::string_view host) {
  return host == "localhost" || host.ends_with(".localhost");
}

Result<asio::generic::stream_protocol::endpoint> resolve(const Endpoint& endpoint) {
  if (endpoint.port == 0) {
    if (endpoint.host.size() > kSunPathMax)
      return fail(Code::kInvalid, "{}: the path is too long", endpoint.host);
    return asio::local::stream_protocol::endpoint(endpoint.host);
  }
  boost::system::error_code error;
  const auto address = is_localhost(endpoint.host)
                           ? asio::ip::address(asio::ip::address_v4::loopback())
                           : asio::ip::make_address(endpoint.host, error);
  if (error) return fail(Code::kInvalid, "{} is not an IP address", endpoint.host);
  return asio::ip::tcp::endpoint(address, endpoint.port);
}

std::string write_head(const Endpoint& endpoint, const Request& request, size_t body_size) {
  std::string target = request.target;
  if (target.empty())
    target = request.query.empty() ? request.path : request.path + "?" + request.query;
  if (target.empty()) target = "/";
  std::string out =
      fmt::format("{} {} HTTP/1.1\r\n", request.method.empty() ? "GET" : request.method, target);
  if (request.headers.find("host") == nullptr) {
    const std::string host =
        endpoint.host.find(':') != std::string::npos ? "[" + endpoint.host + "]" : endpoint.host;
    append_field(out, "Host",
                 endpoint.port == 0 ? "localhost" : fmt::format("{}:{}", host, endpoint.port));
  }
  for (const auto& [name, value] : request.headers.all()) {
    if (equal_without_case(name, "content-length") ||
        equal_without_case(name, "transfer-encoding") || equal_without_case(name, "connection")) {
      continue;
    }
    append_field(out, name, value);
  }
  const bool expects_body =
      request.method == "POST" || request.method == "PUT" || request.method == "PATCH";
  if (body_size > 0 || expects_body)
    append_field(out, "Content-Length", fmt::format("{}", body_size));
  append_field(out, "Connection", "close");
  out += "\r\n";
  return out;
}

using Sink = std::function<Async<Result<void>>(std::string)>;

// Reads the answer's head; what follows it stays on the wire.
Async<Result<Response>> read_head(Wire& wire, std::string method, Duration idle,
                                  ResponseHead& head) {
  for (int interim = 0; interim <= kInterimResponsesMax; ++interim) {
    head = {};
    Parsed parsed = Parsed::kMore;
    while ((parsed = parse(wire.buffered(), head, method)) == Parsed::kMore) {
      HOB_CO_TRY(const bool more, co_await wire.fill(idle));
      if (!more) co_return fail(Code::kUnavailable, "the peer closed before it answered");
    }
    if (parsed == Parsed::kBad)
      co_return fail(Code::kInvalid, "the answer is not HTTP: {}", head.error);
    if (head.code >= 200 || head.code == 101) {
      Response response{.status = head.code};
      for (size_t i = 0; i < head.field_count; ++i) {
        response.headers.add(std::string(head.fields[i].name), std::string(head.fields[i].value));
      }
      wire.take(head.bytes);
      co_return response;
    }
    wire.take(head.bytes);
  }
  co_return fail(Code::kInvalid, "over {} interim answers", kInterimResponsesMax);
}

Async<Result<Response>> exchange(Endpoint endpoint, Request request, std::string body,
                                 Duration idle, Sink sink) {
  HOB_CO_TRY(const auto address, resolve(endpoint));
  Socket socket(co_await asio::this_coro::executor);
  boost::system::error_code error;
  socket.open(address.protocol(), error);
  if (error) co_return fail(Code::kUnavailable, "opening a socket: {}", error.message());
  const auto connect = [](Socket& s, Wire& w, auto to) -> Async<Result<void>> {
    boost::system::error_code failed;
    co_await s.async_connect(to, asio::redirect_error(asio::use_awaitable, failed));
    co_await throw_if_cancelled();
    (void)w;
    if (failed) co_return fail(Code::kUnavailable, "connecting: {}", failed.message());
    co_return Result<void>();
  };
  Wire wire(std::move(socket));
  HOB_CO_CHECK(co_await within(idle, connect(wire.socket(), wire, address)));
  const int one = 1;
  if (endpoint.port != 0)
    setsockopt(wire.socket().native_handle(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  std::string out = write_head(endpoint, request, body.size());
  out += body;
  // A server may refuse without reading all: its answer counts, not our failed write.
  const Result<void> written = co_await wire.write(std::move(out), idle);
  auto head = std::make_unique<ResponseHead>();
  Result<Response> response = co_await read_head(wire, request.method, idle, *head);
  if (!response && !written) co_return fail(written.error());
  if (!response) co_return response;
  WireBody reader(wire, head->framing, head->content_length, idle, false);
  head.reset();
  for (;;) {
    HOB_CO_TRY(std::string piece, co_await reader.read());
    if (piece.empty()) co_return response;
    HOB_CO_CHECK(co_await sink(std::move(piece)));
  }
}

std::string name_of(const Endpoint& endpoint) {
  return endpoint.port == 0 ? endpoint.host : fmt::format("{}:{}", endpoint.host, endpoint.port);
}

}  // namespace

Async<Result<Response>> fetch(Endpoint endpoint, Request request, std::string body,
                              Duration timeout, size_t bytes_max) {
  const std::string name = name_of(endpoint);
  std::string content;
  const Sink keep = [&content, bytes_max](std::string piece) -> Async<Result<void>> {
    if (piece.size() > bytes_max - content.size())
      co_return fail(Code::kLimit, "the answer is over {} bytes", bytes_max);
    content += piece;
    co_return Result<void>();
  };
  Async<Result<Response>> work =
      exchange(std::move(endpoint), std::move(request), std::move(body), timeout, keep);
  Result<Response> response = co_await within(timeout, std::move(work));
  if (response) response->body = std::move(content);
  co_return context(std::move(response), "{}", name);
}

Async<Result<Response>> fetch_streaming(Endpoint endpoint, Request request, std::string body,
                                        Duration idle_timeout, Sink sink) {
  const std::string name = name_of(endpoint);
  Result<Response> response = co_await exchange(std::move(endpoint), std::move(request),
                                                std::move(body), idle_timeout, std::move(sink));
  co_return context(std::move(response), "{}", name);
}

}  // namespace hob::http
