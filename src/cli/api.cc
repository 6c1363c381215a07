// The client of the public API: AWS's JSON protocol and the registry.
#include <unistd.h>

#include <boost/json.hpp>
#include <cstdlib>

#include "aws/sigv4.h"
#include "cli/context.h"
#include "cli/words.h"

namespace hob::cli {
namespace {

namespace json = boost::json;

// AWS's error: {"__type": "prefix#Shape", "message" or "Message": …}.
Error error_of(const http::Response& response, const std::string& target) {
  boost::system::error_code error;
  const json::value value = json::parse(response.body, error);
  if (error || !value.is_object()) {
    return {.code = Code::kUnavailable,
            .message = fmt::format("{} answers status {}", target, response.status)};
  }
  const json::object& object = value.as_object();
  std::string shape = text_at(object, "__type");
  if (const size_t hash = shape.rfind('#'); hash != std::string::npos) shape.erase(0, hash + 1);
  std::string message = text_at(object, "message");
  if (message.empty()) message = text_at(object, "Message");
  if (message.empty()) message = fmt::format("{} answers {}", target, shape);
  return {.code = response.status >= 500 ? Code::kUnavailable : Code::kInvalid,
          .message = without_patterns(message),
          .aws_code = std::move(shape)};
}

Error unreachable(const Instance& instance, Error error) {
  if (error.code != Code::kUnavailable) return error;
  const std::string start =
      instance.data == kDefaultData ? "" : " --data " + instance.data.string();
  error.message = fmt::format("Hob does not answer at {}; start it with: hob up --detach{}",
                              instance.endpoint(), start);
  return error;
}

}  // namespace

Result<Api> Api::open(const Context& context) {
  Api api;
  HOB_TRY(api.instance_, context.instance());
  const char* key = std::getenv("HOB_ACCESS_KEY_ID");
  const char* secret = std::getenv("HOB_SECRET_ACCESS_KEY");
  if (key != nullptr && secret != nullptr) {
    api.credentials_ = {.access_key = key, .secret_key = secret};
    return api;
  }
  HOB_TRY(api.credentials_, load_credentials(api.instance_));
  return api;
}

Async<Result<json::object>> Api::call(std::string service, std::string target,
                                      json::object input) const {
  const std::string body = json::serialize(input);
  http::Request request{.method = "POST", .target = "/", .path = "/"};
  request.headers.set("Host", instance_.api_address());
  request.headers.set("Content-Type", service == "apprunner" ? "application/x-amz-json-1.0"
                                                             : "application/x-amz-json-1.1");
  request.headers.set("X-Amz-Target", target);
  const aws::Credentials keys{.access_key_id = credentials_.access_key,
                              .secret = Secret<std::string>(credentials_.secret_key)};
  aws::sign(request, body, keys, instance_.region, service, SystemClock().now());
  const http::Endpoint endpoint{.host = "127.0.0.1", .port = instance_.api_port};
  Result<http::Response> response =
      co_await http::fetch(endpoint, std::move(request), body, kCallWithin, kAnswerBytesMax);
  if (!response) co_return fail(unreachable(instance_, std::move(response).error()));
  if (response->status != 200) co_return fail(error_of(*response, target));
  boost::system::error_code error;
  json::value value = json::parse(response->body.empty() ? "{}" : response->body, error);
  if (error || !value.is_object()) co_return fail(Code::kCorrupt, "{} answers no JSON", target);
  co_return std::move(value.as_object());
}

Async<Result<void>> Api::log_in_to_registry() {
  HOB_CO_TRY(json::object answer,
             co_await call("ecr", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
                           json::object()));
  const json::value* list = answer.if_contains("authorizationData");
  if (list == nullptr || !list->is_array() || list->as_array().empty() ||
      !list->as_array().front().is_object()) {
    co_return fail(Code::kCorrupt, "GetAuthorizationToken answers no token");
  }
  registry_token_ = text_at(list->as_array().front().as_object(), "authorizationToken");
  co_return Result<void>{};
}

Async<Result<http::Response>> Api::registry(http::Request request, std::string body) const {
  request.headers.set("Host", instance_.api_address());
  request.headers.set("Authorization", "Basic " + registry_token_);
  const http::Endpoint endpoint{.host = "127.0.0.1", .port = instance_.api_port};
  Result<http::Response> response = co_await http::fetch(
      endpoint, std::move(request), std::move(body), kCallWithin, kAnswerBytesMax);
  if (!response) co_return fail(unreachable(instance_, std::move(response).error()));
  if (response->status == 401 || response->status == 403) {
    co_return fail(Code::kDenied, "the registry refuses this account (status {})",
                   response->status);
  }
  co_return response;
}

}  // namespace hob::cli
