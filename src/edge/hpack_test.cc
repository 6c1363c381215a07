#include "edge/hpack.h"

#include <gtest/gtest.h>

#include "edge/http2_head.h"

namespace hob::edge {
namespace {

std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    if (hex[i] == ' ') {
      --i;
      continue;
    }
    bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  }
  return bytes;
}

// "name: value" lines, or "bad".
std::string decoded(HpackDecoder& decoder, std::string_view block) {
  std::string lines;
  HpackField field;
  decoder.begin();
  for (;;) {
    switch (decoder.next(block, field)) {
      case HpackDecoder::Outcome::kBad:
        return "bad";
      case HpackDecoder::Outcome::kEnd:
        return lines;
      case HpackDecoder::Outcome::kField:
        lines.append(field.name).append(": ").append(field.value).append("\n");
    }
  }
}

TEST(Hpack, DecodesTheExamplesOfItsRfc) {
  const std::string first = ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n";
  const std::string second = first + "cache-control: no-cache\n";
  const std::string third =
      ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\n"
      "custom-key: custom-value\n";
  // Appendix C.3, C.4: the table grows from block to block.
  for (const auto& blocks :
       {std::array{"828684410f7777772e6578616d706c652e636f6d", "828684be58086e6f2d6361636865",
                   "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565"},
        std::array{"828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf",
                   "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"}}) {
    HpackDecoder decoder;
    EXPECT_EQ(decoded(decoder, from_hex(blocks[0])), first);
    EXPECT_EQ(decoded(decoder, from_hex(blocks[1])), second);
    EXPECT_EQ(decoded(decoder, from_hex(blocks[2])), third);
    EXPECT_EQ(decoder.table_bytes(), 164u);
  }
}

TEST(Hpack, RefusesWhatIsNotABlock) {
  struct Case {
    const char* name;
    const char* hex;
  };
  for (const Case& c : {
           Case{"index 0", "80"},
           Case{"an index beyond both tables", "be"},
           Case{"a name beyond both tables", "7f0000"},
           Case{"an integer cut off", "ff"},
           Case{"an integer without end", "ff8080808080808080"},
           Case{"a huge integer", "ffffffffff0f"},
           Case{"a string longer than the block", "400a6162"},
           Case{"a value missing", "400161"},
           Case{"Huffman: the end of string", "4084ffffffff0161"},
           Case{"Huffman: eight bits of padding", "4082f8ff0161"},
           Case{"Huffman: padding of zeros", "4081180161"},
           Case{"a table larger than we allow", "3fe21f"},
           Case{"a table's size behind a field", "8220"},
       }) {
    HpackDecoder decoder;
    EXPECT_EQ(decoded(decoder, from_hex(c.hex)), "bad") << c.name;
  }
}

TEST(Hpack, ForgetsTheOldestFirst) {
  HpackDecoder decoder;
  // Each takes 32 + 1 + 1000 bytes: three fit.
  for (const char name : {'a', 'b', 'c', 'd'}) {
    std::string block = {'\x40', '\x01', name, '\x7f', '\xe9', '\x06'};
    block += std::string(1000, name);
    EXPECT_NE(decoded(decoder, block), "bad");
  }
  EXPECT_EQ(decoder.table_bytes(), 3 * 1033u);
  EXPECT_EQ(decoded(decoder, from_hex("be")).substr(0, 4), "d: d");
  EXPECT_EQ(decoded(decoder, from_hex("c0")).substr(0, 4), "b: b");
  EXPECT_EQ(decoded(decoder, from_hex("c1")), "bad");
  // A field with the name of one that it pushes out.
  std::string again = from_hex("7f017fe906") + std::string(1000, 'x');
  EXPECT_EQ(decoded(decoder, again).substr(0, 4), "b: x");
  EXPECT_EQ(decoded(decoder, from_hex("be")).substr(0, 4), "b: x");
  // A table of nothing.
  EXPECT_NE(decoded(decoder, from_hex("20")), "bad");
  EXPECT_EQ(decoder.table_bytes(), 0u);
  EXPECT_EQ(decoded(decoder, from_hex("be")), "bad");
}

