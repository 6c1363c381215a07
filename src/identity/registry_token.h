// ECR's passwords: strings signed with a secret of the store, so that checking one needs no
// look-up.
//
// Layout: base64("1 ACCOUNT SCOPE EXPIRES ARN") "." hex(HMAC-SHA256). Not to be taken apart
// elsewhere.
#pragma once

#include <string>
#include <string_view>

#include "base/log.h"
#include "base/result.h"
#include "base/time.h"

namespace hob::identity {

inline constexpr Duration kRegistryTokenLife = std::chrono::hours(12);  // as ECR's
inline constexpr size_t kRegistryTokenBytesMax = 4096;

enum class RegistryScope { kPull, kPush };  // kPush: pull, too

struct RegistryGrant {
  std::string account{};
  std::string arn{};  // who asked for it
  RegistryScope scope = RegistryScope::kPull;
  Instant expires_at{};
};

std::string sign_grant(const Secret<std::string>& secret, const RegistryGrant& grant);
// kDenied: not signed with `secret`, or expired.
Result<RegistryGrant> check_grant(const Secret<std::string>& secret, std::string_view password,
                                  Instant now);

}  // namespace hob::identity
