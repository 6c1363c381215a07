#include "image/reference.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>

#include "image/content_digest.h"

namespace hob::image {

namespace {

constexpr std::string_view kOwnSuffix = ".hob.localhost";
constexpr std::string_view kEcrPart = ".dkr.ecr.";
constexpr size_t kAccountDigits = 12;

bool is_lower_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool is_alnum(char c) { return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z'); }
bool is_digits(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

// [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*
bool is_name_part(std::string_view part) {
  if (part.empty() || !is_lower_or_digit(part.front()) || !is_lower_or_digit(part.back()))
    return false;
  for (size_t i = 0; i < part.size();) {
    if (is_lower_or_digit(part[i])) {
      ++i;
      continue;
    }
    const char mark = part[i];
    size_t run = 0;
    while (i < part.size() && part[i] == mark) ++i, ++run;
    const bool fits = mark == '-' || (mark == '.' && run == 1) || (mark == '_' && run <= 2);
    if (!fits || !is_lower_or_digit(part[i]))
      return false;  // part.back() is one, so there is a part[i]
  }
  return true;
}

// Without the port. The whole of "[::1]:80" is "[::1]".
std::string_view host_part(std::string_view registry) {
  if (registry.starts_with('['))
    return registry.substr(0, std::min(registry.find(']') + 1, registry.size()));
  return registry.substr(0, std::min(registry.find(':'), registry.size()));
}

bool is_host_name(std::string_view host) {
  if (host.starts_with('[')) {
    return host.size() > 3 && host.ends_with(']') &&
           host.substr(1, host.size() - 2).find_first_not_of("0123456789abcdefABCDEF:.") ==
               std::string_view::npos;
  }
  if (host.empty() || host.front() == '.' || host.back() == '.' || host.front() == '-')
    return false;
  if (host.find("..") != std::string_view::npos) return false;
  return std::ranges::all_of(host, [](char c) { return is_alnum(c) || c == '.' || c == '-'; });
}

}  // namespace

bool is_repository_name(std::string_view text) {
  if (text.empty() || text.size() > kRepositoryBytesMax) return false;
  for (;;) {
    const size_t slash = text.find('/');
    if (!is_name_part(text.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    text.remove_prefix(slash + 1);
  }
}

bool is_tag(std::string_view text) {
  if (text.empty() || text.size() > kTagBytesMax) return false;
  if (!is_alnum(text.front()) && text.front() != '_') return false;
  return std::ranges::all_of(
      text, [](char c) { return is_alnum(c) || c == '_' || c == '.' || c == '-'; });
}

bool is_registry_name(std::string_view text) {
  if (text.size() > kRegistryBytesMax) return false;
  const std::string_view host = host_part(text);
  if (!is_host_name(host)) return false;
  if (host.size() == text.size()) return true;
  const std::string_view port = text.substr(host.size() + 1);
  return text[host.size()] == ':' && is_digits(port) && port.size() <= 5 &&
         std::stoi(std::string(port)) <= 65535;
}

std::string ImageReference::host() const {
  const bool hub = registry == kDockerHub || registry == "index.docker.io";
  return hub ? std::string(kDockerHubHost) : registry;
}

Result<ImageReference> parse_reference(std::string_view text) {
  const std::string whole(text.substr(0, kRegistryBytesMax + kRepositoryBytesMax));
  const auto wrong = [&](std::string_view why) {
    return fail(Code::kInvalid, "'{}' is no image: {}", whole, why);
  };
  if (text.empty()) return fail(Code::kInvalid, "an image reference is empty");
  ImageReference reference;
  if (const size_t at = text.find('@'); at != std::string_view::npos) {
    reference.digest = text.substr(at + 1);
    if (!is_digest(reference.digest))
      return wrong("after '@' there must be sha256: and 64 lower-case hex digits");
    text = text.substr(0, at);
  }
  // What stands before the first '/' is a registry only if it looks like a host: "a/b" is of Docker
  // Hub.
  const size_t slash = text.find('/');
  if (slash != std::string_view::npos) {
    const std::string_view first = text.substr(0, slash);
    const bool upper =
        std::ranges::any_of(first, [](unsigned char c) { return std::isupper(c) != 0; });
    if (first == "localhost" || first.find_first_of(".:") != std::string_view::npos || upper) {
      if (!is_registry_name(first)) return wrong("its registry is no host name");
      reference.registry = first;
      text.remove_prefix(slash + 1);
    }
  }
  if (const size_t colon = text.rfind(':');
      colon != std::string_view::npos && text.find('/', colon) == std::string_view::npos) {
    reference.tag = text.substr(colon + 1);
    if (!is_tag(reference.tag))
      return wrong("its tag may have 1 to 128 letters, digits, '_', '.' and '-'");
    text = text.substr(0, colon);
  }
  if (reference.tag.empty() && reference.digest.empty()) reference.tag = "latest";
  if (reference.registry.empty()) reference.registry = kDockerHub;
  reference.repository = text;
  if (reference.registry == kDockerHub && text.find('/') == std::string_view::npos) {
    reference.repository = "library/" + std::string(text);
  }
  if (!is_repository_name(reference.repository)) {
    return wrong(
        "a repository's name has lower-case letters and digits, with '.', '_', '-' and '/' between "
        "them");
  }
  return reference;
}

std::string format_reference(const ImageReference& reference) {
  std::string text = reference.registry + "/" + reference.repository;
  if (!reference.tag.empty()) text += ":" + reference.tag;
  if (!reference.digest.empty()) text += "@" + reference.digest;
  return text;
}

bool is_loopback_registry(std::string_view registry) {
  const std::string_view host = host_part(registry);
  if (host == "localhost" || host == "[::1]") return true;
  // An address of 127.0.0.0/8, and not a name that begins like one.
  return host.starts_with("127.") &&
         host.find_first_not_of("0123456789.") == std::string_view::npos;
}

OwnRegistry match_own_registry(std::string_view registry, uint16_t api_port) {
  const std::string_view host = host_part(registry);
  const std::string_view port =
      host.size() < registry.size() ? registry.substr(host.size() + 1) : std::string_view();
  const bool at_port = port == std::to_string(api_port);
  if (is_loopback_registry(registry)) return {.ours = at_port};
  const size_t part = host.find(kEcrPart);
  if (part != kAccountDigits || !is_digits(host.substr(0, part))) return {};
  const std::string_view rest = host.substr(part + kEcrPart.size());
  if (!rest.ends_with(kOwnSuffix) || rest.size() == kOwnSuffix.size()) return {};
  if (!port.empty() && !at_port) return {};
  return {.ours = true,
          .account = std::string(host.substr(0, part)),
          .region = std::string(rest.substr(0, rest.size() - kOwnSuffix.size()))};
}

}  // namespace hob::image
