// TLS as programs that others wrote see it: curl and openssl.
#include "edge/tls.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cstdio>
#include <filesystem>

#include "base/certificate.h"
#include "edge/test_rig.h"

namespace hob::edge {
namespace {

using namespace std::chrono_literals;

// What a shell command prints, errors too.
std::string output_of(const std::string& command) {
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  EXPECT_NE(pipe, nullptr);
  std::string text;
  char room[4096];
  for (size_t got = 0; (got = ::fread(room, 1, sizeof room, pipe)) > 0;) text.append(room, got);
  ::pclose(pipe);
  return text;
}

// An authority, the certificates it issues and where an edge finds them.
class Authority {
 public:
  Authority() {
    std::string place = (std::filesystem::temp_directory_path() / "hob-tls-XXXXXX").string();
    EXPECT_NE(::mkdtemp(place.data()), nullptr);
    directory_ = place;
    std::filesystem::create_directory(directory_ / "certificates");
    auto made = make_authority("Hob test", "local", SystemClock().now(), 24h);
    EXPECT_TRUE(made.has_value());
    key_ = *made;
    EXPECT_TRUE(write_file_durably(ca(), key_.certificate, 0644));
  }
  ~Authority() { std::filesystem::remove_all(directory_); }
  void issue(const std::string& file, const std::vector<std::string>& names) const {
    const auto issued = issue_certificate(key_, names, SystemClock().now(), 1h);
    ASSERT_TRUE(issued.has_value());
    ASSERT_TRUE(
        write_file_durably(certificates() + "/" + file, issued->certificate + issued->key, 0600));
  }
  const CertifiedKey& key() const { return key_; }
  std::string ca() const { return (directory_ / "ca.pem").string(); }
  std::string certificates() const { return (directory_ / "certificates").string(); }
  std::string file(const std::string& name) const { return (directory_ / name).string(); }

 private:
  std::filesystem::path directory_;
  CertifiedKey key_;
};

class Tls : public ::testing::TestWithParam<Io> {
 protected:
  void SetUp() override {
    authority_.issue("a.pem", {"test.local"});
    rig_.emplace(GetParam(), 1, Times{}, "", "", authority_.certificates());
    rig_->apply({rig_->route({&backend_})});
  }
  std::string curl(const std::string& options, const std::string& path,
                   const std::string& host = "test.local") {
    return output_of(
        fmt::format("curl -sS --max-time 60 --cacert {} --resolve '*:{}:127.0.0.1' {} "
                    "'https://{}:{}{}'",
                    authority_.ca(), rig_->https_port(), options, host, rig_->https_port(), path));
  }
  // What openssl says of a connection; `input` is sent on it.
  std::string s_client(const std::string& options, const std::string& input = "") {
    return output_of(
        fmt::format("printf '{}' | timeout 60 openssl s_client -connect 127.0.0.1:{} "
                    "-servername test.local -CAfile {} -ign_eof {}",
                    input, rig_->https_port(), authority_.ca(), options));
  }

