#include "edge/rewrite.h"

#include <array>
#include <string>
#include <utility>

#include "edge/limits.h"

namespace hob::edge {
namespace {

enum class Field {
  kOther,
  kHop,
  kForwarded,
  kFraming,
  kLength,
  kHost,
  kConnection,
  kUpgrade,
  kTe,
  kTrace,
  kTrailer
};

char normal(char c) {
  if (c >= 'A' && c <= 'Z') return static_cast<char>(c + 32);
  return c == '_' ? '-' : c;
}

bool same(std::string_view name, std::string_view known) {
  for (size_t i = 0; i < known.size(); ++i) {
    if (normal(name[i]) != known[i]) return false;
  }
  return true;
}

// By length first: nearly every field is told by that and one comparison. '_' counts as '-'.
Field known(std::string_view name) {
  switch (name.size()) {
    case 2:
      return same(name, "te") ? Field::kTe : Field::kOther;
    case 4:
      return same(name, "host") ? Field::kHost : Field::kOther;
    case 7:
      if (same(name, "upgrade")) return Field::kUpgrade;
      return same(name, "trailer") ? Field::kTrailer : Field::kOther;
    case 9:
      return same(name, "forwarded") ? Field::kForwarded : Field::kOther;
    case 10:
      if (same(name, "connection")) return Field::kConnection;
      return same(name, "keep-alive") ? Field::kHop : Field::kOther;
    case 14:
      return same(name, "content-length") ? Field::kLength : Field::kOther;
    case 15:
      if (same(name, "x-forwarded-for")) return Field::kForwarded;
      return same(name, "x-amzn-trace-id") ? Field::kTrace : Field::kOther;
    case 16:
      if (same(name, "proxy-connection")) return Field::kHop;
      return same(name, "x-forwarded-port") || same(name, "x-forwarded-host") ? Field::kForwarded
                                                                              : Field::kOther;
    case 17:
      if (same(name, "transfer-encoding")) return Field::kFraming;
      return same(name, "x-forwarded-proto") ? Field::kForwarded : Field::kOther;
    default:
      return Field::kOther;
  }
}

// The Connection fields' members, one after the other.
template <class Visit>
void each_connection_name(const http::Head& head, Visit visit) {
  for (size_t i = 0; i < head.field_count; ++i) {
    if (!http::equal_without_case(head.fields[i].name, "connection")) continue;
    std::string_view list = head.fields[i].value;
    while (!list.empty()) {
      const size_t comma = std::min(list.find(','), list.size());
      std::string_view one = list.substr(0, comma);
      while (!one.empty() && (one.front() == ' ' || one.front() == '\t')) one.remove_prefix(1);
      while (!one.empty() && (one.back() == ' ' || one.back() == '\t')) one.remove_suffix(1);
      if (!one.empty()) visit(one);
      list.remove_prefix(std::min(comma + 1, list.size()));
    }
  }
}

// Names in Connection that are not the usual ones: fields to be dropped. Rare, so found by asking
// again each time.
bool has_named(const http::Head& head) {
  bool any = false;
  each_connection_name(head, [&](std::string_view name) {
    if (!http::equal_without_case(name, "close") && !http::equal_without_case(name, "keep-alive") &&
        !http::equal_without_case(name, "upgrade") && !http::equal_without_case(name, "te")) {
      any = true;
    }
  });
  return any;
}

bool is_named(const http::Head& head, std::string_view field) {
  bool named = false;
  each_connection_name(
      head, [&](std::string_view name) { named |= http::equal_without_case(name, field); });
  return named;
}

// Copies field lines, whole runs of them at once.
class LineCopier {
 public:
  LineCopier(const http::Head& head, std::string_view raw, BufferPool& pool, Chain& into)
      : end_(raw.data() + raw.size() - 2), head_(head), pool_(pool), into_(into) {}
  void keep(size_t i) {
    if (start_ == nullptr) start_ = head_.fields[i].name.data();
  }
  void drop(size_t i) {
    if (start_ == nullptr) return;
    write(head_.fields[i].name.data());
  }
  bool finish() {
    if (start_ != nullptr) write(end_);
    return whole_;
  }
  void add(std::string_view text) { whole_ &= into_.append(pool_, text); }

