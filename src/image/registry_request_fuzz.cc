// What a client of the registry writes into paths and headers: any bytes give an answer, ranges are
// within their blob, and a path that is taken is one we can write.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/assert.h"
#include "base/basic_credentials.h"
#include "image/reference.h"
#include "image/registry_request.h"

using namespace hob::image;

namespace {

std::string write(const RegistryPath& path) {
  const std::string root(kRegistryRoot);
  switch (path.resource) {
    case Resource::kRoot:
      return root;
    case Resource::kCatalog:
      return root + "/_catalog";
    case Resource::kTags:
      return root + "/" + path.name + "/tags/list";
    case Resource::kManifest:
      return root + "/" + path.name + "/manifests/" + path.reference;
    case Resource::kReferrers:
      return root + "/" + path.name + "/referrers/" + path.reference;
    case Resource::kBlob:
      return root + "/" + path.name + "/blobs/" + path.reference;
    case Resource::kUploads:
      return root + "/" + path.name + "/blobs/uploads/";
    case Resource::kUpload:
      return root + "/" + path.name + "/blobs/uploads/" + path.reference;
  }
  return root;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (const auto path = parse_path(std::string(kRegistryRoot) + "/" + text)) {
    const auto again = parse_path(write(*path));
    HOB_ASSERT(again.has_value());
    HOB_ASSERT(again->resource == path->resource);
    HOB_ASSERT(again->name == path->name);
    HOB_ASSERT(again->reference == path->reference);
  }
  if (const auto credentials = hob::http::basic_credentials(text))
    HOB_ASSERT(credentials->first.find(':') == std::string::npos);
  if (const auto span = parse_span(text)) HOB_ASSERT(span->first <= span->last);
  for (const uint64_t blob_size : {uint64_t{0}, uint64_t{1}, uint64_t{10'000}, UINT64_MAX}) {
    ByteRange range;
    if (parse_range(text, blob_size, range) != RangeKind::kPart) continue;
    HOB_ASSERT(range.first <= range.last);
    HOB_ASSERT(range.last < blob_size);
  }
  static_cast<void>(is_registry_name(text));
  static_cast<void>(match_own_registry(text, 4566));
  return 0;
}
