// Our ACME client against Pebble, the test server of those who make Let's Encrypt's: it asks back by
// real connections, refuses nonces at random (5 of 100) and shuffles its URLs.
#include "certify/acme_client.h"

#include <gtest/gtest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <map>

#include "base/file.h"
#include "base/http.h"

namespace hob::certify {
namespace {

using namespace std::chrono_literals;

constexpr Duration kPatience = 60s;  // only a broken test waits for it

uint16_t free_port() {
  auto listener = http::listen_tcp("127.0.0.1", 0);
  EXPECT_TRUE(listener.has_value());
  sockaddr_in address{};
  socklen_t size = sizeof address;
  ::getsockname(listener->get(), reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

// A program that runs for as long as this lives.
class Program {
 public:
  Program(std::vector<std::string> argv, const std::string& log) {
    std::vector<char*> raw;
    for (std::string& word : argv) raw.push_back(word.data());
    raw.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ != 0) return;
    const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(out, 1);
    ::dup2(out, 2);
    ::execvp(raw[0], raw.data());
    ::_exit(127);
  }
  ~Program() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

 private:
  pid_t pid_ = -1;
};

class Acme : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string place = (std::filesystem::temp_directory_path() / "hob-acme-XXXXXX").string();
    ASSERT_NE(::mkdtemp(place.data()), nullptr);
    directory_ = place;
    const Instant now = SystemClock().now();
    const auto authority = make_authority("Hob test", "localhost", now, 24h);
    const auto server = issue_certificate(*authority, {"localhost"}, now, 1h);
    ASSERT_TRUE(write_file_durably(file("ca.pem"), authority->certificate, 0600));
    ASSERT_TRUE(write_file_durably(file("server.pem"), server->certificate, 0600));
    ASSERT_TRUE(write_file_durably(file("server.key"), server->key, 0600));
    http_port_ = free_port();
    acme_port_ = free_port();
    const uint16_t dns = free_port();
    dns_.emplace(std::vector<std::string>{"pebble-challtestsrv", "-dns01",
                                          fmt::format("127.0.0.1:{}", dns), "-http01", "",
                                          "-https01", "", "-tlsalpn01", "", "-management",
                                          fmt::format("127.0.0.1:{}", free_port()), "-defaultIPv6",
                                          ""},
                 file("dns.log"));
    ASSERT_TRUE(write_file_durably(
        file("pebble.json"),
        fmt::format(
            R"({{"pebble":{{"listenAddress":"127.0.0.1:{}","managementListenAddress":"",)"
            R"("certificate":"{}","privateKey":"{}","httpPort":{},"tlsPort":{},)"
            R"("externalAccountBindingRequired":{},"externalAccountMACKeys":{{"kid-1":"{}"}}}}}})",
            acme_port_, file("server.pem"), file("server.key"), http_port_, free_port(),
            external_ ? "true" : "false", kMacKey),
        0600));
    ::setenv("PEBBLE_VA_NOSLEEP", "1", 1);
    server_.emplace(std::vector<std::string>{"pebble", "-config", file("pebble.json"), "-strict",
                                             "-dnsserver", fmt::format("127.0.0.1:{}", dns)},
                    file("pebble.log"));
    settings_ = {.directory = fmt::format("https://localhost:{}/dir", acme_port_),
                 .contact = "admin@shop.test",
                 .ca_file = file("ca.pem")};
    account_key_ = *make_private_key();
  }
  void TearDown() override {
    if (HasFailure()) printf("%s\n", read_file(file("pebble.log"), 1 << 20).value_or("").c_str());
    server_.reset();
    dns_.reset();
    std::filesystem::remove_all(directory_);
  }
  std::string file(const std::string& name) const { return (directory_ / name).string(); }

  // Runs one order, answering its questions as an edge would.
  AcmeOutcome obtain(const std::vector<std::string>& names, bool answers = true,
                     std::optional<AcmeOrderState> resume = std::nullopt) {
    boost::asio::io_context loop(1);
    BlockingPool pool(1);
    CurlFetcher fetcher(pool);
    SystemClock clock;
    AcmeClient client(settings_, fetcher, clock);
    AcmeOutcome outcome;
    std::map<std::string, std::string> shown;
    auto listener = http::listen_tcp("127.0.0.1", http_port_);
    EXPECT_TRUE(listener.has_value());
    http::Server edge(loop.get_executor(), std::move(*listener),
                      [&](const http::Request& request, http::BodyReader&,
                          http::Responder& responder) -> Async<> {
                        const std::string host(request.headers.get("host"));
                        http::Response response;
                        response.body = shown[host.substr(0, host.find(':')) + request.path];
                        if (response.body.empty()) response.status = 404;
                        static_cast<void>(co_await responder.respond(std::move(response)));
                      });
    edge.start();
    AcmeTask task{.account_key = account_key_, .host_names = names, .resume = resume};
    task.keep = [this](AcmeOrderState state) -> Async<Result<void>> {
      kept_ = std::move(state);
      co_return Result<void>{};
    };
    task.answer = [&](std::string host, std::string token,
                      std::string authorization) -> Async<Result<void>> {
      if (!answers) co_return fail(Code::kUnavailable, "killed here");
      shown[host + "/.well-known/acme-challenge/" + token] = authorization;
      co_return Result<void>{};
    };
    boost::asio::co_spawn(
        loop,
        [&]() -> Async<> {
          // The server takes a moment to listen.
          for (Duration waited{0}; waited < kPatience; waited += 100ms) {
            FetchRequest ask{.url = settings_.directory, .ca_file = settings_.ca_file};
            if (co_await fetcher.fetch(std::move(ask))) break;
            co_await sleep_for(100ms);
          }
          outcome = co_await client.obtain(std::move(task));
          co_await edge.stop(Duration(0));
          loop.stop();
        },
        [](std::exception_ptr exception) {
          if (exception) std::rethrow_exception(exception);
        });
    loop.run();
    pool.join();
    return outcome;
  }

