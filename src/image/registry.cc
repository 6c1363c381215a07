#include "image/registry.h"

#include <algorithm>
#include <boost/json.hpp>

#include "base/basic_credentials.h"
#include "base/log.h"
#include "image/content_digest.h"
#include "image/limits.h"
#include "image/manifest.h"
#include "image/reference.h"
#include "image/registry_exchange.h"

namespace hob::image {

namespace {

constexpr size_t kUploadIdBytesMax = 64;

struct SpecError {
  int status = 500;
  std::string_view code{};
};

// Where ECR's errors and ours stand in the specification's table.
SpecError spec_error(const Error& error) {
  const std::string& aws = error.aws_code;
  if (aws == "RepositoryNotFoundException") return {404, "NAME_UNKNOWN"};
  if (aws == "ImageNotFoundException") return {404, "MANIFEST_UNKNOWN"};
  if (aws == "LayersNotFoundException" || aws == "ReferencedImagesNotFoundException") {
    return {404, "MANIFEST_BLOB_UNKNOWN"};
  }
  if (aws == "ImageDigestDoesNotMatchException") return {400, "DIGEST_INVALID"};
  if (aws == "ImageTagAlreadyExistsException") return {400, "TAG_INVALID"};
  if (aws == "InvalidParameterException") return {400, "MANIFEST_INVALID"};
  if (aws == "LimitExceededException") return {429, "TOOMANYREQUESTS"};
  switch (error.code) {
    case Code::kNotFound:
      return {404, "BLOB_UPLOAD_UNKNOWN"};
    case Code::kInvalid:
      return {400, "DIGEST_INVALID"};
    case Code::kLimit:
      return {413, "SIZE_INVALID"};
    case Code::kDenied:
      return {403, "DENIED"};
    case Code::kConflict:
      return {409, "DENIED"};
    case Code::kUnavailable:
    case Code::kTimeout:
      return {503, "UNKNOWN"};
    case Code::kExists:
    case Code::kCancelled:
    case Code::kCorrupt:
    case Code::kInternal:
      return {500, "UNKNOWN"};
  }
  return {500, "UNKNOWN"};
}

}  // namespace

std::string json_text(std::string_view text) {
  return boost::json::serialize(boost::json::value(boost::json::string_view(text)));
}

Async<Result<void>> Registry::Exchange::answer(int status, http::Headers headers,
                                               std::string content) {
  headers.set("Docker-Distribution-Api-Version", "registry/2.0");
  co_return co_await responder.respond(
      {.status = status, .headers = std::move(headers), .body = std::move(content)});
}

Async<Result<void>> Registry::Exchange::refuse(int status, std::string_view code,
                                               std::string message, http::Headers headers) {
  headers.set("Content-Type", "application/json");
  std::string content =
      fmt::format(R"({{"errors":[{{"code":"{}","message":{}}}]}})", code, json_text(message));
  co_return co_await answer(status, std::move(headers), std::move(content));
}

Async<Result<void>> Registry::Exchange::refuse(Error error) {
  const SpecError spec = spec_error(error);
  if (spec.status >= 500) {
    log::error("a request to the registry failed",
               {{"path", request.path}, {"error", error.message}});
  }
  co_return co_await refuse(spec.status, spec.code, std::move(error.message));
}

Registry::Registry(Repositories& repositories, BlockingPool& pool,
                   RegistryAuthentication authenticate, uint16_t api_port)
    : repositories_(repositories),
      pool_(pool),
      authenticate_(std::move(authenticate)),
      api_port_(api_port) {}

bool Registry::serves(std::string_view path) {
  return path == kRegistryRoot ||
         (path.starts_with(kRegistryRoot) && path.substr(kRegistryRoot.size()).starts_with('/'));
}

http::Handler Registry::handler() {
  return [this](const http::Request& request, http::BodyReader& body, http::Responder& responder) {
    return handle(request, body, responder);
  };
}

Async<> Registry::handle(const http::Request& request, http::BodyReader& body,
                         http::Responder& responder) {
  Exchange exchange{.request = request, .body = body, .responder = responder};
  // What fails here is the connection: there is nobody left to answer.
  const Result<void> answered = co_await route(exchange);
  if (!answered) log::debug("a registry client went away", {{"error", answered.error().message}});
}

Async<Result<void>> Registry::authenticate(Exchange& exchange) {
  const auto credentials = http::basic_credentials(exchange.request.headers.get("Authorization"));
  if (!credentials) co_return fail(Code::kDenied, "authentication required");
  HOB_CO_TRY(exchange.caller, co_await authenticate_(credentials->first, credentials->second));
  const std::string_view host = exchange.request.headers.get("Host");
  const OwnRegistry own = match_own_registry(host, api_port_);
  if (!own.account.empty() && own.account != exchange.caller.account) {
    co_return fail(Code::kDenied, "the token is of account {}, the registry of {}",
                   exchange.caller.account, own.account);
  }
  co_return Result<void>();
}

Async<Result<void>> Registry::route(Exchange& exchange) {
  const http::Request& request = exchange.request;
  const Result<void> known = co_await authenticate(exchange);
  if (!known) {
    if (known.error().code != Code::kDenied) co_return co_await exchange.refuse(known.error());
    const std::string_view host = request.headers.get("Host");
    http::Headers headers;
    headers.set("WWW-Authenticate",
                fmt::format(R"(Basic realm="http://{}/",service="ecr.amazonaws.com")",
                            is_registry_name(host) ? host : "127.0.0.1"));
    co_return co_await exchange.refuse(401, "UNAUTHORIZED", known.error().message,
                                       std::move(headers));
  }
  const std::optional<std::string> path = http::percent_decode(request.path, http::Plus::kLiteral);
  auto query = http::parse_query(request.query);
  if (!path || !serves(*path) || !query)
    co_return co_await exchange.refuse(404, "UNSUPPORTED", "there is no such page");
  exchange.query = std::move(*query);
  const std::optional<RegistryPath> parsed = parse_path(*path);
  if (!parsed) co_return co_await exchange.refuse(404, "UNSUPPORTED", "there is no such page");
  exchange.route = {*parsed};
  if (!parsed->name.empty() && !is_repository_name(parsed->name)) {
    co_return co_await exchange.refuse(400, "NAME_INVALID", "the repository's name is not one");
  }
  if (!exchange.reads() && !exchange.caller.may_push) {
    co_return co_await exchange.refuse(403, "DENIED", "this token may only pull");
  }
  switch (parsed->resource) {
    case Resource::kRoot: {
      http::Headers headers;
      headers.set("Content-Type", "application/json");
      co_return co_await exchange.answer(200, std::move(headers), "{}");
    }
    case Resource::kCatalog:
      co_return co_await catalog(exchange);
    case Resource::kTags:
      co_return co_await list_tags(exchange);
    case Resource::kManifest:
      co_return co_await manifest(exchange);
    case Resource::kReferrers:
      co_return co_await referrers(exchange);
    case Resource::kBlob:
      co_return co_await blob(exchange);
    case Resource::kUploads:
      co_return co_await start_upload(exchange);
    case Resource::kUpload: {
      if (parsed->reference.size() > kUploadIdBytesMax) {
        co_return co_await exchange.refuse(404, "BLOB_UPLOAD_UNKNOWN", "there is no such upload");
      }
      co_return co_await upload(exchange);
    }
  }
}

Async<Result<Repository>> Registry::repository(Exchange& exchange) {
  const std::string account = exchange.caller.account;
  const std::string name = exchange.route.name;
  Result<Repository> found = co_await repositories_.get(account, name);
  const bool pushes = exchange.request.method == "POST" || exchange.request.method == "PUT";
  if (found || !pushes || found.error().code != Code::kNotFound) co_return found;
  Result<Repository> made = co_await repositories_.create(account, name, {});
  if (made || made.error().code != Code::kExists) co_return made;
  co_return co_await repositories_.get(account, name);  // another push made it meanwhile
}

Async<> Registry::run() {
  for (;;) {
    const Result<size_t> removed = co_await repositories_.collect_garbage();
    if (!removed)
      log::warn("the registry's garbage was not collected", {{"error", removed.error().message}});
    if (removed && *removed > 0)
      log::info("the registry's garbage was collected", {{"blobs", *removed}});
    co_await sleep_for(kCollectionInterval);
  }
}

}  // namespace hob::image
