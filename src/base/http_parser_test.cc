#include "base/http_parser.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

namespace hob::http {
namespace {

using namespace std::string_literals;

// One line that says all that matters of the answer.
std::string show(Parsed parsed, const RequestHead& head) {
  if (parsed == Parsed::kMore) return "more";
  if (parsed == Parsed::kBad) return fmt::format("{}", head.status);
  std::string text = fmt::format("{} {} {}", head.method, head.path, head.host);
  if (!head.query.empty()) text += fmt::format(" ?{}", head.query);
  if (head.framing == Framing::kLength) text += fmt::format(" length={}", head.content_length);
  if (head.framing == Framing::kChunked) text += " chunked";
  if (!head.keep_alive) text += " close";
  if (head.expect_continue) text += " expect";
  if (head.upgrade) text += " upgrade";
  return text;
}

std::string show(Parsed parsed, const ResponseHead& head) {
  if (parsed == Parsed::kMore) return "more";
  if (parsed == Parsed::kBad) return fmt::format("{}", head.status);
  std::string text = fmt::format("{}", head.code);
  if (head.framing == Framing::kLength) text += fmt::format(" length={}", head.content_length);
  if (head.framing == Framing::kChunked) text += " chunked";
  if (head.framing == Framing::kUntilClose) text += " until-close";
  if (!head.keep_alive) text += " close";
  if (head.ignore_content_length) text += " ignore-length";
  return text;
}

// Parses `input` cut in two at every place and byte by byte: always the same answer, which is
// returned.
std::string request(const std::string& input) {
  RequestHead whole;
  const Parsed parsed = parse(input, whole);
  const std::string want = show(parsed, whole);
  for (size_t cut = 0; cut <= input.size(); ++cut) {
    RequestHead head;
    Parsed got = parse(std::string_view(input).substr(0, cut), head);
    if (got == Parsed::kMore) got = parse(input, head);
    EXPECT_EQ(show(got, head), want) << "cut at " << cut << " of " << input.substr(0, 200);
    if (got == Parsed::kDone && parsed == Parsed::kDone) {
      EXPECT_EQ(head.bytes, whole.bytes);
    }
  }
  RequestHead head;
  Parsed got = Parsed::kMore;
  for (size_t size = 0; size <= input.size() && got == Parsed::kMore; ++size) {
    got = parse(std::string_view(input).substr(0, size), head);
  }
  EXPECT_EQ(show(got, head), want) << "byte by byte: " << input.substr(0, 200);
  return want;
}

std::string response(const std::string& input, std::string_view method = "GET") {
  ResponseHead whole;
  const Parsed parsed = parse(input, whole, method);
  const std::string want = show(parsed, whole);
  for (size_t cut = 0; cut <= input.size(); ++cut) {
    ResponseHead head;
    Parsed got = parse(std::string_view(input).substr(0, cut), head, method);
    if (got == Parsed::kMore) got = parse(input, head, method);
    EXPECT_EQ(show(got, head), want) << "cut at " << cut << " of " << input;
  }
  return want;
}

struct Case {
  const char* name;
  std::string input;
  const char* want;
};

const std::string kGet = "GET / HTTP/1.1\r\nHost: a\r\n";
const std::string kPost = "POST / HTTP/1.1\r\nHost: a\r\n";

TEST(HttpParser, ReadsRequests) {
  for (const Case& c : {
           Case{"the smallest", kGet + "\r\n", "GET / a"},
           Case{"an empty line before it", "\r\n" + kGet + "\r\n", "GET / a"},
           Case{"two empty lines before it", "\r\n\r\n" + kGet + "\r\n", "GET / a"},
           Case{"three empty lines", "\r\n\r\n\r\n" + kGet + "\r\n", "400"},
           Case{"not whole", kGet, "more"},
           Case{"nothing", "", "more"},
           Case{"what follows is not looked at", kGet + "\r\n\x01\x02", "GET / a"},
           Case{"query", "GET /a%20b?c=d&e HTTP/1.1\r\nHost: a:80\r\n\r\n",
                "GET /a%20b a:80 ?c=d&e"},
           Case{"absolute form overrides Host", "GET http://b:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n",
                "GET /x b:81 ?y"},
           Case{"absolute form without a path", "GET http://b HTTP/1.1\r\nHost: a\r\n\r\n",
                "GET / b"},
           Case{"absolute form, query at once", "GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n",
                "GET / b ?q"},
           Case{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * a"},
           Case{"IPv6 host", "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", "GET / [::1]:8080"},
           Case{"length", kPost + "Content-Length: 12\r\n\r\n", "POST / a length=12"},
           Case{"length 0", kPost + "Content-Length: 0\r\n\r\n", "POST / a"},
           Case{"largest length", kPost + "Content-Length: 9223372036854775807\r\n\r\n",
                "POST / a length=9223372036854775807"},
           Case{"chunked, any case, blanks around", kPost + "Transfer-Encoding:  CHUNKED\t\r\n\r\n",
                "POST / a chunked"},
           Case{"a body on GET", kGet + "Content-Length: 1\r\n\r\n", "GET / a length=1"},
           Case{"close", kGet + "Connection: close\r\n\r\n", "GET / a close"},
           Case{"close in a list", kGet + "Connection: te , Close\r\n\r\n", "GET / a close"},
           Case{"1.0 closes", "GET / HTTP/1.0\r\n\r\n", "GET /  close"},
           Case{"1.0 keeps alive if asked", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
                "GET / "},
           Case{"expect", kPost + "Content-Length: 1\r\nExpect: 100-Continue\r\n\r\n",
                "POST / a length=1 expect"},
           Case{"expect without a body", kGet + "Expect: 100-continue\r\n\r\n", "GET / a"},
           Case{"upgrade", kGet + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                "GET / a upgrade"},
           Case{"empty value", kGet + "X:\r\n\r\n", "GET / a"},
           Case{"obs-text in a value", kGet + "X: \xc3\xa9\r\n\r\n", "GET / a"},
           Case{"tab in a value", kGet + "X: a\tb\r\n\r\n", "GET / a"},
           Case{"a method of its own", "BREW /x HTTP/1.1\r\nHost: a\r\n\r\n", "BREW /x a"},
       }) {
    EXPECT_EQ(request(c.input), c.want) << c.name;
  }
}

TEST(HttpParser, RefusesWhatTwoReadersCouldReadTwice) {
  for (const Case& c : {
           Case{"length and chunked",
                kPost + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "400"},
           Case{"chunked and length",
                kPost + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", "400"},
           Case{"two lengths, equal", kPost + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
                "400"},
           Case{"two lengths, different", kPost + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
                "400"},
           Case{"a list of lengths", kPost + "Content-Length: 5, 5\r\n\r\n", "400"},
           Case{"a sign", kPost + "Content-Length: +5\r\n\r\n", "400"},
           Case{"minus", kPost + "Content-Length: -5\r\n\r\n", "400"},
           Case{"hexadecimal", kPost + "Content-Length: 0x5\r\n\r\n", "400"},
           Case{"blank inside", kPost + "Content-Length: 5 5\r\n\r\n", "400"},
           Case{"empty length", kPost + "Content-Length:\r\n\r\n", "400"},
           Case{"2^63", kPost + "Content-Length: 9223372036854775808\r\n\r\n", "400"},
           Case{"2^64 + 5", kPost + "Content-Length: 18446744073709551621\r\n\r\n", "400"},
           Case{"two encodings",
                kPost + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "400"},
           Case{"identity", kPost + "Transfer-Encoding: identity\r\n\r\n", "400"},
           Case{"chunked not last", kPost + "Transfer-Encoding: chunked, gzip\r\n\r\n", "400"},
           Case{"chunked twice", kPost + "Transfer-Encoding: chunked, chunked\r\n\r\n", "400"},
           Case{"another coding first", kPost + "Transfer-Encoding: gzip, chunked\r\n\r\n", "501"},
           Case{"a coding like it", kPost + "Transfer-Encoding: xchunked\r\n\r\n", "400"},
           Case{"with a parameter", kPost + "Transfer-Encoding: chunked;a=b\r\n\r\n", "400"},
           Case{"quoted", kPost + "Transfer-Encoding: \"chunked\"\r\n\r\n", "400"},
           Case{"empty encoding", kPost + "Transfer-Encoding:\r\n\r\n", "400"},
           Case{"vertical tab before it",
                kPost + "Transfer-Encoding: \x0b"
                        "chunked\r\n\r\n",
                "400"},
           Case{"encoding in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "400"},
           Case{"blank before the colon", kPost + "Content-Length : 5\r\n\r\n", "400"},
           Case{"tab before the colon", kPost + "Transfer-Encoding\t: chunked\r\n\r\n", "400"},
           Case{"blank before the name", kPost + " Content-Length: 5\r\n\r\n", "400"},
           Case{"folded", kPost + "X: a\r\n b\r\n\r\n", "400"},
           Case{"folded by a tab", kPost + "X: a\r\n\tContent-Length: 5\r\n\r\n", "400"},
           Case{"no colon", kPost + "Content-Length\r\n\r\n", "400"},
           Case{"no name", kPost + ": x\r\n\r\n", "400"},
           Case{"NUL in a value", kPost + "X: a"s + '\0' + "b\r\n\r\n", "400"},
           Case{"NUL in a name", kPost + "X"s + '\0' + ": b\r\n\r\n", "400"},
           Case{"bare CR in a value", kPost + "X: a\rb\r\n\r\n", "400"},
           Case{"bare CR ends a value", kPost + "X: a\r\r\n\r\n", "400"},
           Case{"bare LF ends a line", "GET / HTTP/1.1\nHost: a\r\n\r\n", "400"},
           Case{"bare LF ends a field", kPost + "X: a\n\r\n", "400"},
           Case{"bare LF ends the head", kPost + "\n", "400"},
           Case{"DEL", kPost + "X: \x7f\r\n\r\n", "400"},
           Case{"a name that is no token", kPost + "X(y): z\r\n\r\n", "400"},
           Case{"obs-text in a name", kPost + "\xc3\xa9: z\r\n\r\n", "400"},
       }) {
    EXPECT_EQ(request(c.input), c.want) << c.name;
  }
}

TEST(HttpParser, RefusesBadRequestLinesAndHosts) {
  for (const Case& c : {
           Case{"TLS", "\x16\x03\x01\x02", "400"},
           Case{"a blank first", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
           Case{"no version", "GET /\r\nHost: a\r\n\r\n", "400"},
           Case{"two blanks", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
           Case{"blank in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
           Case{"tab", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
           Case{"blank at the end", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "400"},
           Case{"small letters", "GET / http/1.1\r\nHost: a\r\n\r\n", "400"},
           Case{"HTTP/1.10", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", "400"},
           Case{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", "505"},
           Case{"HTTP/2.0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"},
           Case{"HTTP/0.9", "GET / HTTP/0.9\r\n\r\n", "505"},
           Case{"a method that is no token", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
           Case{"a byte over 127 in the target", "GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
                "400"},
           Case{"a fragment", "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
           Case{"no slash", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
           Case{"another scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
           Case{"absolute without a host", "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
           Case{"user information", "GET http://u@b/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
           Case{"asterisk of GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
           Case{"CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "405"},
           Case{"no Host", "GET / HTTP/1.1\r\n\r\n", "400"},
           Case{"two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400"},
           Case{"two Hosts in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", "400"},
           Case{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "400"},
           Case{"Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400"},
           Case{"Host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "400"},
           Case{"Host with a blank", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400"},
           Case{"port too large", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", "400"},
           Case{"port no number", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", "400"},
           Case{"two colons", "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", "400"},
           Case{"only a port", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n", "400"},
           Case{"open bracket", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "400"},
           Case{"another Expect", kPost + "Content-Length: 1\r\nExpect: x\r\n\r\n", "417"},
       }) {
    EXPECT_EQ(request(c.input), c.want) << c.name;
  }
}

TEST(HttpParser, HasLimits) {
  const auto line = [](size_t bytes) {  // a start line of so many bytes with its CRLF
    return "GET /" + std::string(bytes - 16, 'a') + " HTTP/1.1\r\n";
  };
  const auto parse_one = [](const std::string& input) {
    RequestHead head;
    const Parsed parsed = parse(input, head);
    return parsed == Parsed::kBad ? head.status : parsed == Parsed::kDone ? 200 : 100;
  };
  EXPECT_EQ(parse_one(line(kStartLineBytesMax) + "Host: a\r\n\r\n"), 200);
  EXPECT_EQ(parse_one(line(kStartLineBytesMax + 1) + "Host: a\r\n\r\n"), 414);
  EXPECT_EQ(parse_one(line(kStartLineBytesMax).substr(0, kStartLineBytesMax - 1)), 100);
  EXPECT_EQ(parse_one(line(kStartLineBytesMax + 1).substr(0, kStartLineBytesMax)), 414);

  const auto fields = [](size_t count) {
    std::string text = "GET / HTTP/1.1\r\nHost: a\r\n";
    for (size_t i = 1; i < count; ++i) text += "x: y\r\n";
    return text + "\r\n";
  };
  EXPECT_EQ(parse_one(fields(kFieldsMax)), 200);
  EXPECT_EQ(parse_one(fields(kFieldsMax + 1)), 431);

  const auto head_of = [](size_t bytes) {
    std::string text = kGet + "x: ";
    return text + std::string(bytes - text.size() - 4, 'y') + "\r\n\r\n";
  };
  EXPECT_EQ(parse_one(head_of(kHeadBytesMax)), 200);
  EXPECT_EQ(parse_one(head_of(kHeadBytesMax + 1)), 431);
  EXPECT_EQ(parse_one(head_of(kHeadBytesMax + 1).substr(0, kHeadBytesMax)), 431);
  EXPECT_EQ(parse_one(head_of(kHeadBytesMax).substr(0, kHeadBytesMax - 1)), 100);
}

TEST(HttpParser, ReadsResponses) {
  struct ResponseCase {
    const char* name;
    std::string input;
    const char* method;
    const char* want;
  };
  const std::string ok = "HTTP/1.1 200 OK\r\n";
  for (const ResponseCase& c : {
           ResponseCase{"length", ok + "Content-Length: 3\r\n\r\n", "GET", "200 length=3"},
           ResponseCase{"chunked", ok + "Transfer-Encoding: chunked\r\n\r\n", "GET", "200 chunked"},
           ResponseCase{"until close", ok + "\r\n", "GET", "200 until-close close"},
           ResponseCase{"to HEAD", ok + "Content-Length: 3\r\n\r\n", "HEAD", "200"},
           ResponseCase{"204", "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", "GET",
                        "204"},
           ResponseCase{"304", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
                        "GET", "304"},
           ResponseCase{"100", "HTTP/1.1 100 Continue\r\n\r\n", "GET", "100"},
           ResponseCase{"no reason", "HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\n", "GET",
                        "200 length=1"},
           ResponseCase{"no blank either", "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\n", "GET",
                        "200 length=1"},
           ResponseCase{"equal lengths", ok + "Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
                        "GET", "200 length=1"},
           ResponseCase{"a list of equal ones", ok + "Content-Length: 1, 1\r\n\r\n", "GET",
                        "200 length=1"},
           ResponseCase{"different lengths", ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
                        "GET", "502"},
           ResponseCase{"a list of different ones", ok + "Content-Length: 1, 2\r\n\r\n", "GET",
                        "502"},
           ResponseCase{"both", ok + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                        "GET", "200 chunked close ignore-length"},
           ResponseCase{"gzip", ok + "Transfer-Encoding: gzip\r\n\r\n", "GET", "502"},
           ResponseCase{"chunked in 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                        "GET", "502"},
           ResponseCase{"1.0", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", "GET",
                        "200 length=1 close"},
           ResponseCase{"bare LF", "HTTP/1.1 200 OK\nContent-Length: 1\r\n\r\n", "GET", "502"},
           ResponseCase{"folded", ok + "X: a\r\n b\r\n\r\n", "GET", "502"},
           ResponseCase{"status 99", "HTTP/1.1 099 No\r\n\r\n", "GET", "502"},
           ResponseCase{"no number", "HTTP/1.1 2x0 No\r\n\r\n", "GET", "502"},
           ResponseCase{"four digits", "HTTP/1.1 2000 No\r\n\r\n", "GET", "502"},
           ResponseCase{"not HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", "GET", "502"},
           ResponseCase{"HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", "GET", "502"},
           ResponseCase{"control character in the reason", "HTTP/1.1 200 a\x01\r\n\r\n", "GET",
                        "502"},
       }) {
    EXPECT_EQ(response(c.input, c.method), c.want) << c.name;
  }
}

// The body and what ended it: "data|done", "data|more", "bad".
std::string dechunk(const std::vector<std::string_view>& pieces) {
  ChunkedDecoder decoder;
  std::string data;
  for (std::string_view piece : pieces) {
    while (!piece.empty()) {
      const ChunkedDecoder::Step step = decoder.decode(piece);
      data += step.data;
      piece.remove_prefix(step.consumed);
      if (step.parsed == Parsed::kBad) return "bad";
      if (step.parsed == Parsed::kDone) return data + "|done";
    }
  }
  return data + "|more";
}

TEST(HttpParser, TakesChunksApart) {
  for (const Case& c : {
           Case{"nothing", "0\r\n\r\n", "|done"},
           Case{"one", "3\r\nabc\r\n0\r\n\r\n", "abc|done"},
           Case{"two, hexadecimal", "A\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n", "0123456789x|done"},
           Case{"zeros before the size", "0003\r\nabc\r\n000\r\n\r\n", "abc|done"},
           Case{"extension", "3;a=\"b\"\r\nabc\r\n0;c\r\n\r\n", "abc|done"},
           Case{"trailers", "0\r\nX: y\r\nZ:\r\n\r\n", "|done"},
           Case{"what follows is not looked at", "0\r\n\r\nGET", "|done"},
           Case{"not whole", "3\r\nab", "ab|more"},
           Case{"no size", "\r\nabc\r\n", "bad"},
           Case{"blank before the size", " 3\r\nabc\r\n0\r\n\r\n", "bad"},
           Case{"blank behind the size", "3 \r\nabc\r\n0\r\n\r\n", "bad"},
           Case{"a sign", "+3\r\nabc\r\n0\r\n\r\n", "bad"},
           Case{"0x", "0x3\r\nabc\r\n0\r\n\r\n", "bad"},
           Case{"bare LF", "3\nabc\r\n0\r\n\r\n", "bad"},
           Case{"bare CR", "3\rabc\r\n0\r\n\r\n", "bad"},
           Case{"longer than its size", "3\r\nabcd\r\n0\r\n\r\n", "bad"},
           Case{"no CR behind the data", "3\r\nabc\n0\r\n\r\n", "bad"},
           Case{"17 digits", "00000000000000003\r\n", "bad"},
           Case{"too large", "ffffffffffffffff\r\n", "bad"},
           Case{"line end in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n", "bad"},
           Case{"a trailer without a colon", "0\r\nX\r\n\r\n", "bad"},
           Case{"a trailer folded", "0\r\nX: a\r\n b\r\n\r\n", "bad"},
           Case{"a blank before a trailer's colon", "0\r\nX : a\r\n\r\n", "bad"},
           Case{"a trailer ends with LF", "0\r\nX: a\n\r\n", "bad"},
           Case{"an extension of 257 bytes", "3;" + std::string(257, 'a') + "\r\nabc\r\n0\r\n\r\n",
                "bad"},
           Case{"trailers of over 8 KiB",
                "0\r\nX: " + std::string(kTrailerBytesMax, 'a') + "\r\n\r\n", "bad"},
       }) {
    const std::string_view all = c.input;
    EXPECT_EQ(dechunk({all}), c.want) << c.name;
    for (size_t cut = 0; cut <= all.size(); ++cut) {
      EXPECT_EQ(dechunk({all.substr(0, cut), all.substr(cut)}), c.want)
          << c.name << ", cut at " << cut;
    }
  }
}

TEST(HttpParser, CountsExtensionsOverTheWholeBody) {
  std::string body;
  for (int i = 0; i < 20; ++i) body += "1;" + std::string(250, 'a') + "\r\nx\r\n";
  EXPECT_EQ(dechunk({body}), "bad");
}

}  // namespace
}  // namespace hob::http
