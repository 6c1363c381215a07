#include "image/layout_push.h"

#include <boost/json.hpp>
#include <charconv>
#include <fstream>
#include <vector>

#include "base/digest.h"
#include "base/file.h"
#include "base/http.h"

namespace hob::image {

namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr size_t kPieceBytes = 1024 * 1024;  // of one request: the loop reads it
constexpr size_t kDocumentBytesMax = 4 * 1024 * 1024;
constexpr size_t kAnswerBytesMax = 64 * 1024;
constexpr Duration kAnswerWithin{60'000};

struct Blob {
  std::string digest{};
  fs::path file{};
};

Result<std::string> text_at(const json::value& value, std::string_view name) {
  const json::object* object = value.if_object();
  const json::value* found = object == nullptr ? nullptr : object->if_contains(name);
  if (found == nullptr || !found->is_string()) {
    return fail(Code::kInvalid, "the image has no {}", name);
  }
  return std::string(found->as_string());
}

Result<json::value> document(const fs::path& file, std::string* text) {
  HOB_TRY(*text, read_file(file, kDocumentBytesMax));
  boost::system::error_code error;
  json::value value = json::parse(*text, error);
  if (error) return fail(Code::kInvalid, "{} is no JSON", file.string());
  return value;
}

fs::path blob_file(const fs::path& layout, const std::string& digest) {
  return layout / "blobs" / "sha256" / digest.substr(digest.find(':') + 1);
}

class Pusher {
 public:
  explicit Pusher(PushTarget target) : target_(std::move(target)) {
    const size_t colon = target_.registry.rfind(':');
    endpoint_.host = target_.registry.substr(0, colon);
    const std::string port = colon == std::string::npos ? "" : target_.registry.substr(colon + 1);
    std::from_chars(port.data(), port.data() + port.size(), endpoint_.port);
  }

  Async<Result<http::Response>> ask(std::string method, std::string path, http::Headers headers,
                                    std::string body) {
    http::Request request{.method = std::move(method), .target = std::move(path)};
    const size_t mark = request.target.find('?');
    request.path = request.target.substr(0, mark);
    if (mark != std::string::npos) request.query = request.target.substr(mark + 1);
    request.headers = std::move(headers);
    request.headers.set("Host", target_.registry);
    request.headers.set("Authorization",
                        "Basic " + base64(target_.username + ":" + target_.password));
    co_return co_await http::fetch(endpoint_, std::move(request), std::move(body), kAnswerWithin,
                                   kAnswerBytesMax);
  }

  Async<Result<void>> push(Blob blob) {
    const std::string base = "/v2/" + target_.repository + "/blobs/";
    HOB_CO_TRY(const http::Response there, co_await ask("HEAD", base + blob.digest, {}, ""));
    if (there.status == 200) co_return Result<void>{};
    HOB_CO_TRY(const http::Response begun, co_await ask("POST", base + "uploads/", {}, ""));
    if (begun.status != 202) co_return refusal(begun);
    std::string location = location_of(begun);
    std::ifstream file(blob.file, std::ios::binary);
    for (uint64_t at = 0;;) {
      std::string piece(kPieceBytes, '\0');
      file.read(piece.data(), static_cast<std::streamsize>(piece.size()));
      piece.resize(static_cast<size_t>(file.gcount()));
      if (piece.empty()) break;
      const uint64_t bytes = piece.size();
      http::Headers headers;
      headers.set("Content-Type", "application/octet-stream");
      headers.set("Content-Range", fmt::format("{}-{}", at, at + bytes - 1));
      HOB_CO_TRY(const http::Response taken,
                 co_await ask("PATCH", location, std::move(headers), std::move(piece)));
      if (taken.status != 202) co_return refusal(taken);
      location = location_of(taken);
      at += bytes;
    }
    const std::string target = location + (location.find('?') == std::string::npos ? "?" : "&") +
                               "digest=" + http::percent_encode(blob.digest, http::Slash::kEscape);
    HOB_CO_TRY(const http::Response done, co_await ask("PUT", target, {}, ""));
    if (done.status != 201) co_return refusal(done);
    co_return Result<void>{};
  }

  Async<Result<void>> name(std::string manifest, std::string media_type) {
    http::Headers headers;
    headers.set("Content-Type", std::move(media_type));
    const std::string path = "/v2/" + target_.repository + "/manifests/" + target_.tag;
    HOB_CO_TRY(const http::Response stored,
               co_await ask("PUT", path, std::move(headers), std::move(manifest)));
    if (stored.status != 201) co_return refusal(stored);
    co_return Result<void>{};
  }

 private:
  static std::unexpected<Error> refusal(const http::Response& response) {
    return fail(Code::kUnavailable, "the registry answers {}: {}", response.status,
                response.body.substr(0, 200));
  }
  // The registry may answer a whole URL or a path.
  static std::string location_of(const http::Response& response) {
    const std::string location(response.headers.get("Location"));
    const size_t scheme = location.find("://");
    if (scheme == std::string::npos) return location;
    const size_t path = location.find('/', scheme + 3);
    return path == std::string::npos ? "/" : location.substr(path);
  }

  PushTarget target_;
  http::Endpoint endpoint_;
};

}  // namespace

Async<Result<void>> push_layout(PushTarget target, fs::path layout, std::string digest) {
  std::string text;
  HOB_CO_TRY(const json::value manifest, document(blob_file(layout, digest), &text));
  HOB_CO_TRY(std::string media_type, text_at(manifest, "mediaType"));
  const json::object& parts = manifest.as_object();
  const json::value* layers = parts.if_contains("layers");
  const json::value* config = parts.if_contains("config");
  if (layers == nullptr || !layers->is_array() || config == nullptr) {
    co_return fail(Code::kInvalid, "{} is no image's manifest", digest);
  }
  std::vector<const json::value*> descriptors{config};
  for (const json::value& layer : layers->as_array()) descriptors.push_back(&layer);
  Pusher pusher(std::move(target));
  for (const json::value* each : descriptors) {
    HOB_CO_TRY(const std::string blob, text_at(*each, "digest"));
    HOB_CO_CHECK(co_await pusher.push({.digest = blob, .file = blob_file(layout, blob)}));
  }
  HOB_CO_CHECK(co_await pusher.name(std::move(text), std::move(media_type)));
  co_return Result<void>{};
}

}  // namespace hob::image
