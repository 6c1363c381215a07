#include "network/dns_forwarder.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>

#include "base/file.h"
#include "base/ids.h"
#include "base/log.h"
#include "network/dns_message.h"
#include "network/vpc.h"

namespace hob::network {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::ip::udp;

namespace {

constexpr size_t kResolvConfBytesMax = 64 * 1024;

// A bound socket inside the VPC.
Result<Fd> listen_at(const DnsForwarderOptions& options, int type) {
  return socket_in(options.vpc, [&]() -> Result<Fd> {
    Fd made(::socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!made) return fail_errno(errno, "making a DNS socket");
    const int on = 1;
    ::setsockopt(made.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    boost::system::error_code error;
    const auto address = asio::ip::make_address_v4(options.address, error);
    if (error) return fail(Code::kInvalid, "'{}' is no IPv4 address", options.address);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(options.port);
    at.sin_addr.s_addr = htonl(address.to_uint());
    if (::bind(made.get(), reinterpret_cast<const sockaddr*>(&at), sizeof(at)) != 0 ||
        (type == SOCK_STREAM && ::listen(made.get(), kDnsConnectionsMax) != 0)) {
      return fail_errno(errno,
                        fmt::format("listening for DNS at {}:{}", options.address, options.port));
    }
    return made;
  });
}

// Counts one down when it goes.
class Leave {
 public:
  explicit Leave(size_t& count) : count_(count) {}
  ~Leave() { --count_; }
  Leave(const Leave&) = delete;
  Leave& operator=(const Leave&) = delete;

 private:
  size_t& count_;
};

Error gone(const boost::system::error_code& error) {
  return {.code = Code::kUnavailable, .message = error.message()};
}

}  // namespace

class DnsForwarder::Core {
 public:
  Core(DnsForwarderOptions options, const Executor& executor)
      : options_(std::move(options)), scope_(executor), udp_(executor), tcp_(executor) {}

  Result<void> start() {
    HOB_TRY(Fd datagrams, listen_at(options_, SOCK_DGRAM));
    HOB_TRY(Fd connections, listen_at(options_, SOCK_STREAM));
    udp_.assign(udp::v4(), datagrams.release());
    tcp_.assign(tcp::v4(), connections.release());
    scope_.spawn("dns-udp", serve_udp());
    scope_.spawn("dns-tcp", serve_tcp());
    return {};
  }

  Async<> stop() {
    scope_.cancel();
    co_await scope_.join();
    boost::system::error_code ignored;
    udp_.close(ignored);
    tcp_.close(ignored);
  }

 private:
  std::vector<asio::ip::address> resolvers() const {
    std::vector<asio::ip::address> found;
    const auto text = read_file(options_.resolv_conf, kResolvConfBytesMax);
    if (!text) return found;
    for (const std::string& server : parse_resolvers(*text)) {
      boost::system::error_code error;
      const auto address = asio::ip::make_address(server, error);
      if (!error) found.push_back(address);
    }
    return found;
  }

  Async<> serve_udp() {
    std::string buffer(kDnsMessageBytesMax, '\0');
    while (true) {
      udp::endpoint client;
      boost::system::error_code error;
      const size_t size = co_await udp_.async_receive_from(
          asio::buffer(buffer), client, asio::redirect_error(asio::use_awaitable, error));
      co_await throw_if_cancelled();
      // An error here is an earlier answer's (the client is gone), not this socket's.
      if (error || queries_ >= kDnsQueriesMax) continue;
      std::string query = buffer.substr(0, size);
      if (!dns_question(query)) continue;
      ++queries_;
      scope_.spawn("dns-query", answer_datagram(std::move(query), client));
    }
  }

  Async<> answer_datagram(std::string query, udp::endpoint client) {
    const Leave leave(queries_);
    const std::string answer = co_await ask_udp(query);
    boost::system::error_code ignored;
    co_await udp_.async_send_to(asio::buffer(answer), client,
                                asio::redirect_error(asio::use_awaitable, ignored));
  }

  Async<std::string> ask_udp(std::string query) {
    for (const auto& server : resolvers()) {
      auto answer = co_await within(kDnsPatience, exchange_udp(query, server));
      if (answer) co_return std::move(*answer);
    }
    co_return dns_servfail(query);
  }

