#include "edge/http2_head.h"

#include <algorithm>

#include "base/http.h"
#include "edge/chunked.h"
#include "edge/rewrite.h"

namespace hob::edge {
namespace {

bool name_is_valid(std::string_view name) {
  return !name.empty() && std::ranges::none_of(name, [](char c) {
    return (c >= 'A' && c <= 'Z') || c <= ' ' || c == ':' || static_cast<uint8_t>(c) >= 127;
  });
}

bool value_is_valid(std::string_view value) {
  if (!value.empty() && (value.front() == ' ' || value.front() == '\t' || value.back() == ' ' ||
                         value.back() == '\t')) {
    return false;
  }
  return value.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos;
}

// RFC 9113 §8.2.2: what belongs to a connection of HTTP/1.
bool belongs_to_connection(const HpackField& field) {
  switch (field.name.size()) {
    case 2:
      return field.name == "te" && field.value != "trailers";
    case 7:
      return field.name == "upgrade";
    case 10:
      return field.name == "connection" || field.name == "keep-alive";
    case 16:
      return field.name == "proxy-connection";
    case 17:
      return field.name == "transfer-encoding";
    default:
      return false;
  }
}

constexpr std::string_view kWebSocketLines = "connection: upgrade\r\nupgrade: websocket\r\n";

// The handshake of HTTP/1.1, which extended CONNECT does without (RFC 8441 §5).
bool is_websocket_key(std::string_view name) {
  return name == "sec-websocket-key" || name == "sec-websocket-accept";
}

// All fields of a block in turn. `visit` says whether a field is well formed; the block is read to
// its end whatever it says, since the decoder must see it all.
template <class Visit>
HeadOutcome each_field(HpackDecoder& decoder, std::string_view block, Visit visit) {
  decoder.begin();
  size_t bytes = 0;
  bool well_formed = true;
  HpackField field;
  for (;;) {
    switch (decoder.next(block, field)) {
      case HpackDecoder::Outcome::kBad:
        return HeadOutcome::kBadBlock;
      case HpackDecoder::Outcome::kEnd:
        return well_formed ? HeadOutcome::kDone : HeadOutcome::kMalformed;
      case HpackDecoder::Outcome::kField:
        break;
    }
    bytes += field.name.size() + field.value.size() + kHpackEntryOverhead;
    if (bytes > http::kHeadBytesMax) return HeadOutcome::kTooLarge;
    well_formed = well_formed && visit(field);
  }
}

struct Pseudo {
  std::string method{};
  std::string path{};
  std::string authority{};
  std::string protocol{};  // RFC 8441 §4
  bool has_method = false;
  bool has_path = false;
  bool has_authority = false;
  bool has_scheme = false;
  bool has_protocol = false;

