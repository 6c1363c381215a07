// A guest's side of its metadata: documents, tokens, HTTP, and TCP frame by frame.
#include <gtest/gtest.h>

#include "microvm/mmds/guest_http.h"
#include "microvm/mmds/metadata.h"
#include "microvm/mmds/stack.h"

namespace hob::microvm {
namespace {

using namespace std::chrono_literals;

MonotonicTime now{1000s};
MonotonicTime clock_now() { return now; }
Json json(std::string_view text) { return *Json::parse(text); }

std::string ask(Metadata& metadata, const std::string& request) {
  GuestRequest parsed;
  size_t used = 0;
  const GuestStep step = parse_guest_request(request, parsed, used);
  if (step != GuestStep::kRequest) return step == GuestStep::kBad ? "bad" : "more";
  EXPECT_EQ(used, request.size());
  return answer(parsed, metadata);
}
std::string body_of(const std::string& answer) {
  return answer.substr(answer.find("\r\n\r\n") + 4);
}

TEST(Metadata, IsMergedAndBounded) {
  Metadata metadata("vm", 40, &clock_now);
  EXPECT_FALSE(metadata.patch(json(R"({"a":1})")));
  ASSERT_TRUE(metadata.put(json(R"({"b":{"x":1,"y":2},"a":1})")));
  ASSERT_TRUE(metadata.patch(json(R"({"b":{"x":null,"z":{"n":null,"m":3}},"c":"t"})")));
  EXPECT_EQ(metadata.document().text(), R"({"a":1,"b":{"y":2,"z":{"m":3}},"c":"t"})");
  EXPECT_FALSE(metadata.patch(json(R"({"d":"eeeeeeeeeeeeeeeeeeeeee"})")));
  EXPECT_FALSE(metadata.put(json(R"({"d":"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"})")));
  EXPECT_EQ(metadata.document().text(), R"({"a":1,"b":{"y":2,"z":{"m":3}},"c":"t"})");
}

TEST(Metadata, PointersFindValues) {
  Metadata metadata("vm", 1000, &clock_now);
  ASSERT_TRUE(metadata.put(json(R"({"a":{"b/c":[10,{"d":"e"}],"~":1},"":2})")));
  struct Case {
    const char* pointer;
    const char* value;  // nullptr: none
  };
  for (const Case& c :
       std::initializer_list<Case>{{"", R"({"":2,"a":{"b/c":[10,{"d":"e"}],"~":1}})"},
                                   {"/", R"({"":2,"a":{"b/c":[10,{"d":"e"}],"~":1}})"},
                                   {"/a/b~1c/0", "10"},
                                   {"/a/b~1c/1/d/", "\"e\""},
                                   {"/a/~0", "1"},
                                   {"/a/b~1c/2", nullptr},
                                   {"/a/b~1c/01", nullptr},
                                   {"/a/b~1c/-", nullptr},
                                   {"/a/b~1c/0/x", nullptr},
                                   {"a", nullptr},
                                   {"/b", nullptr}}) {
    const Json* found = metadata.find(c.pointer);
    EXPECT_EQ(found == nullptr ? "none" : found->text(), c.value == nullptr ? "none" : c.value)
        << c.pointer;
  }
}

TEST(Metadata, TokensEndAndCannotBeMade) {
  TokenAuthority tokens("vm", &clock_now);
  const std::string token = tokens.issue(60);
  EXPECT_TRUE(tokens.accepts(token));
  for (size_t i = 0; i < token.size(); ++i) {
    std::string other = token;
    other[i] = other[i] == '0' ? '1' : '0';
    EXPECT_FALSE(tokens.accepts(other)) << i;
  }
  EXPECT_FALSE(TokenAuthority("vm", &clock_now).accepts(token));
  now += 59'999ms;
  EXPECT_TRUE(tokens.accepts(token));
  now += 1ms;
  EXPECT_FALSE(tokens.accepts(token));
  EXPECT_FALSE(tokens.accepts(""));
}

TEST(GuestHttp, AnswersAsTheMetadataServiceDoes) {
  Metadata metadata("vm", 1000, &clock_now);
  ASSERT_TRUE(metadata.put(json(R"({"a":{"b":"text","c":7,"d":{"e":1}},"k":"v"})")));
  struct Case {
    const char* name;
    const char* request;  // without its last two lines' ends
    const char* status;
    const char* body;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"keys", "GET / HTTP/1.1", " 200 ", "a/\nk"},
           {"slashes are folded", "GET //a///d/ HTTP/1.1", " 200 ", "e"},
           {"a string", "GET /a/b HTTP/1.0", " 200 ", "text"},
           {"a number", "GET /a/c HTTP/1.1", " 501 ", "unsupported type"},
           {"a number as JSON", "GET /a/c HTTP/1.1\r\nAccept: application/json", " 200 ", "7"},
           {"JSON", "GET /a HTTP/1.1\r\naccept: application/json", " 200 ",
            R"({"b":"text","c":7,"d":{"e":1}})"},
           {"nothing there", "GET /x HTTP/1.1", " 404 ", "Resource not found: /x."},
           {"another verb", "POST / HTTP/1.1", " 405 ", "Not allowed HTTP method."},
           {"a token where none is", "PUT /x HTTP/1.1", " 404 ", "Resource not found"},
           {"a token of no time", "PUT /latest/api/token HTTP/1.1", " 400 ", "not found"},
           {"a token of too short a time",
            "PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 0", " 400 ",
            "Invalid time"},
           {"a token of too long a time",
            "PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 21601", " 400 ",
            "Invalid time"},
           {"a token through a proxy",
            "PUT /latest/api/token HTTP/1.1\r\nX-Forwarded-For: a\r\nX-metadata-token-ttl-seconds: "
            "1",
            " 400 ", "X-Forwarded-For"}}) {
    const std::string got = ask(metadata, std::string(c.request) + "\r\n\r\n");
    EXPECT_NE(got.find(c.status), std::string::npos) << c.name << ": " << got;
    EXPECT_NE(body_of(got).find(c.body), std::string::npos) << c.name << ": " << got;
  }
  EXPECT_EQ(ask(metadata, "GET / HTTP/1.1\r\n"), "more");
  EXPECT_EQ(ask(metadata, "GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\na"), "more");
  for (const char* bad :
       {"GET\r\n", "GET x HTTP/1.1\r\n", "GET / HTTP/3\r\n", "GET / HTTP/1.1\r\nno\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 9999\r\n\r\n"})
    EXPECT_EQ(ask(metadata, bad), "bad") << bad;
  EXPECT_EQ(ask(metadata, std::string(kGuestRequestBytesMax, 'a')), "bad");
}

