#include "edge/chunked.h"

#include <algorithm>
#include <array>

#include "base/http_parser.h"
#include "edge/limits.h"

namespace hob::edge {
namespace {

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool printable(char c) { return c == '\t' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f); }

}  // namespace

bool trailer_allowed(std::string_view name) {
  static constexpr std::array<std::string_view, 32> kForbidden = {"transfer-encoding",
                                                                  "content-length",
                                                                  "host",
                                                                  "connection",
                                                                  "keep-alive",
                                                                  "proxy-connection",
                                                                  "te",
                                                                  "trailer",
                                                                  "upgrade",
                                                                  "expect",
                                                                  "max-forwards",
                                                                  "range",
                                                                  "content-encoding",
                                                                  "content-type",
                                                                  "content-range",
                                                                  "cache-control",
                                                                  "age",
                                                                  "expires",
                                                                  "date",
                                                                  "location",
                                                                  "retry-after",
                                                                  "vary",
                                                                  "warning",
                                                                  "pragma",
                                                                  "authorization",
                                                                  "proxy-authenticate",
                                                                  "proxy-authorization",
                                                                  "www-authenticate",
                                                                  "cookie",
                                                                  "set-cookie",
                                                                  "forwarded",
                                                                  "content-location"};
  // Applications take '_' for '-'.
  const auto equal = [](std::string_view a, std::string_view b) {
    return std::ranges::equal(a, b, [](char x, char y) {
      const char low = x >= 'A' && x <= 'Z' ? static_cast<char>(x - 'A' + 'a') : x;
      return (low == '_' ? '-' : low) == y;
    });
  };
  for (const std::string_view forbidden : kForbidden) {
    if (equal(name, forbidden)) return false;
  }
  const auto begins = [&](std::string_view prefix) {
    return name.size() >= prefix.size() && equal(name.substr(0, prefix.size()), prefix);
  };
  return !begins("x-forwarded-") && !begins("x-amzn-") && !begins("if-");
}

ChunkedBody::Step ChunkedBody::next(std::string_view input) {
  size_t at = 0;
  while (at < input.size()) {
    if (state_ == State::kBad) return {.outcome = Outcome::kBad};
    if (state_ == State::kData) {
      const size_t count = static_cast<size_t>(std::min<uint64_t>(left_, input.size() - at));
      left_ -= count;
      if (left_ == 0) state_ = State::kDataCr;
      return {.outcome = Outcome::kData, .skip = at, .data = count};
    }
    if (!control(input[at++])) {
      state_ = State::kBad;
      return {.outcome = Outcome::kBad, .skip = at};
    }
    if (state_ == State::kEnd) return {.outcome = Outcome::kEnd, .skip = at};
  }
  return {.outcome = Outcome::kMore, .skip = at};
}

// One byte outside of chunk data. False: it may not be there.
bool ChunkedBody::control(char c) {
  switch (state_) {
    case State::kSize: {
      if (const int digit = hex(c); digit >= 0) {
        if (++digits_ > http::kChunkSizeDigitsMax || left_ >> 59 != 0) return false;  // below 2^63
        left_ = left_ << 4 | static_cast<uint64_t>(digit);
        return true;
      }
      if (digits_ == 0) return false;
      if (c == ';') {
        state_ = State::kExtension;
        extension_ = 0;
        return true;
      }
      state_ = State::kSizeLf;
      return c == '\r';
    }
    case State::kExtension:
      if (c == '\r') {
        state_ = State::kSizeLf;
        return true;
      }
      return printable(c) && ++extension_ <= kChunkExtensionBytesMax &&
             ++extensions_ <= kChunkExtensionsBytesMax;
    case State::kSizeLf:
      if (c != '\n') return false;
      state_ = left_ == 0 ? State::kTrailer : State::kData;
      digits_ = 0;
      return true;
    case State::kDataCr:
      state_ = State::kDataLf;
      return c == '\r';
    case State::kDataLf:
      state_ = State::kSize;
      return c == '\n';
    case State::kTrailer:
      if (++trailer_bytes_ > kTrailerBytesMax) return false;
      if (!line_.empty() && line_.back() == '\r') return c == '\n' && finish_trailer();
      if (c != '\r' && !printable(c)) return false;
      line_.push_back(c);
      return true;
    case State::kData:
    case State::kEnd:
    case State::kBad:
      return false;
  }
  return false;
}

bool ChunkedBody::finish_trailer() {
  line_.pop_back();
  if (line_.empty()) {
    state_ = State::kEnd;
    return true;
  }
  const size_t colon = line_.find(':');
  if (colon == std::string::npos || !http::is_token(std::string_view(line_).substr(0, colon)))
    return false;
  if (++trailer_count_ > http::kFieldsMax) return false;
  if (trailer_allowed(std::string_view(line_).substr(0, colon))) trailers_ += line_ + "\r\n";
  line_.clear();
  return true;
}

}  // namespace hob::edge
