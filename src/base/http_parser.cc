#include "base/http_parser.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace hob::http {

namespace {

enum CharClass : unsigned char {
  kToken = 1,
  kTarget = 2,
  kValue = 4,
  kHostChar = 8,
  kHexDigit = 16
};

constexpr std::array<unsigned char, 256> make_classes() {
  std::array<unsigned char, 256> table{};
  const auto allow = [&](std::string_view chars, unsigned char bit) {
    for (const char c : chars) table[static_cast<unsigned char>(c)] |= bit;
  };
  constexpr std::string_view kAlphanumeric =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  allow(kAlphanumeric, kToken | kHostChar);
  allow("!#$%&'*+-.^_`|~", kToken);
  // RFC 3986's reg-name, and an IPv6 literal's brackets and colons, whose places host_is_valid()
  // checks.
  allow("-._~%!$&'()*+,;=:[]", kHostChar);
  allow("0123456789abcdefABCDEF", kHexDigit);
  for (int c = 0x21; c < 0x7f; ++c) {
    if (c != '#') table[static_cast<size_t>(c)] |= kTarget;  // a fragment is never sent
  }
  for (int c = 0x20; c < 0x100; ++c) {
    if (c != 0x7f) table[static_cast<size_t>(c)] |= kValue;
  }
  table['\t'] |= kValue;
  return table;
}
constexpr std::array<unsigned char, 256> kClasses = make_classes();

bool is(char c, CharClass wanted) {
  return (kClasses[static_cast<unsigned char>(c)] & wanted) != 0;
}

bool all(std::string_view text, CharClass wanted) {
  for (const char c : text) {
    if (!is(c, wanted)) return false;
  }
  return true;
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_blank(char c) { return c == ' ' || c == '\t'; }

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

Parsed bad(Head& head, int status, const char* error) {
  head.status = status;
  head.error = error;
  return Parsed::kBad;
}

// Finds the end of the head: kDone when `head.scanned` is behind its last empty line. Looks at each
// byte once, in order, so that the first mistake found is the same however the input was cut.
Parsed scan(std::string_view buffer, Head& head) {
  for (;;) {
    if (head.lines == 0 && head.line_start < buffer.size()) {
      // Something that is not HTTP at all (a TLS hello) is refused at its first byte, not at the
      // time-out.
      const char first = buffer[head.line_start];
      if (!is(first, kToken) && first != '\r') return bad(head, 400, "not HTTP");
    }
    const size_t start_line_max = head.head_start + kStartLineBytesMax;
    const size_t head_max = head.head_start + kHeadBytesMax;
    const void* found =
        head.scanned < buffer.size()
            ? std::memchr(buffer.data() + head.scanned, '\n', buffer.size() - head.scanned)
            : nullptr;
    // The least that the end of this line can be.
    const size_t end =
        found != nullptr ? static_cast<size_t>(static_cast<const char*>(found) - buffer.data()) + 1
                         : buffer.size() + 1;
    if (head.lines == 0 && end > start_line_max)
      return bad(head, 414, "the start line is too long");
    if (end > head_max) return bad(head, 431, "the head is too long");
    if (found == nullptr) {
      head.scanned = buffer.size();
      return Parsed::kMore;
    }
    if (end - head.line_start < 2 || buffer[end - 2] != '\r')
      return bad(head, 400, "a line ends without CR");
    const bool empty = end - head.line_start == 2;
    head.scanned = end;
    if (empty && head.lines > 0) return Parsed::kDone;
    if (empty) {
      if (++head.empty_lines > kEmptyLinesMax)
        return bad(head, 400, "empty lines instead of a message");
      head.head_start = end;
    } else {
      ++head.lines;
    }
    head.line_start = end;
  }
}

// Takes the next line off `rest`, without its CRLF. scan() has seen that it is there.
std::string_view take_line(std::string_view& rest) {
  const size_t end = rest.find('\n');
  const std::string_view line = rest.substr(0, end - 1);
  rest.remove_prefix(end + 1);
  return line;
}

// "HTTP/1.1" -> 1. 400: no version; 505: another major one.
std::optional<int> parse_version(std::string_view text, Head& head) {
  if (text.size() != 8 || !text.starts_with("HTTP/") || !is_digit(text[5]) || text[6] != '.' ||
      !is_digit(text[7])) {
    bad(head, 400, "no HTTP version");
    return std::nullopt;
  }
  if (text[5] != '1' || text[7] > '1') {
    bad(head, 505, "not HTTP/1.0 or HTTP/1.1");
    return std::nullopt;
  }
  return text[7] - '0';
}

// The fields up to the empty line.
bool parse_fields(std::string_view rest, Head& head) {
  for (;;) {
    const std::string_view line = take_line(rest);
    if (line.empty()) return true;
    if (head.field_count == kFieldsMax) {
      bad(head, 431, "too many fields");
      return false;
    }
    size_t colon = 0;
    while (colon < line.size() && is(line[colon], kToken)) ++colon;
    // A blank before the colon, a folded line and a line without a colon all stop here.
    if (colon == 0 || colon == line.size() || line[colon] != ':') {
      bad(head, 400, "a field's name is not a token followed by a colon");
      return false;
    }
    const std::string_view value = line.substr(colon + 1);
    if (!all(value, kValue)) {
      bad(head, 400, "a field's value has a control character");
      return false;
    }
    head.fields[head.field_count++] = {line.substr(0, colon), trim(value)};
  }
}

struct Fields {
  std::string_view content_length{};
  int content_lengths = 0;
  bool content_lengths_differ = false;
  std::string_view transfer_encoding{};
  int transfer_encodings = 0;
  std::string_view host{};
  int hosts = 0;
  std::string_view expect{};
  int expects = 0;
  bool close = false;
  bool keep_alive = false;
  bool upgrade_named = false;
  bool upgrade_field = false;
};

// One pass over the fields for those that framing depends on; told apart by length first.
Fields look_at(const Head& head) {
  Fields seen;
  for (size_t i = 0; i < head.field_count; ++i) {
    const auto& [name, value] = head.fields[i];
    switch (name.size()) {
      case 4:
        if (!equal_without_case(name, "host")) break;
        seen.host = value;
        ++seen.hosts;
        break;
      case 6:
        if (!equal_without_case(name, "expect")) break;
        seen.expect = value;
        ++seen.expects;
        break;
      case 7:
        if (equal_without_case(name, "upgrade")) seen.upgrade_field = true;
        break;
      case 10:
        if (!equal_without_case(name, "connection")) break;
        seen.close |= list_has(value, "close");
        seen.keep_alive |= list_has(value, "keep-alive");
        seen.upgrade_named |= list_has(value, "upgrade");
        break;
      case 14:
        if (!equal_without_case(name, "content-length")) break;
        if (seen.content_lengths++ > 0 && value != seen.content_length)
          seen.content_lengths_differ = true;
        seen.content_length = value;
        break;
      case 17:
        if (!equal_without_case(name, "transfer-encoding")) break;
        seen.transfer_encoding = value;
        ++seen.transfer_encodings;
        break;
      default:
        break;
    }
  }
  return seen;
}

void set_connection(const Fields& seen, Head& head) {
  head.keep_alive = head.minor == 1 ? !seen.close : seen.keep_alive && !seen.close;
  head.upgrade = seen.upgrade_named && seen.upgrade_field;
}

// "name", "name:80", "[::1]:80".
bool host_is_valid(std::string_view host) {
  if (host.empty() || host.size() > 255 + 6 || !all(host, kHostChar)) return false;
  size_t name_end = host.size();
  if (host.front() == '[') {
    const size_t close = host.find(']');
    if (close == std::string_view::npos || close < 3) return false;
    for (const char c : host.substr(1, close - 1)) {
      if (!is(c, kHexDigit) && c != ':' && c != '.') return false;
    }
    name_end = close + 1;
    if (name_end < host.size() && host[name_end] != ':') return false;
  } else {
    if (host.find_first_of("[]") != std::string_view::npos) return false;
    if (const size_t colon = host.find(':'); colon != std::string_view::npos) name_end = colon;
    if (name_end == 0) return false;
  }
  if (name_end == host.size()) return true;
  const std::string_view port = host.substr(name_end + 1);
  if (port.empty()) return true;  // RFC 3986 allows "name:"
  if (port.size() > 5) return false;
  int number = 0;
  for (const char c : port) {
    if (!is_digit(c)) return false;
    number = number * 10 + (c - '0');
  }
  return number <= 65535;
}

// Splits the target by its form (RFC 9112 §3.2).
bool parse_target(RequestHead& head) {
  std::string_view rest = head.target;
  if (rest == "*") {
    head.path = rest;
    if (head.method == "OPTIONS") return true;
    bad(head, 400, "'*' as the target of another method than OPTIONS");
    return false;
  }
  if (rest.front() != '/') {
    size_t scheme = 0;
    if (rest.size() > 7 && equal_without_case(rest.substr(0, 7), "http://")) scheme = 7;
    if (rest.size() > 8 && equal_without_case(rest.substr(0, 8), "https://")) scheme = 8;
    if (scheme == 0) {
      bad(head, 400, "the target is no path and no http URL");
      return false;
    }
    rest.remove_prefix(scheme);
    const size_t end = std::min(rest.find_first_of("/?"), rest.size());
    head.host = rest.substr(0, end);
    if (!host_is_valid(head.host)) {
      bad(head, 400, "the target's host is not valid");
      return false;
    }
    rest.remove_prefix(end);
  }
  const size_t mark = std::min(rest.find('?'), rest.size());
  head.path = rest.substr(0, mark);
  if (head.path.empty()) head.path = "/";
  if (mark < rest.size()) head.query = rest.substr(mark + 1);
  return true;
}

bool parse_request_line(std::string_view line, RequestHead& head) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    bad(head, 400, "no method, target and version");
    return false;
  }
  head.method = line.substr(0, first);
  head.target = line.substr(first + 1, last - first - 1);
  if (!is_token(head.method)) {
    bad(head, 400, "the method is no token");
    return false;
  }
  if (head.target.empty() || !all(head.target, kTarget)) {
    bad(head, 400, "the target has a character that must be escaped");
    return false;
  }
  const std::optional<int> minor = parse_version(line.substr(last + 1), head);
  if (!minor) return false;
  head.minor = *minor;
  if (head.method == "CONNECT") {
    bad(head, 405, "CONNECT");
    return false;
  }
  return true;
}

