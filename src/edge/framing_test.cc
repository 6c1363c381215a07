// Where a request ends must be seen alike by everybody: the rules of RFC 9112 and ours (facts: 400
// and close from what is merely ambiguous), each over every split of the input into two reads.
#include "edge/test_rig.h"

namespace hob::edge {
namespace {

class FramingTest : public ::testing::TestWithParam<Io> {};
INSTANTIATE_TEST_SUITE_P(Io, FramingTest, ::testing::ValuesIn(available_io()), io_test_name);

struct Case {
  const char* name;
  std::string input;
  int status;
  size_t passed_on = 0;  // requests the target saw
};

std::string with(std::string_view fields, std::string_view rest = "") {
  return fmt::format("POST /hello HTTP/1.1\r\nHost: test.local\r\n{}\r\n{}", fields, rest);
}

std::vector<Case> cases() {
  using std::string_literals::operator""s;
  return {
      {"plain", with("Connection: close\r\n"), 200, 1},
      {"a length", with("Connection: close\r\nContent-Length: 3\r\n", "abc"), 200, 1},
      {"length and coding",
       with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
      {"equal lengths", with("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), 400},
      {"a list of lengths", with("Content-Length: 3, 3\r\n", "abc"), 400},
      {"differing lengths", with("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"), 400},
      {"a signed length", with("Content-Length: +3\r\n", "abc"), 400},
      {"an empty length", with("Content-Length: \r\n"), 400},
      {"a huge length", with("Content-Length: 9223372036854775808\r\n"), 400},
      {"chunked",
       with("Connection: close\r\nTransfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"), 200,
       1},
      {"chunked in capitals",
       with("Connection: close\r\nTransfer-Encoding: CHUNKED\r\n", "0\r\n\r\n"), 200, 1},
      {"chunked not last", with("Transfer-Encoding: chunked, gzip\r\n"), 400},
      {"chunked twice", with("Transfer-Encoding: chunked, chunked\r\n"), 400},
      {"two codings fields", with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
       400},
      {"another coding first", with("Transfer-Encoding: gzip, chunked\r\n"), 501},
      {"identity", with("Transfer-Encoding: identity\r\n"), 400},
      {"a coding with a vertical tab", with("Transfer-Encoding: \x0b"s + "chunked\r\n"), 400},
      {"a coding in HTTP/1.0",
       "POST / HTTP/1.0\r\nHost: test.local\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"a blank before the colon", with("X-A : 1\r\n"), 400},
      {"a folded line", with("X-A: 1\r\n 2\r\n"), 400},
      {"a bare CR", with("X-A: 1\r2\r\n"), 400},
      {"a bare LF", with("X-A: 1\nX-B: 2\r\n"), 400},
      {"bare LFs all along", "GET / HTTP/1.1\nHost: test.local\n\n", 400},
      {"a NUL", with("X-A: 1\0\r\n"s), 400},
      {"no colon", with("X-A\r\n"), 400},
      {"no name", with(": 1\r\n"), 400},
      {"a name with a blank", with("X A: 1\r\n"), 400},
      {"two empty lines first", "\r\n\r\n" + with("Connection: close\r\n"), 200, 1},
      {"three empty lines first", "\r\n\r\n\r\n" + with("Connection: close\r\n"), 400},
      {"no host", "GET / HTTP/1.1\r\n\r\n", 400},
      {"an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
      {"two hosts", with("Host: test.local\r\n"), 400},
      {"a host with a path", "GET / HTTP/1.1\r\nHost: test.local/x\r\n\r\n", 400},
      {"a host with user information", "GET / HTTP/1.1\r\nHost: a@test.local\r\n\r\n", 400},
      {"absolute form overrides Host",
       "GET http://test.local/hello HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n", 200, 1},
      {"authority form", "GET test.local:80 HTTP/1.1\r\nHost: test.local\r\n\r\n", 400},
      {"CONNECT", "CONNECT test.local:80 HTTP/1.1\r\nHost: test.local\r\n\r\n", 405},
      {"* for another method", "GET * HTTP/1.1\r\nHost: test.local\r\n\r\n", 400},
      {"a blank in the target", "GET /a b HTTP/1.1\r\nHost: test.local\r\n\r\n", 400},
      {"a fragment", "GET /a#b HTTP/1.1\r\nHost: test.local\r\n\r\n", 400},
      {"two blanks", "GET  / HTTP/1.1\r\nHost: test.local\r\n\r\n", 400},
      {"no version", "GET /\r\nHost: test.local\r\n\r\n", 400},
      {"HTTP/2.0", "GET / HTTP/2.0\r\nHost: test.local\r\n\r\n", 505},
      {"lower-case version", "GET / http/1.1\r\nHost: test.local\r\n\r\n", 400},
      {"Connection names Host", with("Connection: close, Host\r\n"), 400},
      {"Connection names Content-Length",
       with("Connection: Content-Length\r\nContent-Length: 1\r\n", "a"), 400},
      {"Connection names a forwarded field", with("Connection: X-Forwarded-For\r\n"), 400},
      {"a TLS hello", "\x16\x03\x01\x02"s, 400},
      // The head was good and has gone on when the body turns out bad: the target sees a request
      // cut short.
      {"a chunk size that is not hex", with("Transfer-Encoding: chunked\r\n", "g\r\n"), 400},
      {"an empty chunk size", with("Transfer-Encoding: chunked\r\n", "\r\n"), 400},
      {"a blank after the size", with("Transfer-Encoding: chunked\r\n", "3 \r\nabc\r\n0\r\n\r\n"),
       400},
      {"a size with 0x", with("Transfer-Encoding: chunked\r\n", "0x3\r\nabc\r\n0\r\n\r\n"), 400},
      {"a size of 17 digits",
       with("Transfer-Encoding: chunked\r\n", "00000000000000003\r\nabc\r\n"), 400},
      {"a size above 2^63", with("Transfer-Encoding: chunked\r\n", "8000000000000000\r\n"), 400},
      {"a size that ends in LF", with("Transfer-Encoding: chunked\r\n", "3\nabc\r\n0\r\n\r\n"),
       400},
      {"a chunk longer than its size",
       with("Transfer-Encoding: chunked\r\n", "3\r\nabcd\r\n0\r\n\r\n"), 400},
      {"an extension too long",
       with("Transfer-Encoding: chunked\r\n", "3;" + std::string(257, 'x') + "\r\n"), 400},
      {"a trailer without a colon", with("Transfer-Encoding: chunked\r\n", "0\r\nX\r\n\r\n"), 400},
  };
}

// What the target saw of whole requests, after the client has read its answer to the end.
TEST_P(FramingTest, SeesEachInputAlikeHoweverItIsCut) {
  for (const Case& c : cases()) {
    Backend backend;
    Rig rig(GetParam());
    rig.apply({rig.route({&backend})});
    size_t runs = 0;
    // Every split of short inputs, every seventh of the longer ones.
    for (size_t split = 0; split < c.input.size(); split += c.input.size() > 150 ? 7 : 1) {
      Connection client = rig.connect();
      client.write(std::string_view(c.input).substr(0, split));
      client.write(std::string_view(c.input).substr(split));
      const Answer answer = read_answer(client);
      ASSERT_EQ(answer.status, c.status) << c.name << ", cut at " << split << ": " << answer.head;
      ASSERT_TRUE(answer.whole) << c.name << ", cut at " << split;
      ASSERT_EQ(client.read_to_end(), "") << c.name << ", cut at " << split;
      ++runs;
    }
    EXPECT_EQ(backend.requests().size(), c.passed_on * runs) << c.name;
    for (const std::string& request : backend.requests())
      EXPECT_FALSE(request.starts_with("BAD")) << request;
  }
}

TEST_P(FramingTest, KeepsItsLimits) {
  // Takes any head: what the edge adds comes on top of what it lets through.
  Backend backend([](Connection& connection, Backend&) {
    while (!connection.read_head().empty()) connection.write(answer_with("hello"));
  });
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  const auto status_of = [&](const std::string& head) {
    Connection client = rig.connect();
    std::thread writer([&] { client.write(head); });
    const int status = read_answer(client).status;
    writer.join();
    return status;
  };
  const std::string host = "Host: test.local\r\n";
  EXPECT_EQ(status_of("GET /hello?" + std::string(16'000, 'q') + " HTTP/1.1\r\n" + host + "\r\n"),
            200);
  EXPECT_EQ(status_of("GET /hello?" + std::string(17'000, 'q') + " HTTP/1.1\r\n" + host + "\r\n"),
            414);
  EXPECT_EQ(
      status_of("GET /hello HTTP/1.1\r\n" + host + "X: " + std::string(60'000, 'v') + "\r\n\r\n"),
      200);
  EXPECT_EQ(
      status_of("GET /hello HTTP/1.1\r\n" + host + "X: " + std::string(66'000, 'v') + "\r\n\r\n"),
      431);
  std::string fields;
  for (int i = 0; i < 127; ++i) fields += fmt::format("X-{}: 1\r\n", i);
  EXPECT_EQ(status_of("GET /hello HTTP/1.1\r\n" + host + fields + "\r\n"), 200);
  EXPECT_EQ(status_of("GET /hello HTTP/1.1\r\n" + host + fields + "X-Last: 1\r\n\r\n"), 431);
}

}  // namespace
}  // namespace hob::edge
