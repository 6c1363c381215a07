#include "aws/sigv4.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "aws/timestamp.h"
#include "aws/wire_error.h"

namespace hob::aws {

namespace {

constexpr std::string_view kAlgorithm = "AWS4-HMAC-SHA256";

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> out;
  while (true) {
    const size_t at = text.find(separator);
    out.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return out;
    text.remove_prefix(at + 1);
  }
}

bool is_hex(std::string_view text, size_t digits) {
  return text.size() == digits && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

// As the canonical request has them: in order, each once.
void sort_once(std::vector<std::string>& names) {
  std::ranges::sort(names);
  const auto [end, last] = std::ranges::unique(names);
  names.erase(end, last);
}

// "AKID/20261123/us-east-1/apprunner/aws4_request". The key id may hold slashes for all we know:
// count from the end.
Result<void> read_scope(std::string_view credential, Signature& out) {
  std::vector<std::string_view> parts = split(credential, '/');
  if (parts.size() < 5) {
    return fail(
        incomplete_signature(fmt::format("Credential must have exactly 5 slash-delimited elements, "
                                         "e.g. keyid/date/region/service/term, "
                                         "got '{}'",
                                         credential.substr(0, 256))));
  }
  if (parts.back() != "aws4_request") {
    return fail(
        invalid_signature("Credential should be scoped with a valid terminator: 'aws4_request'."));
  }
  const size_t first = parts.size() - 4;
  out.access_key_id =
      credential.substr(0, static_cast<size_t>(parts[first].data() - credential.data()) - 1);
  out.date = parts[first];
  out.region = parts[first + 1];
  out.service = parts[first + 2];
  return {};
}

Result<void> read_signed_headers(std::string_view list, Signature& out) {
  for (const std::string_view name : split(list, ';')) {
    if (name.empty()) {
      return fail(incomplete_signature("SignedHeaders must name headers, separated by ';'."));
    }
    out.signed_headers.push_back(lower(name));
  }
  if (out.signed_headers.size() > kSignedHeadersMax) {
    return fail(
        incomplete_signature(fmt::format("At most {} headers may be signed.", kSignedHeadersMax)));
  }
  sort_once(out.signed_headers);
  return {};
}

Result<Signature> read_header(std::string_view header, const http::Request& request) {
  Signature out;
  if (header.size() > kAuthorizationBytesMax)
    return fail(incomplete_signature("The Authorization header is too long."));
  if (!header.starts_with(kAlgorithm) || header.size() == kAlgorithm.size() ||
      header[kAlgorithm.size()] != ' ') {
    return fail(
        incomplete_signature(fmt::format("Authorization header requires '{}'.", kAlgorithm)));
  }
  std::string_view credential;
  std::string_view signed_headers;
  std::string_view signature;
  for (std::string_view part : split(header.substr(kAlgorithm.size() + 1), ',')) {
    part = trimmed(part);
    const size_t equals = part.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view name = part.substr(0, equals);
    const std::string_view value = part.substr(equals + 1);
    if (name == "Credential") credential = value;
    if (name == "SignedHeaders") signed_headers = value;
    if (name == "Signature") signature = value;
  }
  if (credential.empty())
    return fail(incomplete_signature("Authorization header requires 'Credential' parameter."));
  if (signature.empty())
    return fail(incomplete_signature("Authorization header requires 'Signature' parameter."));
  if (signed_headers.empty()) {
    return fail(incomplete_signature("Authorization header requires 'SignedHeaders' parameter."));
  }
  HOB_CHECK(read_scope(credential, out));
  HOB_CHECK(read_signed_headers(signed_headers, out));
  out.signature = signature;
  out.security_token = request.headers.get("x-amz-security-token");
  if (const std::string* date = request.headers.find("x-amz-date")) {
    out.signed_at = trimmed(*date);
  } else if (const auto http_date =
                 timestamp_from_http_date(trimmed(request.headers.get("date")))) {
    out.signed_at = iso8601_basic(*http_date);
  } else if (const auto basic = timestamp_from_basic(trimmed(request.headers.get("date")))) {
    out.signed_at = iso8601_basic(*basic);
  } else {
    return fail(incomplete_signature(
        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."));
  }
  return out;
}

Result<Signature> read_presigned(const http::Request& request) {
  if (request.query.size() > kAuthorizationBytesMax)
    return fail(incomplete_signature("The query string is too long."));
  auto parameters = http::parse_query(request.query);
  if (!parameters) return fail(incomplete_signature("The query string is malformed."));
  Signature out;
  out.presigned = true;
  std::string algorithm;
  std::string credential;
  std::string signed_headers;
  std::string expires;
  for (auto& [name, value] : *parameters) {
    if (name == "X-Amz-Algorithm") algorithm = value;
    if (name == "X-Amz-Credential") credential = value;
    if (name == "X-Amz-SignedHeaders") signed_headers = value;
    if (name == "X-Amz-Expires") expires = value;
    if (name == "X-Amz-Date") out.signed_at = value;
    if (name == "X-Amz-Signature") out.signature = value;
    if (name == "X-Amz-Security-Token") out.security_token = value;
  }
  if (algorithm != kAlgorithm) {
    return fail(incomplete_signature(
        fmt::format("AWS query-string parameter 'X-Amz-Algorithm' must be '{}'.", kAlgorithm)));
  }
  for (const auto& [name, value] :
       {std::pair<std::string_view, std::string_view>{"X-Amz-Credential", credential},
        {"X-Amz-Date", out.signed_at},
        {"X-Amz-SignedHeaders", signed_headers},
        {"X-Amz-Signature", out.signature}}) {
    if (value.empty()) {
      return fail(incomplete_signature(
          fmt::format("AWS query-string parameters must include '{}'.", name)));
    }
  }
  HOB_CHECK(read_scope(credential, out));
  HOB_CHECK(read_signed_headers(signed_headers, out));
  const auto [end, error] =
      std::from_chars(expires.data(), expires.data() + expires.size(), out.expires_seconds);
  if (error != std::errc() || end != expires.data() + expires.size() || out.expires_seconds < 1 ||
      out.expires_seconds > kPresignedSecondsMax) {
    return fail(incomplete_signature(fmt::format(
        "X-Amz-Expires must be a number of seconds between 1 and {}.", kPresignedSecondsMax)));
  }
  return out;
}

// The path as AWS's clients sign it: "." and ".." resolved, slashes made one, then encoded once
// more than it stands.
std::string canonical_path(std::string_view path) {
  std::vector<std::string_view> kept;
  for (const std::string_view part : split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (!kept.empty()) kept.pop_back();
    } else {
      kept.push_back(part);
    }
  }
  std::string out;
  for (const std::string_view part : kept)
    out.append("/").append(http::percent_encode(part, http::Slash::kEscape));
  if (out.empty() || (path.ends_with('/') && out.back() != '/')) out += '/';
  return out;
}

Result<std::string> canonical_query(std::string_view query, bool presigned) {
  std::vector<std::pair<std::string, std::string>> pairs;
  if (!query.empty()) {
    for (const std::string_view part : split(query, '&')) {
      if (part.empty()) continue;
      const size_t equals = part.find('=');
      const auto name = http::percent_decode(part.substr(0, equals), http::Plus::kLiteral);
      const auto value = equals == std::string_view::npos
                             ? std::optional<std::string>("")
                             : http::percent_decode(part.substr(equals + 1), http::Plus::kLiteral);
      if (!name || !value) return fail(invalid_signature("The query string is malformed."));
      if (presigned && *name == "X-Amz-Signature") continue;
      pairs.emplace_back(http::percent_encode(*name, http::Slash::kEscape),
                         http::percent_encode(*value, http::Slash::kEscape));
    }
  }
  std::ranges::sort(pairs);
  std::string out;
  for (const auto& [name, value] : pairs) {
    if (!out.empty()) out += '&';
    out.append(name).append("=").append(value);
  }
  return out;
}

// Values of one name joined by commas; outer spaces dropped, inner runs made one.
std::string canonical_value(const http::Request& request, std::string_view name) {
  std::string out;
  bool first = true;
  for (const auto& [field, value] : request.headers.all()) {
    if (lower(field) != name) continue;
    if (!first) out += ',';
    first = false;
    bool space = false;
    for (const char c : trimmed(value)) {
      if (c == ' ' || c == '\t') {
        space = true;
        continue;
      }
      if (space) out += ' ';
      space = false;
      out += c;
    }
  }
  return out;
}

std::string_view bytes(const Sha256& hash) {
  return {reinterpret_cast<const char*>(hash.data()),
          hash.size()};  // unsigned char to char: the same bytes
}

std::string compute(const Signature& signature, const std::string& secret,
                    std::string_view canonical) {
  const Sha256 date_key = hmac_sha256("AWS4" + secret, signature.date);
  const Sha256 region_key = hmac_sha256(bytes(date_key), signature.region);
  const Sha256 service_key = hmac_sha256(bytes(region_key), signature.service);
  const Sha256 key = hmac_sha256(bytes(service_key), "aws4_request");
  const std::string to_sign =
      fmt::format("{}\n{}\n{}/{}/{}/aws4_request\n{}", kAlgorithm, signature.signed_at,
                  signature.date, signature.region, signature.service, hex(sha256(canonical)));
  return hex(hmac_sha256(bytes(key), to_sign));
}

Result<void> check_clock(const Signature& signature, Instant now) {
  const auto signed_at = timestamp_from_basic(signature.signed_at);
  if (!signed_at) {
    return fail(incomplete_signature(fmt::format(
        "Date must be in ISO-8601 'basic format'. Got '{}'.", signature.signed_at.substr(0, 64))));
  }
  if (signature.signed_at.substr(0, 8) != signature.date) {
    return fail(invalid_signature(fmt::format(
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
        "'{}' "
        "!= '{}', from '{}'.",
        signature.date.substr(0, 64), signature.signed_at.substr(0, 8), signature.signed_at)));
  }
  const Duration valid_for =
      signature.presigned ? std::chrono::seconds(signature.expires_seconds) : kClockSkewMax;
  if (*signed_at + valid_for < now) {
    return fail(invalid_signature(
        fmt::format("Signature expired: {} is now earlier than {} ({} - {} min.)",
                    signature.signed_at, iso8601_basic(now - valid_for), iso8601_basic(now),
                    std::chrono::duration_cast<std::chrono::minutes>(valid_for).count())));
  }
  if (*signed_at > now + kClockSkewMax) {
    return fail(invalid_signature(
        fmt::format("Signature not yet current: {} is still later than {} ({} + {} min.)",
                    signature.signed_at, iso8601_basic(now + kClockSkewMax), iso8601_basic(now),
                    std::chrono::duration_cast<std::chrono::minutes>(kClockSkewMax).count())));
  }
  return {};
}

Result<void> check_signed_headers(const http::Request& request, const Signature& signature) {
  const auto is_signed = [&](const std::string& name) {
    return std::ranges::binary_search(signature.signed_headers, name);
  };
  if (!is_signed("host")) {
    return fail(invalid_signature(
        "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."));
  }
  for (const auto& [field, value] : request.headers.all()) {
    const std::string name = lower(field);
    if (name.starts_with("x-amz-") && !is_signed(name)) {
      return fail(
          invalid_signature(fmt::format("The header '{}' must be signed.", name.substr(0, 128))));
    }
  }
  return {};
}

}  // namespace

Result<Signature> read_signature(const http::Request& request) {
  if (const std::string* header = request.headers.find("authorization"))
    return read_header(*header, request);
  if (request.query.find("X-Amz-Algorithm=") != std::string::npos) return read_presigned(request);
  return fail(missing_authentication_token());
}

Result<std::string> canonical_request(const http::Request& request, const Signature& signature,
                                      std::string_view payload_hash) {
  HOB_TRY(const std::string query, canonical_query(request.query, signature.presigned));
  std::string out = request.method + "\n" + canonical_path(request.path) + "\n" + query + "\n";
  for (const std::string& name : signature.signed_headers) {
    out.append(name).append(":").append(canonical_value(request, name)).append("\n");
  }
  out += '\n';
  out += fmt::format("{}", fmt::join(signature.signed_headers, ";"));
  out.append("\n").append(payload_hash);
  return out;
}

Result<void> verify(const http::Request& request, const Signature& signature,
                    const Sha256& body_hash, const KeyLookup& find_key, std::string_view region,
                    Instant now) {
  const std::optional<KnownKey> key = find_key(signature.access_key_id);
  if (!key || !equal_in_constant_time(key->security_token, signature.security_token)) {
    return fail(unrecognized_client());
  }
  if (key->expires_at && *key->expires_at <= now) return fail(expired_token());
  HOB_CHECK(check_clock(signature, now));
  if (signature.region != region) {
    return fail(invalid_signature("Credential should be scoped to a valid region."));
  }
  HOB_CHECK(check_signed_headers(request, signature));
  const std::string payload_hash = hex(body_hash);
  // A client that tells the hash tells the truth: UNSIGNED-PAYLOAD and STREAMING-… are S3's alone.
  const std::string* told = request.headers.find("x-amz-content-sha256");
  if (told != nullptr && *told != payload_hash) return fail(signature_mismatch());
  HOB_TRY(const std::string canonical, canonical_request(request, signature, payload_hash));
  const std::string expected = compute(signature, key->secret.reveal(), canonical);
  if (!is_hex(signature.signature, 64) || !equal_in_constant_time(expected, signature.signature)) {
    return fail(signature_mismatch());
  }
  return {};
}

void sign(http::Request& request, std::string_view body, const Credentials& credentials,
          std::string_view region, std::string_view service, Instant now) {
  Signature signature;
  signature.access_key_id = credentials.access_key_id;
  signature.signed_at = iso8601_basic(now);
  signature.date = signature.signed_at.substr(0, 8);
  signature.region = region;
  signature.service = service;
  request.headers.set("X-Amz-Date", signature.signed_at);
  if (!credentials.security_token.empty()) {
    request.headers.set("X-Amz-Security-Token", credentials.security_token);
  }
  for (const auto& [field, value] : request.headers.all()) {
    const std::string name = lower(field);
    if (name == "host" || name == "content-type" || name.starts_with("x-amz-")) {
      signature.signed_headers.push_back(name);
    }
  }
  sort_once(signature.signed_headers);
  const Result<std::string> canonical = canonical_request(request, signature, hex(sha256(body)));
  HOB_ASSERT(canonical.has_value());  // our own requests have queries we encoded
  request.headers.set(
      "Authorization",
      fmt::format("{} Credential={}/{}/{}/{}/aws4_request, SignedHeaders={}, Signature={}",
                  kAlgorithm, signature.access_key_id, signature.date, region, service,
                  fmt::join(signature.signed_headers, ";"),
                  compute(signature, credentials.secret.reveal(), *canonical)));
}

}  // namespace hob::aws
