// A registry's password from anybody: refused, for it is not signed; and what we sign over the same
// bytes says what it said.
#include <algorithm>
#include <cstdint>
#include <string>

#include "base/assert.h"
#include "base/digest.h"
#include "identity/registry_token.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const Secret<std::string> secret("secret");
  constexpr Instant kNow{Duration(1'795'471'909'000)};
  HOB_ASSERT(!identity::check_grant(secret, text, kNow));

  // The payload is read only when its signature holds; so that it is read here, too, it is signed.
  const std::string payload = base64(text);
  const auto read = identity::check_grant(
      secret, payload + "." + hex(hmac_sha256(secret.reveal(), payload)), kNow);
  if (read) HOB_ASSERT(read->expires_at > kNow);

  const identity::RegistryGrant grant{
      .account = "000000000001", .arn = text, .expires_at = kNow + Duration(1)};
  const auto again = identity::check_grant(secret, identity::sign_grant(secret, grant), kNow);
  if (again) HOB_ASSERT(again->arn == text);
  return 0;
}
