// A request's line, headers and body, split at line feeds: reading and verifying its signature must
// come to an end without a crash, and what we sign over the same bytes must verify.
#include <cstdint>
#include <string>
#include <string_view>

#include "aws/sigv4.h"
#include "base/assert.h"

using namespace hob;

namespace {

constexpr std::string_view kNameCharacters =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!#$%&'*+^`|~";

std::string_view take_line(std::string_view& rest) {
  const size_t end = rest.find('\n');
  const std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  return line;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  constexpr Instant kNow{std::chrono::seconds(1'795'471'909)};
  const Secret<std::string> secret("secret");
  const auto find_key = [&](std::string_view) { return aws::KnownKey{.secret = secret}; };

  http::Request request{.method = std::string(take_line(rest)),
                        .path = std::string(take_line(rest)),
                        .query = std::string(take_line(rest))};
  for (std::string_view line = take_line(rest); !line.empty(); line = take_line(rest)) {
    const size_t colon = line.find(':');
    // What the HTTP parser lets through as a name.
    if (colon == std::string_view::npos ||
        line.substr(0, colon).find_first_not_of(kNameCharacters) != line.npos)
      continue;
    request.headers.add(std::string(line.substr(0, colon)), std::string(line.substr(colon + 1)));
  }
  if (const auto signature = aws::read_signature(request)) {
    const auto verified =
        aws::verify(request, *signature, sha256(rest), find_key, "us-east-1", kNow);
    if (!verified) HOB_ASSERT(!verified.error().aws_code.empty());
  }

  // canonical_request() refuses a query with broken escapes; such a request of ours does not exist.
  if (!aws::canonical_request(request, {}, "")) return 0;
  for (const char* name : {"authorization", "x-amz-security-token", "x-amz-content-sha256"})
    request.headers.remove(name);
  request.headers.set("Host", "127.0.0.1:4566");
  aws::sign(request, rest, {.access_key_id = "AKIA", .secret = secret}, "us-east-1", "sts", kNow);
  const auto signature = aws::read_signature(request);
  HOB_ASSERT(signature.has_value());
  HOB_ASSERT(
      aws::verify(request, *signature, sha256(rest), find_key, "us-east-1", kNow).has_value());
  return 0;
}
