// What clients write into requests to the registry besides bodies: paths, credentials, ranges.
//
// Pure; private to registry*.cc. Names and references are only taken apart here: whether they are
// any is checked by who uses them (reference.h, content_digest.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace hob::image {

inline constexpr std::string_view kRegistryRoot = "/v2";

// What a path under /v2/ asks for. Names may hold any of the words, so it is read from the end.
enum class Resource { kRoot, kCatalog, kTags, kManifest, kReferrers, kBlob, kUploads, kUpload };

struct RegistryPath {
  Resource resource = Resource::kRoot;
  std::string name{};       // the repository's
  std::string reference{};  // tag, digest or upload id
};

// `path`: decoded, and begins with kRegistryRoot. nullopt: the distribution specification has no
// such path.
std::optional<RegistryPath> parse_path(std::string_view path);

struct ByteRange {
  uint64_t first = 0;
  uint64_t last = 0;  // within
};

// "5-9", of an upload's Content-Range. nullopt: something else.
std::optional<ByteRange> parse_span(std::string_view text);

enum class RangeKind { kWhole, kPart, kUnsatisfiable };
// "bytes=5-", "bytes=-3", "bytes=5-9" of a blob of `size` bytes. kPart: `range` is within it.
// Several ranges at once are answered by the whole, as RFC 9110 allows.
RangeKind parse_range(std::string_view text, uint64_t size, ByteRange& range);

}  // namespace hob::image
