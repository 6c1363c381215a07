// Image references as people and App Runner's ImageIdentifier write them, by Docker's rules of what
// is left out.
//
// Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hob::image {

inline constexpr std::string_view kDockerHub = "docker.io";  // in references
inline constexpr std::string_view kDockerHubHost =
    "registry-1.docker.io";                         // where its registry answers
inline constexpr size_t kRepositoryBytesMax = 255;  // the distribution spec's, host left out
inline constexpr size_t kTagBytesMax = 128;
inline constexpr size_t kRegistryBytesMax = 260;  // a DNS name and a port

// "myapp", "library/nginx", "a/b_c/d-e": the distribution specification's grammar.
bool is_repository_name(std::string_view text);
bool is_tag(std::string_view text);
// "docker.io", "127.0.0.1:4566", "[::1]:5000".
bool is_registry_name(std::string_view text);
// Whether it is on this machine by its name: "localhost", "127.0.0.1:5000", "[::1]".
bool is_loopback_registry(std::string_view registry);

struct ImageReference {
  std::string registry{};    // as written; "docker.io" where none was
  std::string repository{};  // "library/nginx" for "nginx"
  std::string tag{};     // "latest" where neither tag nor digest was given; empty: only a digest
  std::string digest{};  // empty: none
  bool operator==(const ImageReference&) const = default;

  // What a registry is asked for: the digest if there is one, else the tag.
  const std::string& reference() const { return digest.empty() ? tag : digest; }
  // Where the registry answers: Docker Hub's name is not its host's.
  std::string host() const;
};

// kInvalid: no image reference; the message says what is wrong.
Result<ImageReference> parse_reference(std::string_view text);
// As full as it can be: "docker.io/library/nginx:latest", "127.0.0.1:4566/hello@sha256:…".
std::string format_reference(const ImageReference& reference);

// Whether a registry, as written in a reference or a Host header, is the one of this instance:
// loopback at the API's port, or "ACCOUNT.dkr.ecr.REGION.hob.localhost" with that port or none.
// AWS's own "….amazonaws.com" is another registry. `account`: of the long form, else empty.
struct OwnRegistry {
  bool ours = false;
  std::string account{};
  std::string region{};
};
OwnRegistry match_own_registry(std::string_view registry, uint16_t api_port);

}  // namespace hob::image