// RFC 9112 §6, and refusing what it would let pass: a message whose end two readers may see in two
// places.
bool frame_request(const Fields& seen, RequestHead& head) {
  if (seen.transfer_encodings > 0) {
    if (head.minor == 0) {
      bad(head, 400, "Transfer-Encoding in HTTP/1.0");
      return false;
    }
    if (seen.content_lengths > 0) {
      bad(head, 400, "both Content-Length and Transfer-Encoding");
      return false;
    }
    if (seen.transfer_encodings > 1) {
      bad(head, 400, "several Transfer-Encoding fields");
      return false;
    }
    if (!equal_without_case(seen.transfer_encoding, "chunked")) {
      const size_t comma = seen.transfer_encoding.rfind(',');
      const bool chunked_last =
          comma != std::string_view::npos &&
          equal_without_case(trim(seen.transfer_encoding.substr(comma + 1)), "chunked") &&
          !list_has(seen.transfer_encoding.substr(0, comma), "chunked");
      bad(head, chunked_last ? 501 : 400, "a Transfer-Encoding other than chunked");
      return false;
    }
    head.framing = Framing::kChunked;
    return true;
  }
  if (seen.content_lengths == 0) return true;
  const std::optional<uint64_t> length = parse_content_length(seen.content_length);
  if (seen.content_lengths > 1 || !length) {
    bad(head, 400, "Content-Length is not one number");
    return false;
  }
  head.content_length = *length;
  head.framing = *length > 0 ? Framing::kLength : Framing::kNone;
  return true;
}

