// A message's body from the other end of a link: an error or a message that, written and read
// again, is the same.
#include <cstdint>
#include <string>

#include "base/assert.h"
#include "link/messages.h"

namespace hob::link {
namespace {

template <class T>
void check(const char* type, const std::string& body) {
  T message;
  if (!decode(Message{.type = type, .body = body}, message)) return;
  const Message written = encode(message);
  T again;
  HOB_ASSERT(decode(written, again).has_value());
  HOB_ASSERT(encode(again).body == written.body);
}

}  // namespace
}  // namespace hob::link

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob::link;
  const std::string body(reinterpret_cast<const char*>(data), size);
#define HOB_LINK_CHECK(T) check<T>(#T, body);
  HOB_LINK_MESSAGES(HOB_LINK_CHECK)
#undef HOB_LINK_CHECK
  if (const auto table = decode_route_table(body))
    HOB_ASSERT(decode_route_table(encode_json(*table)).has_value());
  if (const auto table = decode_certificate_table(body))
    HOB_ASSERT(decode_certificate_table(encode_json(*table)).has_value());
  return 0;
}