TEST(Hpack, WritesWhatItReads) {
  std::string block(kHpackNoTable);
  hpack_status(200, block);
  hpack_status(421, block);
  hpack_field("Content-Type", "text/plain", block);
  hpack_field("X-Own", std::string(300, 'v'), block);
  hpack_field("accept-encoding", "br", block);
  hpack_field("empty", "", block);
  HpackDecoder decoder;
  EXPECT_EQ(decoded(decoder, block),
            ":status: 200\n:status: 421\ncontent-type: text/plain\nx-own: " +
                std::string(300, 'v') + "\naccept-encoding: br\nempty: \n");
}

// Literal fields, as a client without a table would write them.
std::string block_of(const std::vector<std::pair<std::string, std::string>>& fields) {
  std::string block;
  for (const auto& [name, value] : fields) {
    block += '\0';
    for (const std::string& text : {name, value}) {
      EXPECT_LT(text.size(), 127u);
      block += static_cast<char>(text.size());
      block += text;
    }
  }
  return block;
}

TEST(Http2Head, BecomesOneRequestOrIsRefused) {
  using Fields = std::vector<std::pair<std::string, std::string>>;
  const auto with = [](Fields more) {
    Fields fields = {
        {":method", "GET"}, {":scheme", "https"}, {":path", "/a?b"}, {":authority", "a.b"}};
    fields.insert(fields.end(), more.begin(), more.end());
    return fields;
  };
  const std::string nul("a\0b", 3);
  struct Case {
    const char* name;
    Fields fields;
    bool end_stream;
    std::string want;  // empty: refused
  };
  const std::string head = "GET /a?b HTTP/1.1\r\nhost: a.b\r\n";
  for (const Case& c : {
           Case{"plain", with({{"x", "1"}}), true, head + "x: 1\r\n\r\n"},
           Case{"a body of unknown length", with({}), false,
                head + "transfer-encoding: chunked\r\n\r\n"},
           Case{"a body with a length", with({{"content-length", "5"}}), false,
                head + "content-length: 5\r\n\r\n"},
           Case{"cookie crumbs", with({{"cookie", "a=1"}, {"x", "1"}, {"cookie", "b=2"}}), true,
                head + "x: 1\r\ncookie: a=1; b=2\r\n\r\n"},
           Case{"host that agrees", with({{"host", "a.b"}}), true, head + "\r\n"},
           Case{"host alone",
                {{":method", "GET"}, {":scheme", "http"}, {":path", "/a?b"}, {"host", "a.b"}},
                true,
                head + "\r\n"},
           Case{"all of the server",
                {{":method", "OPTIONS"}, {":scheme", "http"}, {":path", "*"}, {":authority", "a"}},
                true,
                "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n"},
           Case{"te: trailers", with({{"te", "trailers"}}), true, head + "te: trailers\r\n\r\n"},
           Case{"te: gzip", with({{"te", "gzip"}}), true, ""},
           Case{"host that does not agree", with({{"host", "c.d"}}), true, ""},
           Case{"two hosts", with({{"host", "a.b"}, {"host", "a.b"}}), true, ""},
           Case{"an upper-case name", with({{"X", "1"}}), true, ""},
           Case{"an empty name", with({{"", "1"}}), true, ""},
           Case{"a colon in a name", with({{"a:b", "1"}}), true, ""},
           Case{"a blank in a name", with({{"a b", "1"}}), true, ""},
           Case{"a line in a name", with({{"a\r\nb", "1"}}), true, ""},
           Case{"a CR in a value", with({{"x", "1\r2"}}), true, ""},
           Case{"an LF in a value", with({{"x", "1\n2"}}), true, ""},
           Case{"a NUL in a value", with({{"x", nul}}), true, ""},
           Case{"a blank around a value", with({{"x", " 1"}}), true, ""},
           Case{"a smuggled request", with({{"x", "1\r\n\r\nGET /evil HTTP/1.1\r\nHost: a.b"}}),
                true, ""},
           Case{"connection", with({{"connection", "close"}}), true, ""},
           Case{"keep-alive", with({{"keep-alive", "1"}}), true, ""},
           Case{"proxy-connection", with({{"proxy-connection", "close"}}), true, ""},
           Case{"transfer-encoding", with({{"transfer-encoding", "chunked"}}), false, ""},
           Case{"upgrade", with({{"upgrade", "x"}}), true, ""},
           Case{"a pseudo field twice", with({{":path", "/"}}), true, ""},
           Case{"an unknown pseudo field", with({{":own", "1"}}), true, ""},
           Case{"a late pseudo field",
                {{":method", "GET"}, {"x", "1"}, {":scheme", "http"}, {":path", "/"}},
                true,
                ""},
           Case{"an answer's", with({{":status", "200"}}), true, ""},
           Case{"no method", {{":scheme", "http"}, {":path", "/"}, {":authority", "a"}}, true, ""},
           Case{"no scheme", {{":method", "GET"}, {":path", "/"}, {":authority", "a"}}, true, ""},
           Case{
               "no path", {{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}}, true, ""},
           Case{"a scheme of its own",
                {{":method", "GET"}, {":scheme", "ftp"}, {":path", "/"}, {":authority", "a"}},
                true,
                ""},
           Case{"an empty path",
                {{":method", "GET"}, {":scheme", "http"}, {":path", ""}, {":authority", "a"}},
                true,
                ""},
           Case{"a path without a slash",
                {{":method", "GET"}, {":scheme", "http"}, {":path", "a"}, {":authority", "a"}},
                true,
                ""},
           Case{"a star that is no OPTIONS",
                {{":method", "GET"}, {":scheme", "http"}, {":path", "*"}, {":authority", "a"}},
                true,
                ""},
           Case{"a path with a blank",
                {{":method", "GET"},
                 {":scheme", "http"},
                 {":path", "/ HTTP/1.1"},
                 {":authority", "a"}},
                true,
                ""},
           Case{
               "a method with a blank",
               {{":method", "GET /evil"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}},
               true,
               ""},
           Case{"a tunnel, which the parser refuses",
                {{":method", "CONNECT"}, {":authority", "a"}},
                true,
                "CONNECT a HTTP/1.1\r\nhost: a\r\n\r\n"},
           Case{"a tunnel with a path",
                {{":method", "CONNECT"}, {":authority", "a"}, {":path", "/"}},
                true,
                ""},
           Case{"a length without a body", with({{"content-length", "5"}}), true, ""},
           Case{"a length of nothing", with({{"content-length", "0"}}), true,
                head + "content-length: 0\r\n\r\n"},
           Case{"two lengths", with({{"content-length", "5"}, {"content-length", "5"}}), false, ""},
           Case{"a length that is none", with({{"content-length", "+5"}}), false, ""},
       }) {
    HpackDecoder decoder;
    std::string text;
    const HeadOutcome outcome = read_request_block(decoder, block_of(c.fields), c.end_stream, text);
    EXPECT_EQ(outcome, c.want.empty() ? HeadOutcome::kMalformed : HeadOutcome::kDone) << c.name;
    if (!c.want.empty()) EXPECT_EQ(text, c.want) << c.name;
  }
}