// "5, 5" counts as 5: RFC 9112 §6.3 allows a recipient to see that as one.
std::optional<uint64_t> merged_content_length(std::string_view text) {
  std::optional<uint64_t> merged;
  for (;;) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::optional<uint64_t> one = parse_content_length(trim(text.substr(0, comma)));
    if (!one || (merged && *merged != *one)) return std::nullopt;
    merged = one;
    if (comma == text.size()) return merged;
    text.remove_prefix(comma + 1);
  }
}

bool frame_response(const Fields& seen, std::string_view request_method, ResponseHead& head) {
  std::optional<uint64_t> length;
  if (seen.content_lengths > 0) {
    length = merged_content_length(seen.content_length);
    if (seen.content_lengths_differ || !length) {
      bad(head, 502, "Content-Length is not one number");
      return false;
    }
  }
  if (seen.transfer_encodings > 0) {
    if (head.minor == 0 || seen.transfer_encodings > 1 ||
        !equal_without_case(seen.transfer_encoding, "chunked")) {
      bad(head, 502, "a Transfer-Encoding other than chunked");
      return false;
    }
    if (length) {
      // What sent both is confused: its next response is not to be trusted to begin where we think.
      head.ignore_content_length = true;
      head.keep_alive = false;
    }
  }
  if (head.code < 200 || head.code == 204 || head.code == 304 || request_method == "HEAD") {
    head.framing = Framing::kNone;
  } else if (seen.transfer_encodings > 0) {
    head.framing = Framing::kChunked;
  } else if (length) {
    head.content_length = *length;
    head.framing = *length > 0 ? Framing::kLength : Framing::kNone;
  } else {
    head.framing = Framing::kUntilClose;
    head.keep_alive = false;
  }
  return true;
}

