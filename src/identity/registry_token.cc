#include "identity/registry_token.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdint>

#include "base/digest.h"

namespace hob::identity {

namespace {

std::string_view word(RegistryScope scope) {
  switch (scope) {
    case RegistryScope::kPull:
      return "pull";
    case RegistryScope::kPush:
      return "push";
  }
  return "pull";
}

std::string_view take_word(std::string_view& text) {
  const size_t space = text.find(' ');
  const std::string_view taken = text.substr(0, space);
  text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
  return taken;
}

}  // namespace

std::string sign_grant(const Secret<std::string>& secret, const RegistryGrant& grant) {
  const std::string payload =
      base64(fmt::format("1 {} {} {} {}", grant.account, word(grant.scope),
                         grant.expires_at.time_since_epoch().count(), grant.arn));
  return payload + "." + hex(hmac_sha256(secret.reveal(), payload));
}

Result<RegistryGrant> check_grant(const Secret<std::string>& secret, std::string_view password,
                                  Instant now) {
  const auto denied = [](std::string_view why) {
    return fail(Code::kDenied, "the registry password {}", why);
  };
  if (password.size() > kRegistryTokenBytesMax) return denied("is too long");
  const size_t dot = password.find('.');
  if (dot == std::string_view::npos) return denied("is not one of ours");
  const std::string_view payload = password.substr(0, dot);
  if (!equal_in_constant_time(hex(hmac_sha256(secret.reveal(), payload)),
                              password.substr(dot + 1))) {
    return denied("is not one of ours");
  }
  const std::optional<std::string> text = unbase64(payload);
  if (!text) return denied("is not one of ours");
  std::string_view rest = *text;
  if (take_word(rest) != "1") return denied("is of an unknown kind");
  RegistryGrant grant;
  grant.account = take_word(rest);
  grant.scope = take_word(rest) == "push" ? RegistryScope::kPush : RegistryScope::kPull;
  const std::string_view expires = take_word(rest);
  int64_t milliseconds = 0;
  const auto [end, error] =
      std::from_chars(expires.data(), expires.data() + expires.size(), milliseconds);
  if (error != std::errc() || end != expires.data() + expires.size())
    return denied("is of an unknown kind");
  grant.expires_at = Instant(Duration(milliseconds));
  grant.arn = rest;
  if (grant.expires_at <= now)
    return denied("has expired: ask for a new one (aws ecr get-login-password)");
  return grant;
}

}  // namespace hob::identity