  Authority authority_;
  Backend backend_;
  std::optional<Rig> rig_;
};

constexpr const char* kGetAndClose =
    "GET /hello HTTP/1.1\\r\\nHost: test.local\\r\\nConnection: close\\r\\n\\r\\n";

TEST_P(Tls, ServesByBothVersions) {
  for (const char* version : {"--tlsv1.2 --tls-max 1.2", "--tlsv1.3"}) {
    const std::string seen =
        curl(fmt::format("{} -w '%{{http_version}} %{{ssl_verify_result}}'", version), "/echo");
    EXPECT_NE(seen.find("X-Forwarded-Proto: https"), std::string::npos) << seen;
    EXPECT_NE(seen.find(fmt::format("X-Forwarded-Port: {}", rig_->https_port())),
              std::string::npos);
    EXPECT_TRUE(seen.ends_with("2 0")) << seen;
  }
  EXPECT_EQ(rig_->get("/hello").body, "hello") << "plain HTTP beside it";
}

TEST_P(Tls, CarriesHttp1AndHttp2) {
  EXPECT_EQ(curl("--http1.1 -w ' %{http_version}'", "/hello"), "hello 1.1");
  EXPECT_EQ(curl("--http2 -w ' %{http_version}'", "/hello"), "hello 2");
  EXPECT_EQ(curl("--http2", "/big?5000000").size(), 5'000'000u);
  EXPECT_EQ(curl("--http2 -o /dev/null -w '%{http_code}' -H 'Host: other.local'", "/hello"), "421");
  const std::string h2load =
      output_of(fmt::format("timeout 120 h2load -n 2000 -c 4 -m 32 --connect-to 127.0.0.1:{0} "
                            "https://test.local:{0}/hello",
                            rig_->https_port()));
  EXPECT_NE(h2load.find("2000 succeeded, 0 failed"), std::string::npos) << h2load;
  EXPECT_NE(h2load.find("Application protocol: h2"), std::string::npos) << h2load;
}

TEST_P(Tls, CarriesMuchBothWays) {
  EXPECT_EQ(curl("--http1.1", "/big?5000000").size(), 5'000'000u);
  std::string text(3'000'000, 'y');
  ASSERT_TRUE(write_file_durably(authority_.file("body"), text, 0600));
  EXPECT_EQ(curl("--http1.1 --data-binary @" + authority_.file("body"), "/length"), "3000000");
  // Three on one connection.
  EXPECT_EQ(
      curl(fmt::format("--http1.1 https://test.local:{0}/hello https://test.local:{0}/chunked",
                       rig_->https_port()),
           "/hello"),
      "hellohello worldhello");
  EXPECT_TRUE(Rig::wait_until([&] { return rig_->usage().connections == 0; }));
}

TEST_P(Tls, RefusesWhatIsOld) {
  struct Case {
    const char* options;
    const char* wanted;
  };
  for (const Case& c : {
           Case{"-tls1_1 -cipher ALL:@SECLEVEL=0", "alert protocol version"},
           Case{"-tls1 -cipher ALL:@SECLEVEL=0", "alert protocol version"},
           Case{"-tls1_2 -cipher AES128-SHA", "alert handshake failure"},
           Case{"-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA256", "alert handshake failure"},
           Case{"-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256",
                "Cipher is ECDHE-ECDSA-AES128-GCM"},
           Case{"-tls1_3", "Cipher is TLS_"},
           Case{"-alpn gopher", "alert no application protocol"},
           Case{"-alpn http/1.1", "ALPN protocol: http/1.1"},
           // A handshake is all there is of the first; what follows must not be compressed or
           // negotiated anew.
           Case{"-tls1_2", "Compression: NONE"},
       }) {
    const std::string seen = s_client(c.options, kGetAndClose);
    EXPECT_NE(seen.find(c.wanted), std::string::npos) << c.options << "\n" << seen;
  }
}

TEST_P(Tls, ResumesSessions) {
  for (const char* version : {"-tls1_2", "-tls1_3"}) {
    const std::string session = authority_.file("session");
    const std::string first =
        s_client(fmt::format("{} -sess_out {}", version, session), kGetAndClose);
    EXPECT_NE(first.find("New, TLS"), std::string::npos) << first;
    const std::string second =
        s_client(fmt::format("{} -sess_in {}", version, session), kGetAndClose);
    EXPECT_NE(second.find("Reused, TLS"), std::string::npos) << second;
    EXPECT_NE(second.find("hello"), std::string::npos);
    EXPECT_EQ(second.find("Early data was accepted"), std::string::npos);
  }
}

TEST_P(Tls, ResumesSessionsWithWhoeverComesAfterIt) {
  const std::string directory = authority_.file("edge");
  std::filesystem::create_directory(directory);
  const auto start = [&] {
    rig_.reset();
    rig_.emplace(GetParam(), 1, Times{}, "", directory, authority_.certificates());
    rig_->apply({rig_->route({&backend_})});
  };
  for (const char* version : {"-tls1_2", "-tls1_3"}) {
    const std::string session = authority_.file("session");
    start();
    s_client(fmt::format("{} -sess_out {}", version, session), kGetAndClose);
    start();
    const std::string second =
        s_client(fmt::format("{} -sess_in {}", version, session), kGetAndClose);
    EXPECT_NE(second.find("Reused, TLS"), std::string::npos) << second;
    EXPECT_NE(second.find("hello"), std::string::npos);
  }
  const std::string path = directory + "/ticket-keys.json";
  EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms{0600});
  ASSERT_TRUE(write_file_durably(path, "broken", 0600));
  start();
  EXPECT_EQ(curl("", "/hello"), "hello");
}

TEST_P(Tls, StaplesWhatItWasToldUntilThatIsOld) {
  const auto issued = issue_certificate(authority_.key(), {"told.local"}, SystemClock().now(), 2h);
  struct Case {
    const char* staple;
    Duration life;
    const char* wanted;
  };
  int64_t version = 0;
  for (const Case& c : {
           Case{"", 1h, "no response sent"},
           Case{"AAAA", 1h, "response parse error"},  // whatever it is, it is passed on
           Case{"AAAA", -1ms, "no response sent"},
           Case{"no base64", 1h, "no response sent"},
       }) {
    rig_->apply(
        link::CertificateTable{.version = ++version,
                               .certificates = {{.id = "1",
                                                 .host_names = {"told.local"},
                                                 .certificate = issued->certificate,
                                                 .key = issued->key,
                                                 .staple = c.staple,
                                                 .staple_until = SystemClock().now() + c.life}}});
    for (const char* tls : {"-tls1_2", "-tls1_3"}) {
      const std::string seen =
          s_client(fmt::format("-servername told.local {} -status", tls), kGetAndClose);
      EXPECT_NE(seen.find(c.wanted), std::string::npos) << c.staple << tls << seen;
    }
  }
  EXPECT_EQ(s_client("", kGetAndClose).find("OCSP"), std::string::npos) << "nobody asked";
}

TEST_P(Tls, ShowsTheCertificateThatWasAskedFor) {
  authority_.issue("b.pem", {"*.wild.local", "other.local"});
  link::Route route = rig_->route({&backend_});
  route.host_names = {"test.local", "a.wild.local", "other.local", "third.local"};
  rig_->apply({route});
  rig_->reload_certificates();
  struct Case {
    const char* options;
    const char* host;
    const char* wanted;
  };
  for (const Case& c : {
           Case{"", "test.local", "hello"},
           Case{"", "a.wild.local", "hello"},
           Case{"", "OTHER.local", "hello"},
           // Of one certificate: a browser may use one connection for both.
           Case{"-H 'Host: other.local'", "a.wild.local", "hello"},
           Case{"-o /dev/null -w '%{http_code}' -H 'Host: other.local'", "test.local", "421"},
           Case{"-o /dev/null -w '%{http_code}' -H 'Host: a.a.wild.local'", "a.wild.local", "421"},
           // Not its own name, but the one it was connected for.
           Case{"-k", "third.local", "hello"},
           Case{"", "third.local", "curl: (60)"},
       }) {
    EXPECT_TRUE(curl(c.options, "/hello", c.host).starts_with(c.wanted)) << c.options << c.host;
  }
}

TEST_P(Tls, NewCertificatesLoseNoConnection) {
  // One request before they change and one after, on one connection.
  FILE* client = ::popen(
      fmt::format("timeout 60 openssl s_client -quiet -connect 127.0.0.1:{} -servername test.local "
                  "-CAfile {} > {} 2>&1",
                  rig_->https_port(), authority_.ca(), authority_.file("answers"))
          .c_str(),
      "w");
  ASSERT_NE(client, nullptr);
  std::fputs("GET /hello HTTP/1.1\r\nHost: test.local\r\n\r\n", client);
  std::fflush(client);
  ASSERT_TRUE(backend_.wait_for_requests(1));
  std::filesystem::remove(authority_.certificates() + "/a.pem");
  authority_.issue("z.pem", {"new.local", "test.local"});
  rig_->reload_certificates();
  std::fputs("GET /hello HTTP/1.1\r\nHost: test.local\r\nConnection: close\r\n\r\n", client);
  std::fflush(client);
  ASSERT_TRUE(backend_.wait_for_requests(2));
  ::pclose(client);
  const auto answers = read_file(authority_.file("answers"), 65536);
  ASSERT_TRUE(answers.has_value());
  EXPECT_NE(answers->find("Connection: close"), std::string::npos) << *answers;
  EXPECT_EQ(rig_->usage().upstream_opened, 1u);
  const std::string shown = s_client("", kGetAndClose);
  EXPECT_NE(shown.find("subject=CN = new.local"), std::string::npos) << shown;
}

TEST_P(Tls, WhatControlTellsIsShownAtOnceForTheNamesItSays) {
  const auto issue = [&](const std::vector<std::string>& names, Duration validity) {
    auto issued = issue_certificate(authority_.key(), names, SystemClock().now(), validity);
    EXPECT_TRUE(issued.has_value());
    return *issued;
  };
  const auto told = [](const std::string& id, const std::vector<std::string>& names,
                       const CertifiedKey& key) {
    return link::EdgeCertificate{
        .id = id, .host_names = names, .certificate = key.certificate, .key = key.key};
  };
  const CertifiedKey wide = issue({"*.shop.local", "*.other.local"}, 2h);
  const CertifiedKey narrow = issue({"www.shop.local"}, 2h);
  link::Route route = rig_->route({&backend_});
  route.host_names = {"test.local", "*.shop.local", "www.shop.local", "a.other.local"};
  rig_->apply({route});
  rig_->apply(link::CertificateTable{
      .version = 7,
      .certificates = {told("1", {"*.shop.local"}, wide), told("2", {"www.shop.local"}, narrow)}});
  EXPECT_EQ(rig_->report().certificates_version, 7);
  struct Case {
    const char* host;
    const char* subject;
  };
  for (const Case& c : {
           Case{"www.shop.local", "CN = www.shop.local"},
           Case{"a.shop.local", "CN = *.shop.local"},
           Case{"b.a.shop.local", "CN = test.local"},
           // The certificate has it; nobody said that it is to be shown for it.
           Case{"a.other.local", "CN = test.local"},
           Case{"test.local", "CN = test.local"},
       }) {
    const std::string seen = s_client(fmt::format("-servername {}", c.host), kGetAndClose);
    EXPECT_NE(seen.find(fmt::format("subject={}", c.subject)), std::string::npos) << c.host << seen;
  }
  EXPECT_EQ(curl("", "/hello", "a.shop.local"), "hello") << "a wildcard is routed, too";
  EXPECT_EQ(curl("-k -o /dev/null -w '%{http_code}'", "/hello", "b.a.shop.local"), "404");
  rig_->apply(link::CertificateTable{.version = 8});
  EXPECT_NE(s_client("-servername www.shop.local", kGetAndClose).find("CN = test.local"),
            std::string::npos);
}

TEST_P(Tls, WhatCannotBeUsedTakesNobodysPlace) {
  const auto told = [&](const std::string& id, const std::string& host, const CertifiedKey& key) {
    return link::EdgeCertificate{
        .id = id, .host_names = {host}, .certificate = key.certificate, .key = key.key};
  };
  const auto issue = [&](const std::string& host) {
    return issue_certificate(authority_.key(), {host}, SystemClock().now(), 2h).value();
  };
  link::Route route = rig_->route({&backend_});
  route.host_names = {"test.local", "a.shop.local", "b.shop.local"};
  rig_->apply({route});
  const CertifiedKey good = issue("*.shop.local");
  CertifiedKey wrong = issue("*.shop.local");
  wrong.key = good.key;
  const auto shown = [&](const std::string& host) {
    const std::string seen = s_client("-servername " + host, kGetAndClose);
    const size_t at = seen.find("subject=CN = ");
    return at == std::string::npos ? seen : seen.substr(at + 13, seen.find('\n', at) - at - 13);
  };
  rig_->apply(
      link::CertificateTable{.version = 1, .certificates = {told("1", "a.shop.local", good)}});
  EXPECT_EQ(shown("a.shop.local"), "*.shop.local");
  // Its successor, stored by a control that knew less: the one before is shown, for the new names.
  rig_->apply(link::CertificateTable{
      .version = 2,
      .certificates = {told("1", "b.shop.local", wrong), told("2", "a.shop.local", wrong)}});
  EXPECT_EQ(shown("b.shop.local"), "*.shop.local");
  EXPECT_EQ(shown("a.shop.local"), "test.local") << "nothing was shown under that id before";
  const CertifiedKey next = issue("b.shop.local");
  rig_->apply(
      link::CertificateTable{.version = 3, .certificates = {told("1", "b.shop.local", next)}});
  EXPECT_EQ(shown("b.shop.local"), "b.shop.local");
  rig_->apply(link::CertificateTable{.version = 4});
  EXPECT_EQ(shown("b.shop.local"), "test.local") << "what is not told any more is not kept";
}

TEST_P(Tls, AnswersAcmeServersAndNobodyElse) {
  const link::Route route = rig_->route({&backend_});
  rig_->ask({.host_name = "new.local", .token = "tok", .key_authorization = "tok.thumb"}, route);
  const auto get = [&](const std::string& host, const std::string& path) {
    return output_of(
        fmt::format("curl -sS --max-time 60 -w ' %{{http_code}}' -H 'Host: {}' "
                    "'http://127.0.0.1:{}{}'",
                    host, rig_->port(), path));
  };
  EXPECT_EQ(get("new.local", "/.well-known/acme-challenge/tok"), "tok.thumb 200");
  EXPECT_EQ(get("NEW.local:80", "/.well-known/acme-challenge/tok"), "tok.thumb 200");
  for (const char* path : {"/.well-known/acme-challenge/tok2", "/.well-known/acme-challenge/",
                           "/.well-known/acme-challenge/x/tok", "/"}) {
    EXPECT_TRUE(get("new.local", path).ends_with(" 404")) << path << " of no service yet";
  }
  // A service's own questions are its own.
  EXPECT_EQ(get("test.local", "/hello"), "hello 200");
  EXPECT_EQ(get("test.local", "/.well-known/acme-challenge/tok"), " 404");

  const std::string shown = output_of(
      fmt::format("echo | timeout 60 openssl s_client -connect 127.0.0.1:{} -servername New.local "
                  "-alpn acme-tls/1 | openssl x509 -noout -text",
                  rig_->https_port()));
  EXPECT_NE(shown.find("DNS:new.local"), std::string::npos) << shown;
  EXPECT_NE(shown.find("1.3.6.1.5.5.7.1.31: critical"), std::string::npos) << shown;
  for (const char* options :
       {"-servername test.local -alpn acme-tls/1", "-alpn acme-tls/1 -noservername",
        "-servername new.local -alpn acme-tls/1,h2"}) {
    const std::string seen =
        output_of(fmt::format("echo | timeout 60 openssl s_client -connect 127.0.0.1:{} {}",
                              rig_->https_port(), options));
    EXPECT_EQ(seen.find("ALPN protocol: acme-tls/1"), std::string::npos) << options << seen;
  }
  // What was asked lately is nobody's question now.
  rig_->apply({route});
  EXPECT_TRUE(get("new.local", "/.well-known/acme-challenge/tok").ends_with(" 404"));
  EXPECT_EQ(curl("", "/hello"), "hello");
}

TEST_P(Tls, WithoutCertificatesThereIsNoConnection) {
  std::filesystem::remove(authority_.certificates() + "/a.pem");
  ASSERT_TRUE(write_file_durably(authority_.certificates() + "/broken.pem", "no key", 0600));
  rig_->reload_certificates();
  Connection client = Connection::to(rig_->https_port());
  EXPECT_EQ(client.read_to_end(), "");
  EXPECT_EQ(rig_->get("/hello").status, 200);
}

TEST_P(Tls, WhatIsNoTlsIsTheEnd) {
  Connection http = Connection::to(rig_->https_port());
  http.write("GET / HTTP/1.1\r\nHost: test.local\r\n\r\n");
  EXPECT_EQ(http.read_to_end(), "");
  Connection garbage = Connection::to(rig_->https_port());
  garbage.write(std::string_view("\x16\x03\x01\x00\x05hello", 10));
  EXPECT_EQ(garbage.read_exactly(1), "\x15");  // an alert
}

TEST_P(Tls, AHandshakeMustEnd) {
  Rig rig(GetParam(), 1, Times{.handshake = 50}, "", "", authority_.certificates());
  Connection client = Connection::to(rig.https_port());
  client.write("\x16\x03\x01\x02");
  EXPECT_EQ(client.read_to_end(), "");
  EXPECT_TRUE(Rig::wait_until([&] { return rig.usage().connections == 0; }));
}

TEST_P(Tls, WhoLeavesManyHandshakesHalfDoneKeepsFewOthersOut) {
  // Both ends of each are in this process.
  rlimit descriptors{};
  ::getrlimit(RLIMIT_NOFILE, &descriptors);
  descriptors.rlim_cur = std::max<rlim_t>(descriptors.rlim_cur, 3 * kHandshakesMax);
  if (::setrlimit(RLIMIT_NOFILE, &descriptors) != 0) GTEST_SKIP() << "too few descriptors";
  std::vector<Connection> half_done;
  for (size_t i = 0; i < kHandshakesMax + 100; ++i) {
    half_done.push_back(Connection::to(rig_->https_port()));
    half_done.back().write("\x16\x03\x01\x02");
  }
  EXPECT_TRUE(Rig::wait_until([&] { return rig_->usage().connections == kHandshakesMax; }));
  // One of a thousand may be the one that is drawn.
  EXPECT_EQ(curl("--retry 3 --retry-all-errors", "/hello"), "hello");
  half_done.clear();
  EXPECT_TRUE(Rig::wait_until([&] { return rig_->usage().connections == 0; }));
}

INSTANTIATE_TEST_SUITE_P(Io, Tls, ::testing::ValuesIn(available_io()), io_test_name);

TEST(TicketKeys, AreRotatedAndForgottenInTime) {
  SystemRandom random;
  constexpr Instant now{1'800'000'000s};
  const TicketKeys one = ticket_keys_at(std::nullopt, random, now);
  EXPECT_FALSE(one.previous);
  EXPECT_EQ(ticket_keys_at(one, random, now + kTicketKeyLife - 1ms), one);
  const TicketKeys two = ticket_keys_at(one, random, now + kTicketKeyLife);
  EXPECT_EQ(two.previous, one.current);
  EXPECT_NE(two.current, one.current);
  EXPECT_EQ(two.made, now + kTicketKeyLife);
  const TicketKeys three = ticket_keys_at(two, random, two.made + kTicketKeyLife);
  EXPECT_EQ(three.previous, two.current) << "the first is forgotten";
  for (const Instant then : {now + 2 * kTicketKeyLife, now - 1ms}) {
    const TicketKeys fresh = ticket_keys_at(one, random, then);
    EXPECT_NE(fresh.current, one.current) << "it was switched off, or its clock went back";
    EXPECT_FALSE(fresh.previous);
  }
}

TEST(TicketKeys, AreReadAsTheyWereWritten) {
  SystemRandom random;
  constexpr Instant now{1'800'000'000s};
  const TicketKeys one = ticket_keys_at(std::nullopt, random, now);
  const TicketKeys two = ticket_keys_at(one, random, now + kTicketKeyLife);
  for (const TicketKeys& keys : {one, two}) {
    const auto read = decode_ticket_keys(encode(keys));
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(*read, keys);
  }
  for (const char* bad : {"", "{}", "[]", R"({"current":"AAAA"})"})
    EXPECT_FALSE(decode_ticket_keys(bad)) << bad;
}

}  // namespace
}  // namespace hob::edge
