#include "cli/push.h"

#include <boost/json.hpp>

namespace hob::cli {
namespace {

namespace json = boost::json;

// What the registry says is wrong: {"errors": [{"code", "message"}]}.
std::unexpected<Error> refusal(const http::Response& response, std::string_view doing) {
  boost::system::error_code error;
  const json::value value = json::parse(response.body, error);
  std::string why = fmt::format("status {}", response.status);
  if (!error && value.is_object()) {
    const json::value* errors = value.as_object().if_contains("errors");
    if (errors != nullptr && errors->is_array() && !errors->as_array().empty()) {
      const json::value& first = errors->as_array().front();
      if (first.is_object())
        why = text_at(first.as_object(), "code") + ": " + text_at(first.as_object(), "message");
    }
  }
  return fail(Code::kUnavailable, "{}: the registry answers {}", doing, why);
}

http::Request request_for(std::string method, std::string target) {
  http::Request request{.method = std::move(method), .target = std::move(target)};
  const size_t mark = request.target.find('?');
  request.path = request.target.substr(0, mark);
  if (mark != std::string::npos) request.query = request.target.substr(mark + 1);
  return request;
}

// Where to send what is next; the registry may answer a whole URL or a path.
std::string location_of(const http::Response& response) {
  std::string location(response.headers.get("Location"));
  if (const size_t scheme = location.find("://"); scheme != std::string::npos) {
    const size_t path = location.find('/', scheme + 3);
    location = path == std::string::npos ? "/" : location.substr(path);
  }
  return location;
}

Async<Result<void>> push_blob(const Api& api, const Blob& blob, std::string repository,
                              const std::function<void(uint64_t)>& add) {
  const std::string base = "/v2/" + repository + "/blobs/";
  HOB_CO_TRY(http::Response there,
             co_await api.registry(request_for("HEAD", base + blob.digest), ""));
  if (there.status == 200) {
    add(blob.size);
    co_return Result<void>{};
  }
  HOB_CO_TRY(http::Response begun,
             co_await api.registry(request_for("POST", base + "uploads/"), ""));
  if (begun.status != 202) co_return refusal(begun, "starting an upload");
  std::string location = location_of(begun);
  for (uint64_t at = 0; at < blob.size;) {
    HOB_CO_TRY(std::string piece, blob.read(at, kPushPieceBytes));
    const uint64_t bytes = piece.size();
    http::Request request = request_for("PATCH", location);
    request.headers.set("Content-Type", "application/octet-stream");
    request.headers.set("Content-Range", fmt::format("{}-{}", at, at + bytes - 1));
    HOB_CO_TRY(http::Response taken, co_await api.registry(std::move(request), std::move(piece)));
    if (taken.status != 202) co_return refusal(taken, "uploading " + blob.digest);
    location = location_of(taken);
    at += bytes;
    add(bytes);
  }
  const std::string separator = location.find('?') == std::string::npos ? "?" : "&";
  const std::string target =
      location + separator + "digest=" + http::percent_encode(blob.digest, http::Slash::kEscape);
  HOB_CO_TRY(http::Response done, co_await api.registry(request_for("PUT", target), ""));
  if (done.status != 201) co_return refusal(done, "finishing " + blob.digest);
  co_return Result<void>{};
}

Async<Result<void>> push_manifest(const Api& api, std::string repository, std::string reference,
                                  std::string media_type, std::string text) {
  http::Request request = request_for("PUT", "/v2/" + repository + "/manifests/" + reference);
  request.headers.set("Content-Type", media_type);
  HOB_CO_TRY(http::Response stored, co_await api.registry(std::move(request), std::move(text)));
  if (stored.status != 201) co_return refusal(stored, "storing the manifest");
  co_return Result<void>{};
}

}  // namespace

Async<Result<void>> push_image(Api& api, const ArchiveImage& image, std::string repository,
                               std::string tag,
                               std::function<void(uint64_t done, uint64_t all)> progress) {
  Result<json::object> made =
      co_await api.call("ecr", "AmazonEC2ContainerRegistry_V20150921.CreateRepository",
                        {{"repositoryName", repository}});
  if (!made && made.error().aws_code != "RepositoryAlreadyExistsException") {
    co_return fail(std::move(made).error());
  }
  HOB_CO_CHECK(co_await api.log_in_to_registry());
  std::vector<Blob> blobs = image.blobs;
  for (const Referrer& each : image.referrers) {
    blobs.insert(blobs.end(), each.blobs.begin(), each.blobs.end());
  }
  uint64_t all = 0;
  for (const Blob& blob : blobs) all += blob.size;
  uint64_t done = 0;
  const auto add = [&](uint64_t bytes) {
    done += bytes;
    progress(done, all);
  };
  for (const Blob& blob : blobs) {
    HOB_CO_CHECK(co_await push_blob(api, blob, repository, add));
  }
  for (const Referrer& each : image.referrers) {
    HOB_CO_CHECK(
        co_await push_manifest(api, repository, each.digest, each.media_type, each.manifest));
  }
  // Last: who sees the tag finds all of it.
  co_return co_await push_manifest(api, repository, tag, image.media_type, image.manifest);
}

}  // namespace hob::cli
