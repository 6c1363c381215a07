// Request smuggling: what one reader takes for a body and another for a request. The corpus is
// built from the rules of RFC 9110 and 9112 and from the ways in which servers are known to differ;
// every input carries a second request where a body would be, and the target must never see it
// unless both are well framed. The same for answers of targets that are not to be trusted.
#include "edge/test_rig.h"

namespace hob::edge {
namespace {

using std::string_literals::operator""s;

class SmugglingTest : public ::testing::TestWithParam<Io> {};
INSTANTIATE_TEST_SUITE_P(Io, SmugglingTest, ::testing::ValuesIn(available_io()), io_test_name);

const std::string kSmuggled = "GET /hello?smuggled HTTP/1.1\r\nHost: test.local\r\n\r\n";

struct Attack {
  std::string name;
  std::string input;
  int status = 400;
};

std::string shown(char byte) { return fmt::format("0x{:02x}", static_cast<uint8_t>(byte)); }

std::string post(std::string_view fields, std::string_view body) {
  return fmt::format("POST /hello HTTP/1.1\r\nHost: test.local\r\n{}\r\n{}", fields, body);
}

// Bytes that no field's name or value and no target may have: all controls but HTAB, and DEL.
std::string controls() {
  std::string out;
  for (int byte = 0; byte < 0x20; ++byte) {
    if (byte != '\t' && byte != '\r' && byte != '\n') out += static_cast<char>(byte);
  }
  return out + '\x7f';
}

void add_codings(std::vector<Attack>& out) {
  const std::string body = "0\r\n\r\n" + kSmuggled;
  for (const std::string& value : {"chunked, identity"s,
                                   "identity, chunked"s,
                                   "identity"s,
                                   "chunked,chunked"s,
                                   "xchunked"s,
                                   "chunkedx"s,
                                   "\"chunked\""s,
                                   "'chunked'"s,
                                   "chunked;q=1"s,
                                   "chunked; a=b"s,
                                   "chunk"s,
                                   "chunked\x0b"s,
                                   "\x0c"s + "chunked",
                                   "\xa0"s + "chunked",
                                   "chunked\x85"s,
                                   "chunked chunked"s,
                                   "chunked\t chunked"s,
                                   ""s,
                                   ","s,
                                   "[chunked]"s,
                                   "chunked\\"s,
                                   "chunKed, deflate"s,
                                   "none"s,
                                   "0"s,
                                   "chunked/1"s,
                                   "CHUNKED, x"s,
                                   "\xd1\x81hunked"s}) {
    // An unknown coding is 501 where it is well formed, else 400: both are refusals.
    out.push_back({"coding " + value, post("Transfer-Encoding: " + value + "\r\n", body), 0});
    out.push_back({"coding and length " + value,
                   post("Content-Length: 5\r\nTransfer-Encoding: " + value + "\r\n", body), 0});
  }
  for (const char* fields :
       {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "\tTransfer-Encoding: chunked\r\n",
        "X: 1\r\n Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer-Encoding:\r\n\tchunked\r\n",
        "Transfer-Encoding: chunked\r\n ,identity\r\n",
        "X: 1\nTransfer-Encoding: chunked\r\n",
        "X: 1\rTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\n",
        "Transfer-Encoding: chunked\r\r\n",
        "Transfer Encoding: chunked\r\n",
        "Transfer-Encoding chunked\r\n",
        "Transfer-Encoding; chunked\r\n",
        ": chunked\r\nTransfer-Encoding: chunked\r\n",
        "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
        "Connection: close, transfer-encoding\r\nTransfer-Encoding: chunked\r\n"}) {
    out.push_back({fmt::format("fields {}", fields), post(fields, body), 0});
  }
  out.push_back(
      {"a coding in HTTP/1.0",
       "POST /hello HTTP/1.0\r\nHost: test.local\r\nTransfer-Encoding: chunked\r\n\r\n" + body});
}

void add_lengths(std::vector<Attack>& out) {
  for (const std::string& value : {"+5"s,
                                   "-5"s,
                                   "-0"s,
                                   "5, 5"s,
                                   "5,5"s,
                                   "5, 6"s,
                                   "5,"s,
                                   ",5"s,
                                   "0x5"s,
                                   "5 5"s,
                                   "5;"s,
                                   "5.0"s,
                                   "5e0"s,
                                   "5_0"s,
                                   ""s,
                                   "abc"s,
                                   "\"5\""s,
                                   "5\x0b"s,
                                   "\x0c"s + "5",
                                   "\xa0"s + "5",
                                   "5\t5"s,
                                   "9223372036854775808"s,
                                   "18446744073709551616"s,
                                   "18446744073709551621"s,
                                   "99999999999999999999999999"s,
                                   "\xd9\xa5"s,
                                   "0o5"s,
                                   "5L"s,
                                   "0b1"s,
                                   "5\\"s}) {
    out.push_back(
        {"length " + value, post("Content-Length: " + value + "\r\n", "abcde" + kSmuggled)});
  }
  for (const char* fields :
       {"Content-Length: 5\r\nContent-Length: 5\r\n", "Content-Length: 5\r\nContent-Length: 0\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n", "content-length: 5\r\nCONTENT-LENGTH: 6\r\n",
        "Content-Length : 5\r\n", "Content-Length\t: 5\r\n", " Content-Length: 5\r\n",
        "\tContent-Length: 5\r\n", "Content-Length:\r\n 5\r\n", "Content-Length: 5\r\n 6\r\n",
        "Content-Length: 5\r\n\t\r\n", "X: 1\nContent-Length: 5\r\n", "X: 1\rContent-Length: 5\r\n",
        "Content-Length: 5\n", "Content-Length 5\r\n", "Content Length: 5\r\n",
        "Connection: Content-Length\r\nContent-Length: 5\r\n"}) {
    out.push_back({fmt::format("fields {}", fields), post(fields, "abcde" + kSmuggled)});
  }
}

void add_bytes(std::vector<Attack>& out) {
  for (const char byte : controls()) {
    const std::string one(1, byte);
    out.push_back({"in a value " + shown(byte), post("X-A: a" + one + "b\r\n", kSmuggled)});
    out.push_back({"in a name " + shown(byte), post("X" + one + "A: 1\r\n", kSmuggled)});
    out.push_back({"in the target " + shown(byte),
                   "GET /hello" + one + " HTTP/1.1\r\nHost: test.local\r\n\r\n" + kSmuggled});
    out.push_back({"in the method " + shown(byte),
                   "G" + one + "ET /hello HTTP/1.1\r\nHost: test.local\r\n\r\n" + kSmuggled});
  }
  for (const char byte : "()<>@,;\\\"/[]?={} "s)
    out.push_back({"in a name " + shown(byte), post("X"s + byte + "A: 1\r\n", kSmuggled)});
}

void add_lines(std::vector<Attack>& out) {
  const std::string host = "Host: test.local\r\n\r\n";
  for (const std::string& input :
       {"GET  /hello HTTP/1.1\r\n" + host,
        "GET /hello  HTTP/1.1\r\n" + host,
        "GET\t/hello HTTP/1.1\r\n" + host,
        " GET /hello HTTP/1.1\r\n" + host,
        "GET /hello HTTP/1.1 \r\n" + host,
        "GET /hello HTTP/1.1\n" + host,
        "GET /hello HTTP/1.1\r" + host,
        "GET /hello\r\n" + host,
        "GET /hello HTTP/1\r\n" + host,
        "GET /hello HTTP/1.10\r\n" + host,
        "GET /hello HTTP/01.1\r\n" + host,
        "GET /hello HTTP/1,1\r\n" + host,
        "GET /hello HTTP/1.1x\r\n" + host,
        "GET /hello http/1.1\r\n" + host,
        "GET /hello HTTP /1.1\r\n" + host,
        "GET hello HTTP/1.1\r\n" + host,
        "GET /hello#x HTTP/1.1\r\n" + host,
        "GET /he llo HTTP/1.1\r\n" + host,
        "GET * HTTP/1.1\r\n" + host,
        "GET test.local:80 HTTP/1.1\r\n" + host,
        "GET http:///hello HTTP/1.1\r\n" + host,
        "GET http://a@test.local/hello HTTP/1.1\r\n" + host,
        "\n\nGET /hello HTTP/1.1\r\n" + host,
        "\rGET /hello HTTP/1.1\r\n" + host,
        "\r\n\r\n\r\nGET /hello HTTP/1.1\r\n" + host,
        "GET /hello HTTP/1.1\r\n\r\n"s,
        "GET /hello HTTP/1.1\r\nHost:\r\n\r\n"s,
        "GET /hello HTTP/1.1\r\nHost: test.local\r\nHost: test.local\r\n\r\n"s,
        "GET /hello HTTP/1.1\r\nHost: test.local\r\nHost: other\r\n\r\n"s,
        "GET /hello HTTP/1.1\r\nHost: test.local, other\r\n\r\n"s,
        "GET /hello HTTP/1.1\r\nHost: a@test.local\r\n\r\n"s,
        "GET /hello HTTP/1.1\r\nHost: test.local/x\r\n\r\n"s,
        "GET /hello HTTP/1.1\r\nHost: test.local other\r\n\r\n"s,
        "GET /hello HTTP/1.1\r\nHost: test.local:80:80\r\n\r\n"s,
        "GET /hello HTTP/1.1\r\nHost: test.local:x\r\n\r\n"s,
        "GET /hello HTTP/1.1\r\n Host: test.local\r\n\r\n"s,
        "GET /hello HTTP/1.1\r\nHost : test.local\r\n\r\n"s,
        "GET /hello HTTP/1.1\r\nHost: test.local\r\nX\r\n\r\n"s,
        "GET /hello HTTP/1.1\r\nHost: test.local\r\n: x\r\n\r\n"s,
        "GET /hello HTTP/1.1\r\nHost: test.local\r\nX: 1\n\r\n"s,
        "GET /hello HTTP/1.1\nHost: test.local\n\n"s,
        "GET /hello HTTP/1.1\r\nHost: test.local\r\nConnection: Host\r\n\r\n"s,
        "GET /hello HTTP/1.1\r\nHost: test.local\r\nConnection: X-Forwarded-For\r\n\r\n"s}) {
    out.push_back({"line " + input, input + kSmuggled});
  }
  out.push_back({"HTTP/2.0", "GET /hello HTTP/2.0\r\n" + host + kSmuggled, 505});
  out.push_back({"CONNECT", "CONNECT test.local:80 HTTP/1.1\r\n" + host + kSmuggled, 405});
}

void add_chunks(std::vector<Attack>& out) {
  for (const std::string& body : {"5 \r\nabcde\r\n0\r\n\r\n"s,
                                  " 5\r\nabcde\r\n0\r\n\r\n"s,
                                  "5\t\r\nabcde\r\n0\r\n\r\n"s,
                                  "+5\r\nabcde\r\n0\r\n\r\n"s,
                                  "-5\r\nabcde\r\n0\r\n\r\n"s,
                                  "0x5\r\nabcde\r\n0\r\n\r\n"s,
                                  "5h\r\nabcde\r\n0\r\n\r\n"s,
                                  "\r\nabcde\r\n0\r\n\r\n"s,
                                  "g\r\n"s,
                                  "5\nabcde\r\n0\r\n\r\n"s,
                                  "5\rabcde\r\n0\r\n\r\n"s,
                                  "5\r\nabcde0\r\n\r\n"s,
                                  "5\r\nabcde\n0\r\n\r\n"s,
                                  "5\r\nabcdefgh\r\n0\r\n\r\n"s,
                                  "4\r\nabcde\r\n0\r\n\r\n"s,
                                  "5\r\nabcde\r0\r\n\r\n"s,
                                  "5\r\nabcde\r\n0\n\n"s,
                                  "00000000000000005\r\nabcde\r\n0\r\n\r\n"s,
                                  "8000000000000000\r\n"s,
                                  "ffffffffffffffff\r\n"s,
                                  "10000000000000005\r\nabcde\r\n0\r\n\r\n"s,
                                  "5;a\nabcde\r\n0\r\n\r\n"s,
                                  "5;a\rb\r\nabcde\r\n0\r\n\r\n"s,
                                  "5;a\0\r\nabcde\r\n0\r\n\r\n"s,
                                  "5,a\r\nabcde\r\n0\r\n\r\n"s,
                                  "5:a\r\nabcde\r\n0\r\n\r\n"s,
                                  "5;" + std::string(300, 'x') + "\r\nabcde\r\n0\r\n\r\n",
                                  "0\r\nX\r\n\r\n"s,
                                  "0\r\nX : 1\r\n\r\n"s,
                                  "0\r\n X: 1\r\n\r\n"s,
                                  "0\r\nX: 1\n\r\n"s,
                                  "0\r\nX: 1\r\r\n\r\n"s,
                                  "0\r\n: 1\r\n\r\n"s,
                                  "0\r\nX: 1\0\r\n\r\n"s,
                                  "\xef\xbc\x95\r\nabcde\r\n"s,
                                  "5\x0b\r\nabcde\r\n0\r\n\r\n"s}) {
    out.push_back({"chunks " + body, post("Transfer-Encoding: chunked\r\n", body + kSmuggled)});
  }
}

std::vector<Attack> attacks() {
  std::vector<Attack> out;
  add_codings(out);
  add_lengths(out);
  add_bytes(out);
  add_lines(out);
  add_chunks(out);
  return out;
}

TEST_P(SmugglingTest, RefusesEveryAmbiguousRequestAndClosesTheConnection) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  const std::vector<Attack> all = attacks();
  EXPECT_GE(all.size(), 300u);
  for (const Attack& attack : all) {
    Connection client = rig.connect();
    client.write(attack.input);
    const Answer answer = read_answer(client);
    if (attack.status == 0) {
      EXPECT_TRUE(answer.status == 400 || answer.status == 501)
          << attack.name << ": " << answer.head;
    } else {
      EXPECT_EQ(answer.status, attack.status) << attack.name << ": " << answer.head;
    }
    // One answer, and the end: what follows is nobody's request.
    EXPECT_EQ(client.read_to_end(), "") << attack.name;
  }
  for (const std::string& request : backend.requests()) ADD_FAILURE() << "passed on: " << request;
}

struct Lawful {
  const char* name;
  std::string input;
  size_t requests;  // seen by the target
};

TEST_P(SmugglingTest, PassesOnWhatIsWellFramedOneRequestAtATime) {
  const std::string get = "GET /hello HTTP/1.1\r\nHost: test.local\r\n\r\n";
  const std::string last = "GET /hello HTTP/1.1\r\nHost: test.local\r\nConnection: close\r\n\r\n";
  const std::vector<Lawful> cases = {
      {"pipelined", get + get + last, 3},
      {"a body that looks like a request",
       post("Content-Length: 52\r\n", kSmuggled.substr(0, 52)) + last, 2},
      {"a chunk that looks like a request",
       post("Transfer-Encoding: chunked\r\n",
            fmt::format("{:x}\r\n{}\r\n0\r\n\r\n", kSmuggled.size(), kSmuggled)) +
           last,
       2},
      {"a length of 0", post("Content-Length: 0\r\n", "") + last, 2},
      {"zeros before a length", post("Content-Length: 0005\r\n", "abcde") + last, 2},
      {"blanks around a length", post("Content-Length: \t 5 \t\r\n", "abcde") + last, 2},
      {"chunked in capitals",
       post("Transfer-Encoding: CHUNKED\r\n", "5\r\nabcde\r\n0\r\n\r\n") + last, 2},
      {"capitals in a size",
       post("Transfer-Encoding: chunked\r\n", "A\r\nabcdefghij\r\n0\r\n\r\n") + last, 2},
      {"an extension",
       post("Transfer-Encoding: chunked\r\n", "5;a=b\r\nabcde\r\n0;c\r\n\r\n") + last, 2},
      {"trailers that frame",
       post("Transfer-Encoding: chunked\r\n",
            "5\r\nabcde\r\n0\r\nContent-Length: 70\r\nTransfer-Encoding: x\r\n\r\n") +
           last,
       2},
      {"a framing name with _",
       post("Content_Length: 50\r\nTransfer_Encoding: chunked\r\n", "") + last, 2},
      {"a body on GET",
       "GET /hello HTTP/1.1\r\nHost: test.local\r\nContent-Length: 5\r\n\r\nabcde" + last, 2},
      {"empty lines between", get + "\r\n\r\n" + last, 2},
  };
  for (const Lawful& c : cases) {
    Backend backend;
    Rig rig(GetParam());
    rig.apply({rig.route({&backend})});
    Connection client = rig.connect();
    client.write(c.input);
    for (size_t i = 0; i < c.requests; ++i) EXPECT_EQ(read_answer(client).status, 200) << c.name;
    EXPECT_EQ(client.read_to_end(), "") << c.name;
    const std::vector<std::string> seen = backend.requests();
    EXPECT_EQ(seen.size(), c.requests) << c.name;
    for (const std::string& request : seen)
      EXPECT_FALSE(request.starts_with("BAD") || request.starts_with("GET /hello?smuggled"))
          << c.name << ": " << request;
  }
}

// ---- answers ----

const std::string kEvil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";

std::vector<std::pair<std::string, std::string>> bad_answers() {
  std::vector<std::pair<std::string, std::string>> out;
  const auto add = [&](const std::string& text) { out.emplace_back(text, text + kEvil); };
  for (const std::string& line :
       {"HTTP/1.1\r\n"s, "HTTP/1.1 \r\n"s, "HTTP/1.1 20 OK\r\n"s, "HTTP/1.1 2000 OK\r\n"s,
        "HTTP/1.1 abc OK\r\n"s, "HTTP/1.1 099 OK\r\n"s, "HTTP/2 200 OK\r\n"s,
        "HTTP/2.0 200 OK\r\n"s, "http/1.1 200 OK\r\n"s, "HTTP/1.1  200 OK\r\n"s,
        " HTTP/1.1 200 OK\r\n"s, "HTTP/1.1 200 OK\n"s, "HTTP/1.1 200 O\rK\r\n"s,
        "HTTP/1.1 200 O\0K\r\n"s, "ICY 200 OK\r\n"s, "<html>\r\n"s})
    add(line + "Content-Length: 0\r\n\r\n");
  for (const std::string& fields : {"Content-Length: 3\r\nContent-Length: 4\r\n"s,
                                    "Content-Length: 3, 4\r\n"s,
                                    "Content-Length: +3\r\n"s,
                                    "Content-Length: -1\r\n"s,
                                    "Content-Length: 0x3\r\n"s,
                                    "Content-Length: \r\n"s,
                                    "Content-Length: 3 3\r\n"s,
                                    "Content-Length: 9223372036854775808\r\n"s,
                                    "Content-Length: 18446744073709551616\r\n"s,
                                    "Content-Length : 3\r\n"s,
                                    " Content-Length: 3\r\n"s,
                                    "X: 1\r\n Content-Length: 3\r\n"s,
                                    "X: 1\nContent-Length: 3\r\n"s,
                                    "X: 1\rContent-Length: 3\r\n"s,
                                    "X\r\n"s,
                                    ": 1\r\n"s,
                                    "X Y: 1\r\n"s,
                                    "X: 1\0\r\n"s,
                                    "X: a\x01z\r\n"s,
                                    "X: a\x7fz\r\n"s,
                                    "X\x0b: 1\r\n"s,
                                    "Transfer-Encoding: xchunked\r\n"s,
                                    "Transfer-Encoding: chunked, chunked\r\n"s,
                                    "Transfer-Encoding : chunked\r\n"s,
                                    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"s,
                                    "Transfer-Encoding: \r\n"s,
                                    "Transfer-Encoding: \x0b"s + "chunked\r\n",
                                    "Transfer-Encoding:\r\n chunked\r\n"s,
                                    "Transfer-Encoding: gzip, chunked\r\n"s})
    add("HTTP/1.1 200 OK\r\n" + fields + "\r\n");
  add("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
  return out;
}

// A target that answers each request with the next of `answers`, then says more than it was asked.
Backend::Serve scripted(std::string answer) {
  return [answer = std::move(answer)](Connection& connection, Backend& backend) {
    while (true) {
      const std::string head = connection.read_head();
      if (head.empty()) return;
      backend.note(head);
      if (!connection.write(answer)) return;
    }
  };
}

TEST_P(SmugglingTest, ABadAnswerIsA502AndNothingOfItIsPassedOn) {
  const auto all = bad_answers();
  EXPECT_GE(all.size(), 45u);
  for (const auto& [name, bytes] : all) {
    Backend backend(scripted(bytes));
    Rig rig(GetParam());
    rig.apply({rig.route({&backend})});
    const Answer answer = rig.get("/");
    EXPECT_EQ(answer.status, 502) << name << ": " << answer.head;
    EXPECT_EQ(answer.body.find("evil"), std::string::npos) << name;
  }
}

// The connection is dropped with what came after the answer, so that the next request does not get
// it.
TEST_P(SmugglingTest, WhatFollowsAnAnswerIsNobodys) {
  for (
      const std::string& answer :
      {answer_with("hello"), "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"s,
       "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"s,
       "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"s,
       "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"s,
       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"s,
       "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"s,
       "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"s}) {
    Backend backend(scripted(answer + kEvil));
    Rig rig(GetParam());
    rig.apply({rig.route({&backend})});
    Connection client = rig.connect();
    for (int i = 0; i < 3; ++i) {
      client.write("GET / HTTP/1.1\r\nHost: test.local\r\n\r\n");
      const Answer got = read_answer(client);
      EXPECT_TRUE(got.whole) << answer;
      EXPECT_EQ(got.body.find("evil"), std::string::npos) << answer;
    }
    EXPECT_EQ(backend.connections(), 3) << answer;
  }
}

// What is only seen to be wrong when its head has gone on already ends without being whole.
TEST_P(SmugglingTest, AnAnswerWithBadChunksIsCutOff) {
  for (const std::string& body :
       {"5 \r\nhello\r\n0\r\n\r\n"s, "0x5\r\nhello\r\n0\r\n\r\n"s, "g\r\n"s,
        "5\nhello\r\n0\r\n\r\n"s, "5\r\nhellox\r\n0\r\n\r\n"s, "\r\nhello\r\n"s,
        "ffffffffffffffff\r\nhello"s, "5\r\nhello\n0\r\n\r\n"s, "0\r\nX\r\n\r\n"s,
        "0\r\n X: 1\r\n\r\n"s}) {
    Backend backend(
        scripted("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + kEvil));
    Rig rig(GetParam());
    rig.apply({rig.route({&backend})});
    Connection client = rig.connect();
    client.write("GET / HTTP/1.1\r\nHost: test.local\r\n\r\n");
    const Answer got = read_answer(client);
    EXPECT_FALSE(got.whole && got.status == 200) << body;
    EXPECT_EQ((got.body + client.read_to_end()).find("evil"), std::string::npos) << body;
  }
}

}  // namespace
}  // namespace hob::edge