  static constexpr const char* kMacKey =
      "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
  std::filesystem::path directory_;
  bool external_ = false;
  uint16_t http_port_ = 0;
  uint16_t acme_port_ = 0;
  std::optional<Program> dns_;
  std::optional<Program> server_;
  AcmeSettings settings_;
  std::string account_key_;
  std::optional<AcmeOrderState> kept_;
};

TEST_F(Acme, GetsACertificateForTwoNames) {
  const AcmeOutcome outcome = obtain({"shop.test", "www.shop.test"});
  ASSERT_TRUE(outcome.certificate) << outcome.certificate.error().message;
  EXPECT_TRUE(outcome.order_over);
  const auto facts = read_certificate(outcome.certificate->certificate);
  EXPECT_EQ(facts->host_names, (std::vector<std::string>{"shop.test", "www.shop.test"}));
  EXPECT_TRUE(check_chain(*outcome.certificate, SystemClock().now()));
  EXPECT_EQ(outcome.certificate->key, kept_->key) << "the one that was kept before it was asked for";
  // Again, by the same account: a renewal.
  EXPECT_TRUE(obtain({"shop.test"}).certificate);
}

TEST_F(Acme, AnOrderThatWasKeptIsTakenUpAgain) {
  const AcmeOutcome killed = obtain({"shop.test"}, false);
  EXPECT_FALSE(killed.certificate);
  EXPECT_FALSE(killed.order_over);
  const AcmeOrderState kept = *kept_;
  kept_.reset();
  const AcmeOutcome outcome = obtain({"shop.test"}, true, kept);
  ASSERT_TRUE(outcome.certificate) << outcome.certificate.error().message;
  EXPECT_FALSE(kept_) << "no other order was made";
  EXPECT_EQ(outcome.certificate->key, kept.key);
  // Killed after that: the order is valid, and gives the certificate once more.
  EXPECT_TRUE(obtain({"shop.test"}, true, kept).certificate);
  // Another account's, or forgotten.
  const AcmeOutcome lost =
      obtain({"shop.test"}, true, AcmeOrderState{.url = kept.url + "x", .key = kept.key});
  EXPECT_FALSE(lost.certificate);
  EXPECT_TRUE(lost.order_over);
}

TEST_F(Acme, WhatTheServerRefusesIsSaid) {
  const AcmeOutcome outcome = obtain({"not_a_name"});
  ASSERT_FALSE(outcome.certificate);
  EXPECT_EQ(outcome.certificate.error().code, Code::kDenied);
  EXPECT_NE(outcome.certificate.error().message.find("illegal character"), std::string::npos)
      << outcome.certificate.error().message;
  settings_.ca_file.clear();
  const AcmeOutcome untrusted = [&] {
    boost::asio::io_context loop(1);
    BlockingPool pool(1);
    CurlFetcher fetcher(pool);
    SystemClock clock;
    AcmeClient client(settings_, fetcher, clock);
    AcmeOutcome got;
    boost::asio::co_spawn(
        loop,
        [&]() -> Async<> {
          got = co_await client.obtain(
              {.account_key = account_key_, .host_names = {"shop.test"}});
        },
        [](std::exception_ptr) {});
    loop.run();
    return got;
  }();
  EXPECT_FALSE(untrusted.certificate) << "nobody vouches for the server";
}

class ExternalAcme : public Acme {
 protected:
  void SetUp() override {
    external_ = true;
    Acme::SetUp();
  }
};

TEST_F(ExternalAcme, AnAccountOfTheAuthoritysOwnIsUsed) {
  const AcmeOutcome without = obtain({"shop.test"});
  ASSERT_FALSE(without.certificate);
  settings_.external_key_id = "kid-1";
  settings_.external_mac_key = kMacKey;
  const AcmeOutcome with = obtain({"shop.test"});
  EXPECT_TRUE(with.certificate) << with.certificate.error().message;
}

}  // namespace
}  // namespace hob::certify
