#include "microvm/mmds/guest_http.h"

#include <algorithm>
#include <charconv>

#include "microvm/api/http.h"

namespace hob::microvm {
namespace {

constexpr std::string_view kTokenPath = "/latest/api/token";

bool parse_line(std::string_view line, GuestRequest& request) {
  const size_t first = line.find(' ');
  const size_t second = line.rfind(' ');
  if (first == std::string_view::npos || second <= first + 1) return false;
  const std::string_view version = line.substr(second + 1);
  std::string_view target = line.substr(first + 1, second - first - 1);
  if (version != "HTTP/1.0" && version != "HTTP/1.1") return false;
  constexpr std::string_view kScheme = "http://";
  if (target.starts_with(kScheme)) {
    const size_t slash = target.find('/', kScheme.size());
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  if (!target.starts_with('/') || target.contains(' ')) return false;
  request.method = line.substr(0, first);
  for (const char c : target) {
    if (c != '/' || !request.path.ends_with('/')) request.path += c;
  }
  return true;
}

bool parse_header(std::string_view line, GuestRequest& request, size_t& body_bytes) {
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return false;
  const std::string_view name = trimmed(line.substr(0, colon));
  const std::string_view value = trimmed(line.substr(colon + 1));
  if (same_word(name, "Accept")) request.accepts_json = value.contains("application/json");
  if (same_word(name, "X-Forwarded-For")) request.forwarded = true;
  if (same_word(name, "X-metadata-token") || same_word(name, "X-aws-ec2-metadata-token"))
    request.token = value;
  if (same_word(name, "X-metadata-token-ttl-seconds") ||
      same_word(name, "X-aws-ec2-metadata-token-ttl-seconds"))
    request.token_seconds = value;
  if (same_word(name, "Content-Length")) {
    const auto [end, error] =
        std::from_chars(value.data(), value.data() + value.size(), body_bytes);
    if (error != std::errc() || end != value.data() + value.size()) return false;
  }
  return true;
}

std::string response(int status, std::string_view type, std::string_view body,
                     std::string_view headers = "") {
  return fmt::format(
      "HTTP/1.1 {} \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n{}Content-Type: {}\r\n"
      "Content-Length: {}\r\n\r\n{}",
      status, headers, type, body.size(), body);
}

std::string plain(int status, std::string_view body, std::string_view headers = "") {
  return response(status, "text/plain", body, headers);
}

std::string issue_token(const GuestRequest& request, Metadata& metadata) {
  if (request.forwarded)
    return plain(400, "Invalid header. Reason: Unsupported header name. Key: X-Forwarded-For");
  if (request.path != kTokenPath)
    return plain(404, fmt::format("Resource not found: {}.", request.path));
  if (!request.token_seconds)
    return plain(400,
                 "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or "
                 "`X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime.");
  uint32_t seconds = 0;
  const char* end_wanted = request.token_seconds->data() + request.token_seconds->size();
  const auto [end, error] = std::from_chars(request.token_seconds->data(), end_wanted, seconds);
  if (error != std::errc() || end != end_wanted || seconds < kTokenSecondsMin ||
      seconds > kTokenSecondsMax)
    return plain(400, fmt::format("Invalid time to live value provided for token: {}. Please "
                                  "provide a value between {} and {}.",
                                  *request.token_seconds, kTokenSecondsMin, kTokenSecondsMax));
  return plain(200, metadata.tokens.issue(seconds),
               fmt::format("X-aws-ec2-metadata-token-ttl-seconds: {}\r\n"
                           "X-metadata-token-ttl-seconds: {}\r\n",
                           seconds, seconds));
}

std::string show(const GuestRequest& request, Metadata& metadata) {
  const bool valid = request.token && metadata.tokens.accepts(*request.token);
  if (!request.token) ++metadata.counts.no_token;
  if (request.token && !valid) ++metadata.counts.invalid_token;
  if (metadata.version == MmdsVersion::kV2 && !valid)
    return plain(401, request.token
                          ? "MMDS token not valid."
                          : "No MMDS token provided. Use `X-metadata-token` or "
                            "`X-aws-ec2-metadata-token` header to specify the session token.");
  const Json* value = metadata.find(request.path);
  if (value == nullptr) return plain(404, fmt::format("Resource not found: {}.", request.path));
  if (request.accepts_json && !metadata.text_always)
    return response(200, "application/json", value->text());
  const std::optional<std::string> text = imds_text(*value);
  if (!text) return plain(501, "Cannot retrieve value. The value has an unsupported type.");
  return plain(200, *text);
}

}  // namespace

GuestStep parse_guest_request(std::string_view bytes, GuestRequest& request, size_t& used) {
  request = {};
  size_t body_bytes = 0;
  size_t at = 0;
  for (size_t lines = 0;; ++lines) {
    const size_t end = bytes.find("\r\n", at);
    if (end == std::string_view::npos)
      return bytes.size() >= kGuestRequestBytesMax ? GuestStep::kBad : GuestStep::kMore;
    const std::string_view line = bytes.substr(at, end - at);
    at = end + 2;
    if (lines == 0 && !parse_line(line, request)) return GuestStep::kBad;
    if (lines == 0) continue;
    if (line.empty()) break;
    if (lines > kGuestHeadersMax || !parse_header(line, request, body_bytes))
      return GuestStep::kBad;
  }
  // A body means nothing here; what would not fit is refused before it comes.
  if (body_bytes > kGuestRequestBytesMax - std::min(at, kGuestRequestBytesMax))
    return GuestStep::kBad;
  if (bytes.size() - at < body_bytes) return GuestStep::kMore;
  used = at + body_bytes;
  return GuestStep::kRequest;
}

std::string answer(const GuestRequest& request, Metadata& metadata) {
  if (request.method == "GET") return show(request, metadata);
  if (request.method == "PUT") return issue_token(request, metadata);
  return plain(405, "Not allowed HTTP method.", "Allow: GET, PUT\r\n");
}

std::string answer_to_bad_request() { return plain(400, "Invalid request."); }

}  // namespace hob::microvm