TEST(Http2Head, TrailersArePassedOnIfTheyMay) {
  HpackDecoder decoder;
  std::string lines;
  EXPECT_EQ(read_trailer_block(decoder, block_of({{"x-sum", "1"}, {"content-length", "5"}}), lines),
            HeadOutcome::kDone);
  EXPECT_EQ(lines, "x-sum: 1\r\n");
  EXPECT_EQ(read_trailer_block(decoder, block_of({{":path", "/"}}), lines),
            HeadOutcome::kMalformed);
  std::string block;
  write_trailer_block("X-Sum: 11\r\ny:  2 \r\n", block);
  EXPECT_EQ(decoded(decoder, block), "x-sum: 11\ny: 2\n");
}

TEST(Http2Head, ABombIsStoppedWhileItIsDecoded) {
  HpackDecoder decoder;
  // One field of 4,000 bytes into the table, then a byte each for as many copies.
  std::string block = block_of({{":method", "GET"}, {":scheme", "http"}, {":path", "/"}});
  block += from_hex("400161") + "\x7f\xa1\x1e" + std::string(4000, 'x');
  block += std::string(60'000, '\xbe');
  std::string text;
  EXPECT_EQ(read_request_block(decoder, block, true, text), HeadOutcome::kTooLarge);
  EXPECT_LT(text.size(), 2 * http::kHeadBytesMax);
}

}  // namespace
}  // namespace hob::edge
