// The real ProbePort: connections from the VPC's namespace to a task.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>

#include "base/http_parser.h"
#include "host/ports.h"

namespace hob::host {

namespace asio = boost::asio;
using Socket = asio::ip::tcp::socket;

namespace {

constexpr size_t kAnswerBytesMax = http::kHeadBytesMax;
constexpr size_t kSocketTableBytesMax = 1024 * 1024;
constexpr int kStatusMin = 200;  // App Runner: any 2xx or 3xx is healthy
constexpr int kStatusMax = 399;

Async<Result<void>> ask_http(Socket& socket, std::string path, std::string authority) {
  const std::string request = fmt::format(
      "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: hob-health-check\r\nAccept: */*\r\nConnection: "
      "close\r\n\r\n",
      path, authority);
  boost::system::error_code error;
  co_await asio::async_write(socket, asio::buffer(request),
                             asio::redirect_error(asio::use_awaitable, error));
  co_await throw_if_cancelled();
  if (error) co_return fail(Code::kUnavailable, "sending: {}", error.message());
  std::string answer;
  auto head = std::make_unique<http::ResponseHead>();
  for (;;) {
    const http::Parsed parsed = http::parse(answer, *head, "GET");
    if (parsed == http::Parsed::kBad)
      co_return fail(Code::kUnavailable, "the answer is not HTTP ({})", head->error);
    if (parsed == http::Parsed::kDone) {
      if (head->code >= kStatusMin && head->code <= kStatusMax) co_return Result<void>();
      if (head->code < kStatusMin) {  // interim
        answer.erase(0, head->bytes);
        *head = {};
        continue;
      }
      co_return fail(Code::kUnavailable, "the answer was {}, 200 to 399 is healthy", head->code);
    }
    const size_t had = answer.size();
    if (had >= kAnswerBytesMax) co_return fail(Code::kUnavailable, "the answer's head is too long");
    answer.resize(had + 4096);
    const size_t got = co_await socket.async_read_some(
        asio::buffer(answer.data() + had, 4096), asio::redirect_error(asio::use_awaitable, error));
    co_await throw_if_cancelled();
    answer.resize(had + got);
    if (error == asio::error::eof)
      co_return fail(Code::kUnavailable, "the connection was closed without an answer");
    if (error) co_return fail(Code::kUnavailable, "{}", error.message());
  }
}

Async<Result<void>> ask(Socket& socket, link::Probe probe, asio::ip::tcp::endpoint to) {
  boost::system::error_code error;
  co_await socket.async_connect(to, asio::redirect_error(asio::use_awaitable, error));
  co_await throw_if_cancelled();
  if (error) co_return fail(Code::kUnavailable, "{}", error.message());
  if (probe.protocol == link::ProbeProtocol::kTcp) co_return Result<void>();
  co_return co_await ask_http(socket, probe.path,
                              fmt::format("{}:{}", to.address().to_string(), to.port()));
}

class VpcProbePort final : public ProbePort {
 public:
  explicit VpcProbePort(std::filesystem::path vpc) : vpc_(std::move(vpc)) {}

  Async<Result<void>> probe(link::Probe probe, std::string address) override {
    const std::string trying = probe.protocol == link::ProbeProtocol::kTcp
                                   ? fmt::format("TCP connect to port {}", probe.port)
                                   : fmt::format("GET {} on port {}", probe.path, probe.port);
    boost::system::error_code error;
    const auto to = asio::ip::make_address(address, error);
    if (error) co_return fail(Code::kInvalid, "{} is no address", address);
    // Made in the VPC's namespace, a socket stays there. Making it takes microseconds.
    Result<Fd> fd = network::socket_in(vpc_, []() -> Result<Fd> {
      Fd made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      if (!made) return fail_errno(errno, "socket");
      return made;
    });
    if (!fd) co_return fail(std::move(fd).error());
    Socket socket(co_await asio::this_coro::executor);
    socket.assign(asio::ip::tcp::v4(), fd->release(), error);
    if (error) co_return fail(Code::kUnavailable, "{}", error.message());
    const asio::ip::tcp::endpoint endpoint(to, static_cast<uint16_t>(probe.port));
    const Duration timeout = probe.timeout;
    Result<void> result = co_await within(timeout, ask(socket, std::move(probe), endpoint));
    if (!result && result.error().code == Code::kTimeout) {
      co_return fail(Code::kTimeout, "{}: no answer within {} ms", trying, timeout.count());
    }
    co_return context(std::move(result), "{}", trying);
  }

  ListeningPorts listening(const std::filesystem::path& handle) override {
    const std::string tcp = read_table(handle, "/proc/thread-self/net/tcp");
    return parse_listening(tcp, read_table(handle, "/proc/thread-self/net/tcp6"));
  }

 private:
  static std::string read_table(const std::filesystem::path& handle, const char* path) {
    // The table is that of the namespace in which it was opened.
    const Result<Fd> file = network::socket_in(handle, [path]() -> Result<Fd> {
      Fd opened(::open(path, O_RDONLY | O_CLOEXEC));
      if (!opened) return fail_errno(errno, path);
      return opened;
    });
    std::string text;
    char buffer[16384];
    while (file && text.size() < kSocketTableBytesMax) {
      const ssize_t got = ::read(file->get(), buffer, sizeof buffer);
      if (got <= 0) break;
      text.append(buffer, static_cast<size_t>(got));
    }
    return text;
  }

  std::filesystem::path vpc_;
};

}  // namespace

std::unique_ptr<ProbePort> make_probe_port(std::filesystem::path vpc) {
  return std::make_unique<VpcProbePort>(std::move(vpc));
}

}  // namespace hob::host