  // A socket, and so a port of its own for each question, and an id of ours: an answer is hard to
  // forge.
  Async<Result<std::string>> exchange_udp(std::string query, asio::ip::address server) {
    udp::socket socket(scope_.executor());
    const udp::endpoint resolver(server, options_.resolver_port);
    boost::system::error_code error;
    socket.open(resolver.protocol(), error);
    if (!error) socket.connect(resolver, error);
    if (error) co_return fail(gone(error));
    const uint16_t id = dns_id(query);
    uint16_t ours = 0;
    random_.fill(&ours, sizeof(ours));
    set_dns_id(query, ours);
    co_await socket.async_send(asio::buffer(query),
                               asio::redirect_error(asio::use_awaitable, error));
    std::string answer(kDnsMessageBytesMax, '\0');
    while (!error) {
      const size_t size = co_await socket.async_receive(
          asio::buffer(answer), asio::redirect_error(asio::use_awaitable, error));
      if (error || !answers_dns(query, std::string_view(answer).substr(0, size))) continue;
      answer.resize(size);
      set_dns_id(answer, id);
      co_return answer;
    }
    co_await throw_if_cancelled();
    co_return fail(gone(error));
  }

  Async<> serve_tcp() {
    while (true) {
      boost::system::error_code error;
      tcp::socket client =
          co_await tcp_.async_accept(asio::redirect_error(asio::use_awaitable, error));
      co_await throw_if_cancelled();
      if (error) {
        co_await sleep_for(Duration(100));  // out of descriptors: the backlog waits
        continue;
      }
      if (connections_ >= kDnsConnectionsMax) continue;
      ++connections_;
      scope_.spawn("dns-connection", serve_connection(std::move(client)));
    }
  }

  Async<> serve_connection(tcp::socket client) {
    const Leave leave(connections_);
    while (true) {
      auto query = co_await within(kDnsConnectionIdle, read_message(client));
      if (!query || !dns_question(*query)) co_return;
      std::string answer = dns_servfail(*query);
      for (const auto& server : resolvers()) {
        auto got = co_await within(kDnsPatience, exchange_tcp(*query, server));
        if (!got) continue;
        answer = std::move(*got);
        break;
      }
      const auto sent =
          co_await within(kDnsConnectionIdle, write_message(client, std::move(answer)));
      if (!sent) co_return;
    }
  }

  Async<Result<std::string>> exchange_tcp(std::string query, asio::ip::address server) {
    tcp::socket socket(scope_.executor());
    boost::system::error_code error;
    co_await socket.async_connect({server, options_.resolver_port},
                                  asio::redirect_error(asio::use_awaitable, error));
    co_await throw_if_cancelled();
    if (error) co_return fail(gone(error));
    HOB_CO_CHECK(co_await write_message(socket, query));
    HOB_CO_TRY(std::string answer, co_await read_message(socket));
    if (!answers_dns(query, answer))
      co_return fail(Code::kCorrupt, "the answer is to another question");
    co_return answer;
  }

  // Each message has its length in two bytes before it (RFC 1035, section 4.2.2).
  static Async<Result<std::string>> read_message(tcp::socket& socket) {
    std::array<unsigned char, 2> length{};
    boost::system::error_code error;
    co_await asio::async_read(socket, asio::buffer(length),
                              asio::redirect_error(asio::use_awaitable, error));
    co_await throw_if_cancelled();
    if (error) co_return fail(gone(error));
    std::string message(static_cast<size_t>(length[0]) << 8 | length[1], '\0');
    co_await asio::async_read(socket, asio::buffer(message),
                              asio::redirect_error(asio::use_awaitable, error));
    co_await throw_if_cancelled();
    if (error) co_return fail(gone(error));
    co_return message;
  }

  static Async<Result<void>> write_message(tcp::socket& socket, std::string message) {
    HOB_ASSERT(message.size() <= kDnsMessageBytesMax);
    const std::array<unsigned char, 2> length = {static_cast<unsigned char>(message.size() >> 8),
                                                 static_cast<unsigned char>(message.size() & 0xff)};
    message.insert(0, reinterpret_cast<const char*>(length.data()), length.size());
    boost::system::error_code error;
    co_await asio::async_write(socket, asio::buffer(message),
                               asio::redirect_error(asio::use_awaitable, error));
    co_await throw_if_cancelled();
    if (error) co_return fail(gone(error));
    co_return Result<void>{};
  }

  DnsForwarderOptions options_;
  AsyncScope scope_;
  udp::socket udp_;
  tcp::acceptor tcp_;
  SystemRandom random_;
  size_t queries_ = 0;
  size_t connections_ = 0;
};

DnsForwarder::DnsForwarder(DnsForwarderOptions options, const Executor& executor)
    : core_(std::make_unique<Core>(std::move(options), executor)) {}
DnsForwarder::~DnsForwarder() = default;
Result<void> DnsForwarder::start() { return core_->start(); }
Async<> DnsForwarder::stop() { return core_->stop(); }

}  // namespace hob::network
