#include "image/registry_request.h"

#include <algorithm>
#include <charconv>
#include <vector>

#include "base/assert.h"
#include "base/digest.h"

namespace hob::image {

namespace {

std::vector<std::string> split(std::string_view path) {
  std::vector<std::string> parts;
  while (!path.empty()) {
    const size_t slash = std::min(path.find('/'), path.size());
    parts.emplace_back(path.substr(0, slash));
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  return parts;
}

std::string join(const std::vector<std::string>& parts, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text.append(i == 0 ? "" : "/").append(parts[i]);
  return text;
}

bool parse_number(std::string_view text, uint64_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

}  // namespace

std::optional<RegistryPath> parse_path(std::string_view path) {
  HOB_ASSERT(path.starts_with(kRegistryRoot));
  path.remove_prefix(kRegistryRoot.size());
  if (path.empty() || path == "/") return RegistryPath{};
  path.remove_prefix(1);
  const bool slash_at_end = path.ends_with('/');
  const std::vector<std::string> parts = split(path);
  const size_t n = parts.size();
  if (n == 1 && parts[0] == "_catalog") return RegistryPath{.resource = Resource::kCatalog};
  const auto made = [&](Resource resource, size_t name_parts, std::string reference) {
    return RegistryPath{
        .resource = resource, .name = join(parts, name_parts), .reference = std::move(reference)};
  };
  if (n >= 3 && parts[n - 2] == "blobs" && parts[n - 1] == "uploads")
    return made(Resource::kUploads, n - 2, {});
  if (slash_at_end) return std::nullopt;
  if (n >= 4 && parts[n - 3] == "blobs" && parts[n - 2] == "uploads") {
    return made(Resource::kUpload, n - 3, parts[n - 1]);
  }
  if (n >= 3 && parts[n - 2] == "tags" && parts[n - 1] == "list")
    return made(Resource::kTags, n - 2, {});
  if (n >= 3 && parts[n - 2] == "manifests") return made(Resource::kManifest, n - 2, parts[n - 1]);
  if (n >= 3 && parts[n - 2] == "referrers") return made(Resource::kReferrers, n - 2, parts[n - 1]);
  if (n >= 3 && parts[n - 2] == "blobs") return made(Resource::kBlob, n - 2, parts[n - 1]);
  return std::nullopt;
}

std::optional<ByteRange> parse_span(std::string_view text) {
  const size_t dash = text.find('-');
  ByteRange range;
  if (dash == std::string_view::npos) return std::nullopt;
  if (!parse_number(text.substr(0, dash), range.first) ||
      !parse_number(text.substr(dash + 1), range.last)) {
    return std::nullopt;
  }
  if (range.last < range.first) return std::nullopt;
  return range;
}

RangeKind parse_range(std::string_view text, uint64_t size, ByteRange& range) {
  constexpr std::string_view unit = "bytes=";
  if (!text.starts_with(unit) || text.find(',') != std::string_view::npos) return RangeKind::kWhole;
  text.remove_prefix(unit.size());
  const size_t dash = text.find('-');
  if (dash == std::string_view::npos) return RangeKind::kWhole;
  const std::string_view first = text.substr(0, dash);
  const std::string_view last = text.substr(dash + 1);
  uint64_t number = 0;
  if (first.empty()) {
    if (!parse_number(last, number)) return RangeKind::kWhole;
    if (number == 0 || size == 0) return RangeKind::kUnsatisfiable;
    range = {.first = size - std::min(size, number), .last = size - 1};
    return RangeKind::kPart;
  }
  if (!parse_number(first, range.first)) return RangeKind::kWhole;
  if (range.first >= size) return RangeKind::kUnsatisfiable;
  range.last = size - 1;
  if (last.empty()) return RangeKind::kPart;
  if (!parse_number(last, number) || number < range.first) return RangeKind::kWhole;
  range.last = std::min(range.last, number);
  return RangeKind::kPart;
}

}  // namespace hob::image