 private:
  void write(const char* end) {
    whole_ &= into_.append(pool_, std::string_view(start_, static_cast<size_t>(end - start_)));
    start_ = nullptr;
  }
  const char* start_ = nullptr;
  const char* end_;
  bool whole_ = true;
  const http::Head& head_;
  BufferPool& pool_;
  Chain& into_;
};

}  // namespace

bool connection_is_valid(const http::RequestHead& head) {
  bool valid = true;
  each_connection_name(head, [&](std::string_view name) {
    switch (known(name)) {
      case Field::kHost:
      case Field::kLength:
      case Field::kFraming:
      case Field::kForwarded:
      case Field::kTrace:
        valid = false;
        break;
      default:
        break;
    }
  });
  return valid;
}

bool rewrite_request(const http::RequestHead& head, std::string_view raw, const RequestRewrite& how,
                     BufferPool& pool, Chain& into) {
  LineCopier copy(head, raw, pool, into);
  const bool absolute = head.target.front() != '/' && head.target.front() != '*';
  copy.add(head.method);
  copy.add(" ");
  if (absolute) {
    copy.add(head.path);
    if (!head.query.empty()) {
      copy.add("?");
      copy.add(head.query);
    }
  } else {
    copy.add(head.target);
  }
  copy.add(" HTTP/1.1\r\n");
  if (absolute) {
    copy.add("Host: ");
    copy.add(head.host);
    copy.add("\r\n");
  }
  std::string_view trace;
  std::string_view upgrade;
  bool te_trailers = false;
  bool connection = false;
  bool named = false;
  for (size_t i = 0; i < head.field_count; ++i) {
    if (head.fields[i].name.size() == 10 && known(head.fields[i].name) == Field::kConnection)
      connection = true;
  }
  if (connection) named = has_named(head);
  for (size_t i = 0; i < head.field_count; ++i) {
    const auto& [name, value] = head.fields[i];
    const Field field = known(name);
    if (field == Field::kOther && !(named && is_named(head, name))) {
      copy.keep(i);
      continue;
    }
    if (field == Field::kHost && !absolute && name.find('_') == std::string_view::npos) {
      copy.keep(i);
      continue;
    }
    if (field == Field::kTrailer && head.framing == http::Framing::kChunked) {
      copy.keep(i);
      continue;
    }
    // A GET with "Content-Length: 0" keeps it; any other length is written again with the framing.
    if (field == Field::kLength && head.framing == http::Framing::kNone &&
        name.find('_') == std::string_view::npos) {
      copy.keep(i);
      continue;
    }
    copy.drop(i);
    if (field == Field::kTrace) trace = value;
    if (field == Field::kUpgrade && name.find('_') == std::string_view::npos) upgrade = value;
    if (field == Field::kTe && http::list_has(value, "trailers")) te_trailers = true;
  }
  if (!copy.finish()) return false;
  if (te_trailers) copy.add("TE: trailers\r\n");
  if (how.upgrade && !upgrade.empty()) {
    copy.add(te_trailers ? "Connection: upgrade, TE\r\nUpgrade: "
                         : "Connection: upgrade\r\nUpgrade: ");
    copy.add(upgrade);
    copy.add("\r\n");
    if (!how.websocket_key.empty()) {
      copy.add("Sec-WebSocket-Key: ");
      copy.add(how.websocket_key);
      copy.add("\r\n");
    }
  } else if (te_trailers) {
    copy.add("Connection: TE\r\n");
  }
  copy.add(how.forwarded);
  if (trace.empty() || trace.size() > kTraceIdBytesMax) {
    copy.add("X-Amzn-Trace-Id: Root=");
    copy.add(how.new_trace);
  } else {
    copy.add("X-Amzn-Trace-Id: Self=");
    copy.add(how.new_trace);
    copy.add(";");
    copy.add(trace);
  }
  copy.add("\r\n");
  return copy.finish();
}

bool rewrite_response(const http::ResponseHead& head, std::string_view raw, AnswerFraming framing,
                      Persistence persistence, std::string_view lines, BufferPool& pool,
                      Chain& into) {
  LineCopier copy(head, raw, pool, into);
  if (head.minor == 1) {
    copy.add(raw.substr(0, raw.find('\n') + 1));
  } else {
    copy.add("HTTP/1.1");
    copy.add(raw.substr(8, raw.find('\n') + 1 - 8));
  }
  bool named = false;
  std::string_view upgrade;
  for (size_t i = 0; i < head.field_count; ++i) {
    if (head.fields[i].name.size() == 10 && known(head.fields[i].name) == Field::kConnection)
      named = has_named(head);
  }
  bool length_written = false;
  const bool bodiless = head.code < 200 || head.code == 204;
  for (size_t i = 0; i < head.field_count; ++i) {
    const auto& [name, value] = head.fields[i];
    bool keep = false;
    switch (known(name)) {
      case Field::kOther:
      case Field::kHost:
      case Field::kForwarded:
      case Field::kTrace:
        keep = !named || !is_named(head, name);
        break;
      case Field::kLength:
        // Once, and merged where it was a list ("5, 5").
        if (name.find('_') == std::string_view::npos && framing == AnswerFraming::kAsIs &&
            !bodiless && !head.ignore_content_length && !length_written) {
          length_written = true;
          keep = value.find(',') == std::string_view::npos;
          if (!keep) {
            copy.drop(i);
            copy.add("Content-Length: ");
            copy.add(value.substr(0, value.find_first_of(", \t")));
            copy.add("\r\n");
          }
        }
        break;
      case Field::kTrailer:
        keep = framing == AnswerFraming::kChunked;
        break;
      case Field::kUpgrade:
        upgrade = value;
        break;
      case Field::kHop:
      case Field::kFraming:
      case Field::kConnection:
      case Field::kTe:
        break;
    }
    if (keep) {
      copy.keep(i);
    } else {
      copy.drop(i);
    }
  }
  if (!copy.finish()) return false;
  if (framing == AnswerFraming::kChunked) copy.add("Transfer-Encoding: chunked\r\n");
  if (head.code == 101) {
    copy.add("Connection: upgrade\r\nUpgrade: ");
    copy.add(upgrade);
    copy.add("\r\n");
  } else if (persistence == Persistence::kClose) {
    copy.add("Connection: close\r\n");
  } else if (persistence == Persistence::kKeepAlive) {
    copy.add("Connection: keep-alive\r\n");
  }
  copy.add(lines);
  copy.add("\r\n");
  return copy.finish();
}

void each_answer_field(const http::ResponseHead& head, const VisitField& visit) {
  bool named = false;
  for (size_t i = 0; i < head.field_count; ++i) {
    if (head.fields[i].name.size() == 10 && known(head.fields[i].name) == Field::kConnection)
      named = has_named(head);
  }
  bool length_given = head.code < 200 || head.code == 204 || head.ignore_content_length;
  for (size_t i = 0; i < head.field_count; ++i) {
    const auto& [name, value] = head.fields[i];
    switch (known(name)) {
      case Field::kOther:
      case Field::kHost:
      case Field::kForwarded:
      case Field::kTrace:
      case Field::kTrailer:
        if (head.code == 101 && http::equal_without_case(name, "sec-websocket-accept")) break;
        if (!named || !is_named(head, name)) visit(name, value);
        break;
      case Field::kLength:
        if (name.find('_') == std::string_view::npos && !std::exchange(length_given, true))
          visit(name, value.substr(0, value.find_first_of(", \t")));
        break;
      case Field::kUpgrade:
      case Field::kHop:
      case Field::kFraming:
      case Field::kConnection:
      case Field::kTe:
        break;
    }
  }
}

std::string_view normal_host(std::string_view host, std::span<char> room) {
  if (!host.empty() && host.front() == '[') {
    host = host.substr(0, host.find(']') + 1);
  } else {
    host = host.substr(0, host.find(':'));
  }
  if (!host.empty() && host.back() == '.') host.remove_suffix(1);
  if (host.size() > room.size()) return {};
  for (size_t i = 0; i < host.size(); ++i) {
    const char c = host[i];
    room[i] = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  }
  return {room.data(), host.size()};
}

}  // namespace hob::edge
