#include "observe/segment.h"

#include <charconv>

namespace hob::observe {

namespace {

std::string escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\\':
        out += "\\\\";
        break;
      default:
        out.push_back(c);
    }
  }
  return out;
}

std::string unescape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out.push_back(text[i]);
      continue;
    }
    const char c = text[++i];
    out.push_back(c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c);
  }
  return out;
}

// Takes a number and the space after it (or the end) off the front of `rest`.
std::optional<int64_t> take_number(std::string_view& rest) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  if (error != std::errc{}) return std::nullopt;
  rest.remove_prefix(static_cast<size_t>(end - rest.data()));
  if (rest.empty()) return value;
  if (rest.front() != ' ') return std::nullopt;
  rest.remove_prefix(1);
  return value;
}

Instant at_ms(int64_t ms) { return Instant(Duration(ms)); }

std::optional<SegmentItem> parse_item(std::string_view line) {
  if (line.size() < 3 || line[1] != ' ') return std::nullopt;
  const char kind = line[0];
  line.remove_prefix(2);
  SegmentItem item;
  if (kind == 'C') {
    const auto position = take_number(line);
    if (!position || !line.empty()) return std::nullopt;
    item.commit = true;
    item.position = *position;
    return item;
  }
  if (kind != 'E') return std::nullopt;
  const auto at = take_number(line);
  if (!at) return std::nullopt;
  const auto ingested = take_number(line);
  if (!ingested) return std::nullopt;
  item.at = at_ms(*at);
  item.ingested_at = at_ms(*ingested);
  item.text = unescape(line);
  return item;
}

}  // namespace

std::string format_header(const SegmentHeader& header) {
  return fmt::format("H 1 {} {} {}\t{}\n", header.created_at.time_since_epoch().count(),
                     header.position, escape(header.group), escape(header.stream));
}

std::string format_event(Instant at, Instant ingested_at, std::string_view text) {
  return fmt::format("E {} {} {}\n", at.time_since_epoch().count(),
                     ingested_at.time_since_epoch().count(),
                     escape(text.substr(0, kEventBytesMax)));
}

std::string format_commit(int64_t position) { return fmt::format("C {}\n", position); }

Result<SegmentHeader> parse_header(std::string_view segment, size_t* header_bytes) {
  const size_t newline = segment.find('\n');
  if (newline == std::string_view::npos || !segment.starts_with("H 1 ")) {
    return fail(Code::kCorrupt, "no log segment: the header is missing");
  }
  std::string_view rest = segment.substr(4, newline - 4);
  const auto created = take_number(rest);
  const auto position = created ? take_number(rest) : std::nullopt;
  const size_t tab = rest.find('\t');
  if (!position || tab == std::string_view::npos)
    return fail(Code::kCorrupt, "no log segment: a broken header");
  SegmentHeader header{.created_at = at_ms(*created),
                       .position = *position,
                       .group = unescape(rest.substr(0, tab)),
                       .stream = unescape(rest.substr(tab + 1))};
  if (header.group.size() > kLogNameBytesMax || header.stream.size() > kLogNameBytesMax) {
    return fail(Code::kCorrupt, "no log segment: a name over {} bytes", kLogNameBytesMax);
  }
  *header_bytes = newline + 1;
  return header;
}

std::optional<SegmentItem> next_item(std::string_view segment, size_t offset) {
  while (offset < segment.size()) {
    const size_t newline = segment.find('\n', offset);
    if (newline == std::string_view::npos) return std::nullopt;
    if (auto item = parse_item(segment.substr(offset, newline - offset))) {
      item->offset = offset;
      item->end = newline + 1;
      return item;
    }
    offset = newline + 1;
  }
  return std::nullopt;
}

std::optional<size_t> committed_bytes(std::string_view tail) {
  size_t end = tail.rfind('\n');
  while (end != std::string_view::npos) {
    const size_t before = end == 0 ? std::string_view::npos : tail.rfind('\n', end - 1);
    // A line whose start is not in the tail may be the end of anything.
    if (before == std::string_view::npos) return std::nullopt;
    const auto item = parse_item(tail.substr(before + 1, end - before - 1));
    if (item && item->commit) return end + 1;
    end = before;
  }
  return std::nullopt;
}

}  // namespace hob::observe
