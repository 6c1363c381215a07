// An ACME server's answers from any bytes: an error, or only what may be sent on.
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "certify/acme_messages.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob::certify;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  constexpr std::string_view kBase = "https://acme.test/directory";
  if (const auto directory = parse_acme_directory(text, kBase))
    HOB_ASSERT(directory->new_order.starts_with("https://"));
  if (const auto order = parse_acme_order(text, kBase)) {
    HOB_ASSERT(order->authorizations.size() <= kAcmeAuthorizationsMax);
    HOB_ASSERT(order->status != "valid" || order->certificate.starts_with("https://"));
  }
  if (const auto authorization = parse_acme_authorization(text, kBase)) {
    for (const AcmeQuestion& question : authorization->questions) {
      HOB_ASSERT(question.token.find_first_of("/.\"\\ \r\n") == std::string::npos);
      HOB_ASSERT(question.url.find_first_of("\"\\ \r\n") == std::string::npos);
    }
  }
  HOB_ASSERT(parse_acme_problem(text).detail.size() <= kAcmeDetailBytesMax);
  return 0;
}