bool parse_status_line(std::string_view line, ResponseHead& head) {
  // The blank before an empty reason is often forgotten; nothing depends on it.
  if (line.size() < 12 || line[8] != ' ' || (line.size() > 12 && line[12] != ' ')) {
    bad(head, 502, "no status line");
    return false;
  }
  const std::optional<int> minor = parse_version(line.substr(0, 8), head);
  if (!minor) return false;
  head.minor = *minor;
  for (const char c : line.substr(9, 3)) {
    if (!is_digit(c)) {
      bad(head, 502, "the status is no number");
      return false;
    }
    head.code = head.code * 10 + (c - '0');
  }
  if (line.size() > 13) head.reason = line.substr(13);
  if (head.code < 100 || !all(head.reason, kValue)) {
    bad(head, 502, "the status line is not valid");
    return false;
  }
  return true;
}

}  // namespace

const Field* Head::find(std::string_view name) const {
  for (size_t i = 0; i < field_count; ++i) {
    if (equal_without_case(fields[i].name, name)) return &fields[i];
  }
  return nullptr;
}

Parsed parse(std::string_view buffer, RequestHead& head) {
  const Parsed scanned = scan(buffer, head);
  if (scanned != Parsed::kDone) return scanned;
  head.bytes = head.scanned;
  std::string_view rest = buffer.substr(head.head_start, head.bytes - head.head_start);
  if (!parse_request_line(take_line(rest), head)) return Parsed::kBad;
  if (!parse_fields(rest, head)) return Parsed::kBad;
  const Fields seen = look_at(head);
  set_connection(seen, head);
  if (seen.hosts > 1 || (seen.hosts == 0 && head.minor == 1))
    return bad(head, 400, "not exactly one Host");
  if (seen.hosts == 1 && !host_is_valid(seen.host)) return bad(head, 400, "Host is not valid");
  head.host = seen.host;
  if (!parse_target(head)) return Parsed::kBad;
  if (!frame_request(seen, head)) return Parsed::kBad;
  if (seen.expects > 0 && head.minor == 1) {
    if (seen.expects > 1 || !equal_without_case(seen.expect, "100-continue")) {
      return bad(head, 417, "an Expect other than 100-continue");
    }
    head.expect_continue = head.framing != Framing::kNone;
  }
  return Parsed::kDone;
}

Parsed parse(std::string_view buffer, ResponseHead& head, std::string_view request_method) {
  const auto answer = [&](Parsed parsed) {
    if (parsed == Parsed::kBad) head.status = 502;
    return parsed;
  };
  const Parsed scanned = scan(buffer, head);
  if (scanned != Parsed::kDone) return answer(scanned);
  head.bytes = head.scanned;
  std::string_view rest = buffer.substr(head.head_start, head.bytes - head.head_start);
  if (!parse_status_line(take_line(rest), head)) return answer(Parsed::kBad);
  if (!parse_fields(rest, head)) return answer(Parsed::kBad);
  const Fields seen = look_at(head);
  set_connection(seen, head);
  if (!frame_response(seen, request_method, head)) return answer(Parsed::kBad);
  return Parsed::kDone;
}

Parsed ChunkedDecoder::bad(const char* why) {
  state_ = State::kBad;
  error_ = why;
  return Parsed::kBad;
}

ChunkedDecoder::Step ChunkedDecoder::decode(std::string_view input) {
  if (state_ == State::kDone) return {.parsed = Parsed::kDone};
  if (state_ == State::kBad) return {.parsed = Parsed::kBad};
  size_t at = 0;
  while (at < input.size()) {
    if (state_ == State::kData) {
      const size_t count =
          left_ < input.size() - at ? static_cast<size_t>(left_) : input.size() - at;
      left_ -= count;
      if (left_ == 0) state_ = State::kDataCr;
      return {.parsed = Parsed::kMore, .consumed = at + count, .data = input.substr(at, count)};
    }
    const Parsed parsed = step(input[at++]);
    if (parsed != Parsed::kMore) return {.parsed = parsed, .consumed = at};
  }
  return {.parsed = Parsed::kMore, .consumed = at};
}