  // False: unknown, or the second of its name.
  bool take(const HpackField& field) {
    const auto once = [&](bool& has, std::string* into) {
      if (has) return false;
      has = true;
      if (into != nullptr) into->assign(field.value);
      return true;
    };
    if (field.name == ":method") return once(has_method, &method);
    if (field.name == ":path") return once(has_path, &path);
    if (field.name == ":authority") return once(has_authority, &authority);
    if (field.name == ":protocol") return once(has_protocol, &protocol);
    if (field.name == ":scheme")
      return (field.value == "http" || field.value == "https") && once(has_scheme, nullptr);
    return false;
  }
  // RFC 9113 §8.5: nothing but a method and an authority.
  bool connect() const { return method == "CONNECT" && !has_protocol; }
  bool valid() const {
    if (has_protocol && (method != "CONNECT" || protocol.empty())) return false;
    if (connect() && (has_scheme || has_path || authority.empty())) return false;
    if (!connect() && (!has_scheme || !has_path || path.empty())) return false;
    if (method.empty()) return false;
    if (!connect() && path.front() != '/' && !(path == "*" && method == "OPTIONS")) return false;
    const auto clean = [](const std::string& text) {
      return std::ranges::none_of(
          text, [](char c) { return static_cast<uint8_t>(c) <= ' ' || c == '\x7f'; });
    };
    return clean(method) && clean(path) && clean(authority) && clean(protocol);
  }
};

}  // namespace

HeadOutcome read_request_block(HpackDecoder& decoder, std::string_view block, bool end_stream,
                               std::string& text) {
  Pseudo pseudo;
  std::string lines;
  std::string cookies;
  std::string host;
  bool has_host = false;
  bool has_length = false;
  bool fields_begun = false;
  HeadOutcome outcome = each_field(decoder, block, [&](const HpackField& field) {
    if (!value_is_valid(field.value)) return false;
    if (field.name.starts_with(':')) return !fields_begun && pseudo.take(field);
    fields_begun = true;
    if (!name_is_valid(field.name) || belongs_to_connection(field)) return false;
    if (field.name == "host") {
      if (has_host) return false;
      has_host = true;
      host.assign(field.value);
      return true;
    }
    if (field.name == "cookie") {  // RFC 9113 §8.2.3: crumbs are one field again
      if (!cookies.empty()) cookies += "; ";
      cookies.append(field.value);
      return true;
    }
    if (field.name == "content-length") {
      const auto length = http::parse_content_length(field.value);
      if (has_length || !length || (end_stream && *length != 0)) return false;
      has_length = true;
    }
    // Of no meaning here (RFC 8441 §5); where they have one, they are the edge's own.
    if (pseudo.has_protocol && is_websocket_key(field.name)) return true;
    lines.append(field.name).append(": ").append(field.value).append("\r\n");
    return true;
  });
  if (outcome != HeadOutcome::kDone) return outcome;
  if (!pseudo.valid() || (pseudo.has_protocol && has_length) ||
      (pseudo.has_authority && has_host && pseudo.authority != host))
    return HeadOutcome::kMalformed;
  if (pseudo.has_protocol && pseudo.protocol != "websocket") return HeadOutcome::kUnknownProtocol;
  text.clear();
  text.append(pseudo.has_protocol ? "GET" : pseudo.method)
      .append(" ")
      .append(pseudo.connect() ? pseudo.authority : pseudo.path)
      .append(" HTTP/1.1\r\nhost: ");
  text.append(pseudo.has_authority ? pseudo.authority : host).append("\r\n").append(lines);
  if (!cookies.empty()) text.append("cookie: ").append(cookies).append("\r\n");
  if (pseudo.has_protocol) {
    text.append(kWebSocketLines);
  } else if (!end_stream && !has_length) {
    text.append("transfer-encoding: chunked\r\n");
  }
  text.append("\r\n");
  return outcome;
}

HeadOutcome read_trailer_block(HpackDecoder& decoder, std::string_view block, std::string& lines) {
  lines.clear();
  return each_field(decoder, block, [&](const HpackField& field) {
    if (field.name.starts_with(':') || !name_is_valid(field.name) || !http::is_token(field.name) ||
        !value_is_valid(field.value) || belongs_to_connection(field)) {
      return false;
    }
    if (trailer_allowed(field.name))
      lines.append(field.name).append(": ").append(field.value).append("\r\n");
    return true;
  });
}

HeadOutcome read_answer_block(HpackDecoder& decoder, std::string_view block, bool end_stream,
                              const Asked& asked, std::string& text) {
  std::string lines;
  std::string status;
  bool fields_begun = false;
  bool has_length = false;
  bool has_body = false;
  const HeadOutcome outcome = each_field(decoder, block, [&](const HpackField& field) {
    if (!value_is_valid(field.value)) return false;
    if (field.name == ":status" && !fields_begun && status.empty()) {
      status.assign(field.value);
      return true;
    }
    fields_begun = true;
    if (!name_is_valid(field.name) || !http::is_token(field.name) || belongs_to_connection(field))
      return false;
    // RFC 9110 §9.3.6: a length means nothing where a tunnel begins.
    const bool opens = !asked.websocket_accept.empty() && status.starts_with('2');
    if (opens && (field.name == "content-length" || is_websocket_key(field.name))) return true;
    if (field.name == "content-length") {
      const auto length = http::parse_content_length(field.value);
      if (has_length || !length) return false;
      has_length = true;
      has_body = *length != 0;
    }
    lines.append(field.name).append(": ").append(field.value).append("\r\n");
    return true;
  });
  if (outcome != HeadOutcome::kDone) return outcome;
  const bool digits = status.size() == 3 &&
                      std::ranges::all_of(status, [](char c) { return c >= '0' && c <= '9'; });
  if (!digits || status[0] == '0' || status == "101") return HeadOutcome::kMalformed;
  if (!asked.websocket_accept.empty() && status[0] == '2') {
    text.assign("HTTP/1.1 101 Switching Protocols\r\n").append(lines).append(kWebSocketLines);
    text.append("sec-websocket-accept: ").append(asked.websocket_accept).append("\r\n\r\n");
    return outcome;
  }
  const bool interim = status[0] == '1';
  const bool bodiless = interim || asked.head_method || status == "204" || status == "304";
  if ((interim && end_stream) || (end_stream && has_body && !bodiless))
    return HeadOutcome::kMalformed;
  const int code = (status[0] - '0') * 100 + (status[1] - '0') * 10 + status[2] - '0';
  text.assign("HTTP/1.1 ").append(status).append(" ").append(http::reason_phrase(code));
  text.append("\r\n").append(lines);
  if (!bodiless && !has_length)
    text.append(end_stream ? "content-length: 0\r\n" : "transfer-encoding: chunked\r\n");
  text.append("\r\n");
  return outcome;
}

void write_request_block(std::string_view text, bool websocket, std::string& block) {
  const auto line_of = [&text] {
    const size_t end = text.find("\r\n");
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 2);
    return line;
  };
  const std::string_view first = line_of();
  const size_t blank = first.find(' ');
  hpack_field(":method", websocket ? "CONNECT" : first.substr(0, blank), block);
  if (websocket) hpack_field(":protocol", "websocket", block);
  hpack_field(":scheme", "http", block);
  hpack_field(":path", first.substr(blank + 1, first.rfind(' ') - blank - 1), block);
  // Pseudo fields come first (RFC 9113 §8.3).
  for (int pass = 0; pass < 2; ++pass) {
    for (std::string_view rest = text; !rest.starts_with("\r\n");) {
      const size_t end = rest.find("\r\n");
      const std::string_view line = rest.substr(0, end);
      rest.remove_prefix(end + 2);
      const size_t colon = line.find(':');
      const std::string_view name = line.substr(0, colon);
      std::string_view value = line.substr(colon + 1);
      while (!value.empty() && (value.front() == ' ' || value.front() == '\t'))
        value.remove_prefix(1);
      while (!value.empty() && (value.back() == ' ' || value.back() == '\t'))
        value.remove_suffix(1);
      const bool host = http::equal_without_case(name, "host");
      if (pass == 0 && host) hpack_field(":authority", value, block);
      if (pass == 0 || host || http::equal_without_case(name, "connection") ||
          http::equal_without_case(name, "transfer-encoding")) {
        continue;
      }
      if (http::equal_without_case(name, "upgrade") ||
          (websocket && http::equal_without_case(name, "sec-websocket-key")))
        continue;
      hpack_field(name, value, block);
    }
  }
}

HeadOutcome skip_block(HpackDecoder& decoder, std::string_view block) {
  return each_field(decoder, block, [](const HpackField&) { return true; });
}

void write_answer_block(const http::ResponseHead& head, std::string& block) {
  hpack_status(head.code == 101 ? 200 : head.code, block);
  each_answer_field(head, [&](std::string_view name, std::string_view value) {
    hpack_field(name, value, block);
  });
}

void write_trailer_block(std::string_view lines, std::string& block) {
  while (!lines.empty()) {
    const size_t end = lines.find("\r\n");
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(end + 2);
    const size_t colon = line.find(':');
    std::string_view value = line.substr(colon + 1);
    while (!value.empty() && (value.front() == ' ' || value.front() == '\t'))
      value.remove_prefix(1);
    while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.remove_suffix(1);
    hpack_field(line.substr(0, colon), value, block);
  }
}

}  // namespace hob::edge
