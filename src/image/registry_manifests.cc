// Manifests, tags, referrers and the catalog of the registry.
#include <algorithm>
#include <boost/json.hpp>
#include <charconv>

#include "image/content_digest.h"
#include "image/limits.h"
#include "image/manifest.h"
#include "image/reference.h"
#include "image/registry_exchange.h"

namespace hob::image {

namespace json = boost::json;

namespace {

// The page of `names` (in order) that "n" and "last" ask for, and whether more follow. nullopt: "n"
// is no number.
struct Page {
  std::vector<std::string> names{};
  bool more = false;
  size_t size = 0;
};
std::optional<Page> page_of(const std::vector<std::string>& names, const std::string& n,
                            const std::string& last) {
  Page page{.size = kTagsPageMax};
  if (!n.empty()) {
    const auto [end, error] = std::from_chars(n.data(), n.data() + n.size(), page.size);
    if (error != std::errc() || end != n.data() + n.size()) return std::nullopt;
    page.size = std::min(page.size, kTagsPageMax);
  }
  auto at = last.empty() ? names.begin() : std::ranges::upper_bound(names, last);
  for (; at != names.end() && page.names.size() < page.size; ++at) page.names.push_back(*at);
  page.more = at != names.end() && page.size > 0;
  return page;
}

http::Headers page_headers(const Page& page, const std::string& path) {
  http::Headers headers;
  headers.set("Content-Type", "application/json");
  if (page.more) {
    headers.set("Link", fmt::format(R"(<{}?n={}&last={}>; rel="next")", path, page.size,
                                    http::percent_encode(page.names.back(), http::Slash::kEscape)));
  }
  return headers;
}

std::string json_list(const std::vector<std::string>& names) {
  json::array list;
  for (const std::string& name : names) list.emplace_back(name);
  return json::serialize(list);
}

}  // namespace

Async<Result<void>> Registry::catalog(Exchange& exchange) {
  if (!exchange.reads()) co_return co_await exchange.refuse(405, "UNSUPPORTED", "only GET");
  const auto all = co_await repositories_.list(exchange.caller.account);
  if (!all) co_return co_await exchange.refuse(all.error());
  std::vector<std::string> names;
  for (const Repository& one : *all) names.push_back(one.name);
  const auto page = page_of(names, exchange.parameter("n"), exchange.parameter("last"));
  if (!page)
    co_return co_await exchange.refuse(400, "PAGINATION_NUMBER_INVALID", "'n' is no number");
  co_return co_await exchange.answer(
      200, page_headers(*page, "/v2/_catalog"),
      fmt::format(R"({{"repositories":{}}})", json_list(page->names)));
}

Async<Result<void>> Registry::list_tags(Exchange& exchange) {
  if (!exchange.reads()) co_return co_await exchange.refuse(405, "UNSUPPORTED", "only GET");
  const auto home = co_await repository(exchange);
  if (!home) co_return co_await exchange.refuse(home.error());
  const auto tags = co_await repositories_.tags(*home);
  if (!tags) co_return co_await exchange.refuse(tags.error());
  std::vector<std::string> names;
  for (const auto& [tag, digest] : *tags) names.push_back(tag);
  const auto page = page_of(names, exchange.parameter("n"), exchange.parameter("last"));
  if (!page)
    co_return co_await exchange.refuse(400, "PAGINATION_NUMBER_INVALID", "'n' is no number");
  co_return co_await exchange.answer(
      200, page_headers(*page, fmt::format("/v2/{}/tags/list", home->name)),
      fmt::format(R"({{"name":{},"tags":{}}})", json_text(home->name), json_list(page->names)));
}

Async<Result<void>> Registry::manifest(Exchange& exchange) {
  const std::string reference = exchange.route.reference;
  if (!is_tag(reference) && !is_digest(reference)) {
    const bool digest = reference.find(':') != std::string::npos;
    co_return co_await exchange.refuse(400, digest ? "DIGEST_INVALID" : "TAG_INVALID",
                                       "it is no tag and no digest");
  }
  const auto home = co_await repository(exchange);
  if (!home) co_return co_await exchange.refuse(home.error());
  if (exchange.request.method == "PUT") co_return co_await put_manifest(exchange, *home);
  if (exchange.request.method == "DELETE") {
    Result<void> removed;
    if (is_digest(reference)) {
      removed = co_await repositories_.remove_image(*home, reference);
    } else {
      const auto untagged =
          co_await repositories_.remove_tag(*home, reference, Repositories::LastTag::kKeepImage);
      if (!untagged) removed = fail(untagged.error());
    }
    if (!removed) co_return co_await exchange.refuse(removed.error());
    co_return co_await exchange.answer(202);
  }
  if (!exchange.reads())
    co_return co_await exchange.refuse(405, "UNSUPPORTED", "only GET, HEAD, PUT and DELETE");
  const auto image = co_await repositories_.get_image(*home, reference);
  if (!image) co_return co_await exchange.refuse(image.error());
  http::Headers headers;
  headers.set("Content-Type", image->media_type);
  headers.set("Docker-Content-Digest", image->digest);
  headers.set("ETag", "\"" + image->digest + "\"");
  if (exchange.request.method == "HEAD") {
    headers.set("Docker-Distribution-Api-Version", "registry/2.0");
    HOB_CO_CHECK(co_await exchange.responder.begin(200, std::move(headers), image->manifest_bytes));
    co_return co_await exchange.responder.end();
  }
  auto text = co_await repositories_.read_manifest(*image);
  if (!text) co_return co_await exchange.refuse(text.error());
  co_return co_await exchange.answer(200, std::move(headers), std::move(*text));
}

Async<Result<void>> Registry::put_manifest(Exchange& exchange, Repository home) {
  auto text = co_await http::read_all(exchange.body, kManifestBytesMax);
  if (!text && text.error().code == Code::kLimit) {
    co_return co_await exchange.refuse(
        413, "SIZE_INVALID",
        fmt::format("a manifest may have {} bytes at most", kManifestBytesMax));
  }
  if (!text) co_return fail(text.error());
  NewImage image{.manifest = std::move(*text)};
  std::string_view type = exchange.request.headers.get("Content-Type");
  type = type.substr(0, type.find(';'));
  while (type.ends_with(' ')) type.remove_suffix(1);
  image.media_type = type;
  const std::string& reference = exchange.route.reference;
  (is_digest(reference) ? image.digest : image.tag) = reference;
  const auto stored = co_await repositories_.put_image(home, std::move(image));
  if (!stored) co_return co_await exchange.refuse(stored.error());
  http::Headers headers;
  headers.set("Location", fmt::format("/v2/{}/manifests/{}", home.name, stored->digest));
  headers.set("Docker-Content-Digest", stored->digest);
  if (!stored->subject.empty()) headers.set("OCI-Subject", stored->subject);
  co_return co_await exchange.answer(201, std::move(headers));
}

Async<Result<void>> Registry::referrers(Exchange& exchange) {
  if (!exchange.reads()) co_return co_await exchange.refuse(405, "UNSUPPORTED", "only GET");
  if (!is_digest(exchange.route.reference)) {
    co_return co_await exchange.refuse(400, "DIGEST_INVALID", "it is no digest");
  }
  const auto home = co_await repository(exchange);
  if (!home) co_return co_await exchange.refuse(home.error());
  const auto images = co_await repositories_.referrers(*home, exchange.route.reference);
  if (!images) co_return co_await exchange.refuse(images.error());
  const std::string wanted = exchange.parameter("artifactType");
  json::array manifests;
  for (const Image& image : *images) {
    if (!wanted.empty() && image.artifact_type != wanted) continue;
    json::object descriptor;
    descriptor["mediaType"] = image.media_type;
    descriptor["digest"] = image.digest;
    descriptor["size"] = image.manifest_bytes;
    if (!image.artifact_type.empty()) descriptor["artifactType"] = image.artifact_type;
    if (!image.annotations.empty()) {
      json::object& annotations = descriptor["annotations"].emplace_object();
      for (const auto& [name, value] : image.annotations) annotations[name] = value;
    }
    manifests.push_back(std::move(descriptor));
  }
  json::object index;
  index["schemaVersion"] = 2;
  index["mediaType"] = json::string_view(kOciIndex);
  index["manifests"] = std::move(manifests);
  http::Headers headers;
  headers.set("Content-Type", std::string(kOciIndex));
  if (!wanted.empty()) headers.set("OCI-Filters-Applied", "artifactType");
  co_return co_await exchange.answer(200, std::move(headers), json::serialize(index));
}

}  // namespace hob::image