TEST(GuestHttp, TheSecondVersionWantsItsToken) {
  Metadata metadata("vm", 1000, &clock_now);
  ASSERT_TRUE(metadata.put(json(R"({"k":"v"})")));
  metadata.version = MmdsVersion::kV2;
  const std::string issued =
      ask(metadata,
          "PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 9\r\n\r\n");
  EXPECT_NE(issued.find("ttl-seconds: 9\r\n"), std::string::npos) << issued;
  const std::string get = "GET /k HTTP/1.1\r\n";
  EXPECT_NE(ask(metadata, get + "\r\n").find(" 401 "), std::string::npos);
  EXPECT_NE(ask(metadata, get + "X-metadata-token: x\r\n\r\n").find(" 401 "), std::string::npos);
  EXPECT_EQ(body_of(ask(metadata, get + "X-metadata-token: " + body_of(issued) + "\r\n\r\n")), "v");
  metadata.version = MmdsVersion::kV1;
  EXPECT_EQ(body_of(ask(metadata, get + "\r\n")), "v");
  EXPECT_EQ(metadata.counts.no_token, 2u);
  EXPECT_EQ(metadata.counts.invalid_token, 1u);
}

// A guest's TCP, of one connection.
class StackTest : public ::testing::Test {
 protected:
  enum : uint8_t { kFin = 1, kSyn = 2, kReset = 4, kAck = 16 };
  void SetUp() override { ASSERT_TRUE(metadata_.put(json(R"({"k":"v"})"))); }
  static void put16(std::string& s, size_t at, unsigned value) {
    s[at] = static_cast<char>(value >> 8), s[at + 1] = static_cast<char>(value);
  }
  static void put32(std::string& s, size_t at, uint32_t value) {
    put16(s, at, value >> 16), put16(s, at + 2, value & 0xffff);
  }
  static uint32_t get(const std::string& s, size_t at, size_t bytes) {
    uint32_t value = 0;
    for (size_t i = 0; i < bytes; ++i) value = value << 8 | static_cast<uint8_t>(s[at + i]);
    return value;
  }
  std::string frame(uint8_t flags, const std::string& payload, uint16_t port = 4000) {
    std::string f(54, '\0');
    f.replace(6, 6, "\x02\0\0\0\0\x09", 6);
    put16(f, 12, 0x0800);
    f[14] = 0x45, f[23] = 6;
    put16(f, 16, static_cast<unsigned>(40 + payload.size()));
    f.replace(26, 4, "\xa9\xfe\0\x02", 4), f.replace(30, 4, "\xa9\xfe\xa9\xfe", 4);
    put16(f, 34, port), put16(f, 36, 80);
    put32(f, 38, sequence_), put32(f, 42, acknowledged_);
    f[46] = 0x50, f[47] = static_cast<char>(flags);
    put16(f, 48, window_);
    return f + payload;
  }
  void give(const std::string& f) {
    const auto bytes = std::as_bytes(std::span(f));
    ASSERT_TRUE(stack_.wants(bytes.first(std::min<size_t>(bytes.size(), 42))));
    stack_.take(bytes);
  }
  // The next frame's TCP flags, its payload in `payload_`; 0: none.
  uint8_t next() {
    std::string f(FrameResponder::kFrameBytesMax, '\0');
    f.resize(stack_.next(std::as_writable_bytes(std::span(f))));
    if (f.empty()) return 0;
    last_ = f;
    const size_t data = 34 + 4 * (get(f, 46, 1) >> 4);
    payload_ = f.substr(data);
    return static_cast<uint8_t>(get(f, 47, 1));
  }
  void connect() {
    give(frame(kSyn, ""));
    ASSERT_EQ(next(), kSyn | kAck);
    ++sequence_;
    EXPECT_EQ(get(last_, 42, 4), sequence_);
    acknowledged_ = get(last_, 38, 4) + 1;
    give(frame(kAck, ""));
  }
  // Sends, and takes the whole answer.
  std::string request(const std::string& text) {
    give(frame(kAck, text));
    sequence_ += static_cast<uint32_t>(text.size());
    std::string answer;
    while (next() != 0) answer += payload_;
    acknowledged_ += static_cast<uint32_t>(answer.size());
    give(frame(kAck, ""));
    return answer;
  }

