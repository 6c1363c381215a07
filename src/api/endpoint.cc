#include "api/endpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "aws/wire_error.h"
#include "base/digest.h"
#include "base/log.h"
#include "identity/policy.h"

namespace hob::api {

namespace {

constexpr std::string_view kGreeting =
    "This is Hob, speaking AWS's APIs. Point a client here: eval \"$(hob env)\", then aws "
    "apprunner list-services.\n";

// What the client will be answered in when its body could not be read.
aws::Protocol guess_protocol(const http::Request& request) {
  return request.headers.find("x-amz-target") != nullptr ? aws::Protocol::kJson
                                                         : aws::Protocol::kQuery;
}

Error too_large(size_t bytes_max) {
  return Error{.code = Code::kLimit,
               .message = fmt::format("A request has {} bytes at most.", bytes_max),
               .aws_code = "RequestEntityTooLargeException"};
}

Error busy() {
  return Error{.code = Code::kLimit,
               .message = "Too many requests are being read; try again.",
               .aws_code = "ServiceUnavailableException"};
}

}  // namespace

struct Endpoint::Answer {
  int status = 200;
  std::string content_type{};
  std::string body{};
  std::string error_code{};  // empty: success
};

// A request's share of kBodiesBytesMax, given back when it is answered.
class Endpoint::BodyShare {
 public:
  BodyShare(size_t& total, size_t bytes) : total_(total), bytes_(bytes) { total_ += bytes_; }
  ~BodyShare() { total_ -= bytes_; }
  BodyShare(const BodyShare&) = delete;
  BodyShare& operator=(const BodyShare&) = delete;

 private:
  size_t& total_;
  size_t bytes_;
};

Endpoint::Endpoint(const identity::Directory& directory, const Clock& clock, Random& random,
                   Metrics& metrics, std::string region)
    : directory_(directory),
      clock_(clock),
      random_(random),
      metrics_(metrics),
      region_(std::move(region)) {}

void Endpoint::add(std::unique_ptr<aws::Service> service) {
  services_.push_back(std::move(service));
}

void Endpoint::mount(std::string prefix, http::Handler handler) {
  mounts_.emplace_back(std::move(prefix), std::move(handler));
}

http::Handler Endpoint::handler() {
  return [this](const http::Request& request, http::BodyReader& body, http::Responder& responder) {
    return answer(request, body, responder);
  };
}

const http::Handler* Endpoint::mounted(std::string_view path) const {
  for (const auto& [prefix, handler] : mounts_) {
    if (path == prefix || (path.starts_with(prefix) && path[prefix.size()] == '/')) return &handler;
  }
  return nullptr;
}

Async<> Endpoint::answer(const http::Request& request, http::BodyReader& body,
                         http::Responder& responder) {
  if (const http::Handler* handler = mounted(request.path)) {
    co_await (*handler)(request, body, responder);
    co_return;
  }
  http::Response response;
  // Signed, it is a call of a service that we do not have: S3's list of buckets, say.
  const bool is_signed = request.headers.find("authorization") != nullptr;
  if (request.method == "GET" && request.query.empty() && request.path == "/" && !is_signed) {
    response.headers.add("Content-Type", "text/plain; charset=utf-8");
    response.body = kGreeting;
  } else {
    const std::string request_id = random_uuid(random_);
    Answer answered = co_await answer_aws(request, body, request_id);
    response.status = answered.status;
    response.headers.add("x-amzn-RequestId", request_id);
    response.headers.add("Content-Type", std::move(answered.content_type));
    if (!answered.error_code.empty())
      response.headers.add("x-amzn-ErrorType", std::move(answered.error_code));
    response.body = std::move(answered.body);
  }
  const Result<void> sent = co_await responder.respond(std::move(response));
  // Nobody is left to tell.
  if (!sent)
    log::debug("API answer not delivered",
               {{"peer", request.peer}, {"error", sent.error().message}});
}

Endpoint::Answer Endpoint::encode_failure(const aws::ServiceModel* model, aws::Protocol protocol,
                                          const Error& error, std::string_view operation,
                                          const std::string& request_id) {
  aws::ErrorAnswer encoded = aws::encode_error(model, protocol, error, request_id);
  if (aws::is_internal(error)) {
    log::error("API call failed", {{"request", request_id},
                                   {"service", model == nullptr ? "" : model->name},
                                   {"operation", operation.substr(0, 128)},
                                   {"code", word(error.code)},
                                   {"error", error.message}});
  }
  return {.status = encoded.status,
          .content_type = std::move(encoded.content_type),
          .body = std::move(encoded.body),
          .error_code = std::move(encoded.code)};
}

Async<Endpoint::Answer> Endpoint::answer_aws(const http::Request& request, http::BodyReader& body,
                                             std::string request_id) {
  Result<aws::Signature> signature = aws::read_signature(request);
  const size_t bytes_max = signature ? kBodyBytesMax : kUnsignedBodyBytesMax;
  const size_t share =
      static_cast<size_t>(std::min<uint64_t>(request.body_size.value_or(bytes_max), bytes_max));
  if (body_bytes_ + share > kBodiesBytesMax) {
    co_return encode_failure(nullptr, guess_protocol(request), busy(), "", request_id);
  }
  const BodyShare held(body_bytes_, share);
  Result<std::string> content = co_await http::read_all(body, bytes_max);
  if (!content) {
    Error error = content.error().code == Code::kLimit
                      ? too_large(bytes_max)
                      : aws::serialization_error(content.error().message);
    co_return encode_failure(nullptr, guess_protocol(request), error, "", request_id);
  }
  const Sha256 body_hash = sha256(*content);

  std::optional<aws::Signature> claimed;
  if (signature) claimed = *signature;
  Destination destination = route(services_, request, claimed, std::move(*content));
  const aws::ServiceModel* model =
      destination.service == nullptr ? nullptr : &destination.service->model();
  const std::string operation = destination.call.operation;
  const auto refuse = [&](const Error& error) {
    return encode_failure(model, destination.protocol, error, operation, request_id);
  };

  if (!signature) co_return refuse(signature.error());
  const Result<void> proven =
      aws::verify(request, *signature, body_hash, directory_.key_lookup(), region_, clock_.now());
  if (!proven) co_return refuse(proven.error());
  const std::optional<identity::AccessKey> key = directory_.find_key(signature->access_key_id);
  if (!key) co_return refuse(aws::unrecognized_client());
  if (destination.failure) co_return refuse(*destination.failure);

  aws::Caller caller{.account = key->account,
                     .arn = key->arn,
                     .user_id = key->user_id,
                     .access_key_id = key->id,
                     .region = region_,
                     .request_id = request_id};
  const std::string action = fmt::format("{}:{}", model->name, operation);
  const Result<void> allowed = identity::authorize(caller, action, "*");
  if (!allowed) co_return refuse(allowed.error());

  Result<std::string> answered =
      co_await destination.service->call(std::move(destination.call), std::move(caller));
  const Labels labels{{"service", std::string(model->name)}, {"result", answered ? "ok" : "error"}};
  metrics_.counter("hob_api_calls_total", "API calls that were authenticated, by service.", labels)
      .add();
  if (!answered) co_return refuse(answered.error());
  co_return Answer{
      .status = 200, .content_type = aws::content_type(*model), .body = std::move(*answered)};
}

}  // namespace hob::api