Parsed ChunkedDecoder::step(char c) {
  switch (state_) {
    case State::kSize:
      if (is(c, kHexDigit)) {
        if (++digits_ > kChunkSizeDigitsMax) return bad("a chunk's size has too many digits");
        const int digit = is_digit(c) ? c - '0' : lower(c) - 'a' + 10;
        if (left_ > (std::numeric_limits<uint64_t>::max() >> 5)) return bad("a chunk is too large");
        left_ = left_ * 16 + static_cast<uint64_t>(digit);
        return Parsed::kMore;
      }
      if (digits_ == 0) return bad("a chunk without a size");
      if (c == '\r')
        state_ = State::kSizeLf;
      else if (c == ';')
        state_ = State::kExtension;
      else
        return bad("a chunk's size is not hexadecimal");
      return Parsed::kMore;
    case State::kExtension:
      if (c == '\r') {
        state_ = State::kSizeLf;
        return Parsed::kMore;
      }
      if (!is(c, kValue)) return bad("a chunk extension has a control character");
      if (++extension_bytes_ > kChunkExtensionBytesMax) return bad("a chunk extension is too long");
      if (++extensions_bytes_ > kChunkExtensionsBytesMax)
        return bad("the chunk extensions are too long");
      return Parsed::kMore;
    case State::kSizeLf:
      if (c != '\n') return bad("a bare CR after a chunk's size");
      state_ = left_ > 0 ? State::kData : State::kTrailerStart;
      return Parsed::kMore;
    case State::kDataCr:
      if (c != '\r') return bad("a chunk is longer than its size");
      state_ = State::kDataLf;
      return Parsed::kMore;
    case State::kDataLf:
      if (c != '\n') return bad("a bare CR after a chunk");
      state_ = State::kSize;
      digits_ = 0;
      extension_bytes_ = 0;
      return Parsed::kMore;
    case State::kTrailerStart:
      trailer_colon_ = false;
      if (c == '\r') {
        state_ = State::kEndLf;
        return Parsed::kMore;
      }
      if (!is(c, kToken)) return bad("a trailer's name is not a token");
      if (++trailer_bytes_ > kTrailerBytesMax) return bad("the trailers are too long");
      state_ = State::kTrailerLine;
      return Parsed::kMore;
    case State::kTrailerLine:
      if (++trailer_bytes_ > kTrailerBytesMax) return bad("the trailers are too long");
      if (c == '\r' && trailer_colon_) {
        state_ = State::kTrailerLf;
        return Parsed::kMore;
      }
      if (c == ':')
        trailer_colon_ = true;
      else if (!is(c, trailer_colon_ ? kValue : kToken))
        return bad("a trailer is not a field");
      return Parsed::kMore;
    case State::kTrailerLf:
      if (c != '\n') return bad("a bare CR in a trailer");
      state_ = State::kTrailerStart;
      return Parsed::kMore;
    case State::kEndLf:
      if (c != '\n') return bad("a bare CR after the trailers");
      state_ = State::kDone;
      return Parsed::kDone;
    case State::kData:
    case State::kDone:
    case State::kBad:
      break;
  }
  return bad("more after the end");
}

bool is_token(std::string_view text) { return !text.empty() && all(text, kToken); }

bool equal_without_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

std::optional<uint64_t> parse_content_length(std::string_view text) {
  constexpr auto kMax = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  if (text.empty()) return std::nullopt;
  uint64_t value = 0;
  for (const char c : text) {
    if (!is_digit(c)) return std::nullopt;
    const auto digit = static_cast<uint64_t>(c - '0');
    if (value > (kMax - digit) / 10) return std::nullopt;
    value = value * 10 + digit;
  }
  return value;
}

bool list_has(std::string_view value, std::string_view token) {
  for (;;) {
    const size_t comma = std::min(value.find(','), value.size());
    if (equal_without_case(trim(value.substr(0, comma)), token)) return true;
    if (comma == value.size()) return false;
    value.remove_prefix(comma + 1);
  }
}

}  // namespace hob::http
