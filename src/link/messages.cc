#include "link/messages.h"

#include "base/record.h"

namespace hob::link {

#define HOB_LINK_DEFINE(T)                                                                   \
  Message encode(const T& message) { return {.type = #T, .body = record::encode(message)}; } \
  Result<void> decode(const Message& message, T& into) {                                     \
    if (message.type != #T) {                                                                \
      return fail(Code::kInvalid, "a {} where {} was expected", message.type, #T);           \
    }                                                                                        \
    HOB_TRY(into, record::decode<T>(message.body));                                          \
    return {};                                                                               \
  }
HOB_LINK_MESSAGES(HOB_LINK_DEFINE)
#undef HOB_LINK_DEFINE

std::string encode_json(const RouteTable& message) { return record::encode(message); }
Result<RouteTable> decode_route_table(std::string_view json) {
  return record::decode<RouteTable>(json);
}
std::string encode_json(const CertificateTable& message) { return record::encode(message); }
std::string encode_json(const EdgeCertificate& certificate) { return record::encode(certificate); }
Result<CertificateTable> decode_certificate_table(std::string_view json) {
  return record::decode<CertificateTable>(json);
}

}  // namespace hob::link
