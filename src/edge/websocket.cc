#include "edge/websocket.h"

#include <openssl/sha.h>

#include <array>
#include <cstring>

#include "base/digest.h"

namespace hob::edge {
namespace {

constexpr std::string_view kGuid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";  // RFC 6455 §1.3

// The only field of its name; empty: there is none, or there are several.
std::string_view only(const http::Head& head, std::string_view name) {
  std::string_view value;
  size_t count = 0;
  for (size_t i = 0; i < head.field_count; ++i) {
    if (!http::equal_without_case(head.fields[i].name, name)) continue;
    value = head.fields[i].value;
    ++count;
  }
  return count == 1 ? value : std::string_view();
}

}  // namespace

std::string websocket_key(uint64_t a, uint64_t b) {
  std::array<char, 16> bytes;
  std::memcpy(bytes.data(), &a, sizeof a);
  std::memcpy(bytes.data() + sizeof a, &b, sizeof b);
  return base64({bytes.data(), bytes.size()});
}

std::string websocket_accept(std::string_view key) {
  const std::string text = std::string(key).append(kGuid);
  std::array<unsigned char, SHA_DIGEST_LENGTH> digest;
  ::SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return base64({reinterpret_cast<const char*>(digest.data()), digest.size()});
}

std::string_view websocket_key_of(const http::RequestHead& head) {
  if (!head.upgrade || head.method != "GET" || head.framing != http::Framing::kNone) return {};
  if (!http::equal_without_case(only(head, "upgrade"), "websocket")) return {};
  const std::string_view key = only(head, "sec-websocket-key");
  const auto bytes = unbase64(key);
  return bytes && bytes->size() == 16 ? key : std::string_view();
}

bool opens_websocket(const http::ResponseHead& head, std::string_view accept) {
  return head.upgrade && http::equal_without_case(only(head, "upgrade"), "websocket") &&
         only(head, "sec-websocket-accept") == accept;
}

}  // namespace hob::edge
