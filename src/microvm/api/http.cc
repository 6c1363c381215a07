#include "microvm/api/http.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

#include "microvm/api/json.h"

namespace hob::microvm {
namespace {

constexpr std::string_view kServer = "Server: Firecracker API\r\nConnection: keep-alive\r\n";

std::string json_response(int status, std::string_view body, std::string_view more_headers) {
  return fmt::format(
      "HTTP/1.1 {} \r\n{}{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}", status,
      kServer, more_headers, body.size(), body);
}

}  // namespace

bool same_word(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    return lower(x) == lower(y);
  });
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::string encode(const HttpResponse& response) {
  const std::string_view more = response.deprecated ? "Deprecation: true\r\n" : "";
  if (response.body.empty())
    return fmt::format("HTTP/1.1 {} \r\n{}{}\r\n", response.status, kServer, more);
  return json_response(response.status, response.body, more);
}

HttpResponse fault(int status, std::string_view message) {
  const Json json(Json::Object{{"fault_message", Json(std::string(message))}});
  return {.status = status, .body = json.text()};
}

std::string encode_refusal(std::string_view reason) {
  // Not valid JSON, since the line feed stands in it as it is: so Firecracker answers.
  return json_response(
      400,
      fmt::format("{{ \"error\": \"{}\nAll previous unanswered requests will be dropped.\" }}",
                  reason),
      "");
}

std::string encode_too_many_connections() {
  constexpr std::string_view kBody = R"({ "error": "Too many open connections" })";
  return fmt::format(
      "HTTP/1.1 503 \r\nServer: Firecracker API\r\nConnection: close\r\nContent-Type: "
      "application/json\r\n"
      "Content-Length: {}\r\n\r\n{}",
      kBody.size(), kBody);
}

HttpParser::Step HttpParser::refuse(std::string why) {
  reason = std::move(why);
  buffer_.clear();
  state_ = State::kRequestLine;
  return Step::kRefused;
}

bool HttpParser::take_line(std::string& line, bool& too_long) {
  const size_t end = buffer_.find("\r\n");
  too_long = (end == std::string::npos ? buffer_.size() : end) > kHttpLineBytesMax;
  if (end == std::string::npos || too_long) return false;
  line = buffer_.substr(0, end);
  buffer_.erase(0, end + 2);
  return true;
}

HttpParser::Step HttpParser::next() {
  std::string line;
  std::string why;
  bool too_long = false;
  while (state_ != State::kBody) {
    const bool first = state_ == State::kRequestLine;
    if (!take_line(line, too_long)) {
      if (too_long)
        return refuse(first ? "The request line is too long." : "A header is too long.");
      return Step::kMore;
    }
    if (first) {
      request = {};
      headers_ = content_length_ = 0;
      expects_continue_ = false;
      if (!parse_request_line(line, why)) return refuse(std::move(why));
      state_ = State::kHeaders;
    } else if (!line.empty()) {
      if (++headers_ > kHttpHeadersMax) return refuse("There are too many headers.");
      if (!parse_header(line, why)) return refuse(std::move(why));
    } else {
      if (content_length_ > body_bytes_max_)
        return refuse(fmt::format(
            "Request payload with size {} is larger than the limit of {} allowed by server.",
            content_length_, body_bytes_max_));
      state_ = State::kBody;
      if (expects_continue_ && content_length_ > 0 && buffer_.empty()) return Step::kContinue;
    }
  }
  if (buffer_.size() < content_length_) return Step::kMore;
  if (content_length_ > 0) request.body = buffer_.substr(0, content_length_);
  buffer_.erase(0, content_length_);
  state_ = State::kRequestLine;
  return Step::kRequest;
}

bool HttpParser::parse_request_line(std::string_view line, std::string& why) {
  const size_t first = line.find(' ');
  const size_t second = line.find(' ', first == std::string_view::npos ? first : first + 1);
  if (second == std::string_view::npos || line.find(' ', second + 1) != std::string_view::npos) {
    why = "Invalid HTTP Request: the request line is malformed.";
    return false;
  }
  const std::string_view method = line.substr(0, first);
  std::string_view target = line.substr(first + 1, second - first - 1);
  const std::string_view version = line.substr(second + 1);
  if (method != "GET" && method != "PUT" && method != "PATCH" && method != "DELETE") {
    why = "Unsupported HTTP method.";
    return false;
  }
  if (version != "HTTP/1.0" && version != "HTTP/1.1") {
    why = "Unsupported HTTP version.";
    return false;
  }
  constexpr std::string_view kScheme = "http://";
  if (target.starts_with(kScheme)) {
    const size_t slash = target.find('/', kScheme.size());
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  if (!target.starts_with('/')) {
    why = "Invalid URI: it has no path.";
    return false;
  }
  while (target.starts_with("//")) target.remove_prefix(1);
  if (target.size() > 1 && target.ends_with('/')) target.remove_suffix(1);
  request.method = method;
  request.path = target;
  return true;
}

bool HttpParser::parse_header(std::string_view line, std::string& why) {
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) {
    why = "Invalid header: it has no colon.";
    return false;
  }
  const std::string_view name = trimmed(line.substr(0, colon));
  const std::string_view value = trimmed(line.substr(colon + 1));
  if (same_word(name, "Content-Length")) {
    uint32_t length = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), length);
    if (error != std::errc() || end != value.data() + value.size()) {
      why = "Invalid value of the Content-Length header.";
      return false;
    }
    content_length_ = length;
  } else if (same_word(name, "Expect")) {
    expects_continue_ = same_word(value, "100-continue");
  } else if (same_word(name, "Accept-Encoding") && value.contains("identity;q=0") &&
             !value.contains("identity;q=0.")) {
    why = "Unsupported Accept-Encoding: answers are never encoded.";
    return false;
  }
  return true;
}

}  // namespace hob::microvm