  Metadata metadata_{"vm", 100'000, &clock_now};
  MetadataStack stack_{metadata_, {169, 254, 169, 254}, &clock_now};
  uint32_t sequence_ = 0xfffffff0;  // wraps
  uint32_t acknowledged_ = 0;
  uint16_t window_ = 60000;
  std::string last_;
  std::string payload_;
};

const std::string kGet = "GET /k HTTP/1.1\r\n\r\n";

TEST_F(StackTest, TellsItsAddress) {
  std::string arp(42, '\0');
  put16(arp, 12, 0x0806);
  arp.replace(14, 8, "\0\x01\x08\0\x06\x04\0\x01", 8);
  arp.replace(38, 4, "\xa9\xfe\xa9\xfe", 4);
  give(arp);
  next();
  EXPECT_EQ(get(last_, 20, 2), 2u);
  EXPECT_EQ(last_.substr(22, 6), std::string("\x06\x01\x23\x45\x67\x01"));
  arp[41] = 1;
  EXPECT_FALSE(stack_.wants(std::as_bytes(std::span(arp))));
}

TEST_F(StackTest, ServesSeveralRequestsAndCloses) {
  connect();
  EXPECT_EQ(body_of(request(kGet)), "v");
  EXPECT_EQ(body_of(request(kGet)), "v");
  give(frame(kFin | kAck, ""));
  ++sequence_;
  EXPECT_EQ(next(), kFin | kAck);
  ++acknowledged_;
  give(frame(kAck, ""));
  EXPECT_EQ(next(), 0);
  EXPECT_EQ(stack_.connections(), 0u);
}

TEST_F(StackTest, ARequestInPiecesIsPutTogether) {
  connect();
  EXPECT_EQ(request(kGet.substr(0, 7)), "");
  give(frame(kAck, kGet.substr(7, 4)));
  give(frame(kAck, kGet.substr(7, 4)));  // twice
  sequence_ += 100;                      // and one from beyond a gap
  give(frame(kAck, "xxx"));
  sequence_ -= 96;
  EXPECT_EQ(body_of(request(kGet.substr(11))), "v");
}

TEST_F(StackTest, WhatIsLostIsSentAgain) {
  ASSERT_TRUE(metadata_.put(json("{\"k\":\"" + std::string(4000, 'v') + "\"}")));
  connect();
  give(frame(kAck, kGet));
  sequence_ += static_cast<uint32_t>(kGet.size());
  std::string first;
  while (next() != 0) first += payload_;
  ASSERT_EQ(stack_.deadline(), now + 1s);
  now += 1s;
  stack_.time_passed();
  std::string again;
  while (next() != 0) again += payload_;
  EXPECT_EQ(first, again);
  EXPECT_EQ(body_of(again), std::string(4000, 'v'));
  for (int i = 0; i < 10; ++i) {
    now += 1h;
    stack_.time_passed();
    while (next() != 0) {
    }
  }
  EXPECT_EQ(stack_.connections(), 0u) << "it does not try for ever";
  EXPECT_FALSE(stack_.deadline());
}

TEST_F(StackTest, AShutWindowIsTried) {
  window_ = 0;
  connect();
  give(frame(kAck, kGet));
  EXPECT_EQ(next(), kAck) << "the request is acknowledged, the answer waits";
  EXPECT_EQ(payload_, "");
  ASSERT_TRUE(stack_.deadline());
  now = *stack_.deadline();
  stack_.time_passed();
  next();
  EXPECT_EQ(payload_, "H");
}

TEST_F(StackTest, StrangersAreReset) {
  give(frame(kAck, "x"));
  EXPECT_EQ(next(), kReset);
  give(frame(0, "x"));
  EXPECT_EQ(next(), kReset | kAck);
  EXPECT_EQ(get(last_, 42, 4), sequence_ + 1);
  give(frame(kReset, ""));
  EXPECT_EQ(next(), 0);
}

TEST_F(StackTest, TheOneIdleLongestMakesRoom) {
  connect();
  for (uint16_t i = 0; i < kGuestConnectionsMax; ++i) {
    now += 1s;
    give(frame(kSyn, "", static_cast<uint16_t>(5000 + i)));
  }
  EXPECT_EQ(stack_.connections(), kGuestConnectionsMax);
  while (next() != 0) {
  }
  give(frame(kAck, kGet));
  EXPECT_EQ(next(), kReset);
}

TEST_F(StackTest, WhatIsNoRequestGetsAnAnswerAndTheEnd) {
  connect();
  give(frame(kAck, "nonsense\r\n\r\n"));
  next();
  EXPECT_NE(payload_.find(" 400 "), std::string::npos);
  EXPECT_EQ(next(), kFin | kAck);
}

TEST_F(StackTest, BrokenFramesChangeNothing) {
  connect();
  for (const auto& [at, value] : std::initializer_list<std::pair<size_t, int>>{{14, 0x65},
                                                                               {14, 0x44},
                                                                               {14, 0x4f},
                                                                               {16, 0x7f},
                                                                               {20, 0x20},
                                                                               {23, 17},
                                                                               {37, 81},
                                                                               {46, 0x40},
                                                                               {46, 0xf0}}) {
    std::string f = frame(kAck, kGet);
    f[at] = static_cast<char>(value);
    give(f);
    EXPECT_EQ(next(), 0) << at;
  }
  EXPECT_EQ(body_of(request(kGet)), "v");
}

}  // namespace
}  // namespace hob::microvm
