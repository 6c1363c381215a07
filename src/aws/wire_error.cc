#include "aws/wire_error.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "aws/json_codec.h"
#include "aws/query_codec.h"

namespace hob::aws {

namespace {

struct CommonError {
  std::string_view name;
  int json_status;
  std::string_view query_code;
  int query_status;
};

// facts: "Authentication errors" of AWS's common errors page, JSON and Query columns.
constexpr CommonError kCommonErrors[] = {
    {"MissingAuthenticationTokenException", 400, "MissingAuthenticationToken", 403},
    {"UnrecognizedClientException", 400, "InvalidClientTokenId", 403},
    {"InvalidSignatureException", 400, "SignatureDoesNotMatch", 403},
    {"IncompleteSignatureException", 400, "IncompleteSignature", 400},
    {"ExpiredTokenException", 400, "ExpiredToken", 403},
    {"AccessDeniedException", 400, "AccessDenied", 403},
    {"UnknownOperationException", 400, "InvalidAction", 400},
    {"UnsupportedOperationException", 400, "UnsupportedOperation", 400},
    {"SerializationException", 400, "MalformedQueryString", 400},
    {"RequestEntityTooLargeException", 413, "RequestEntityTooLarge", 413},
    {"ThrottlingException", 400, "Throttling", 400},
    {"ServiceUnavailableException", 503, "ServiceUnavailable", 503},
};

constexpr std::string_view kInternalMessage =
    "The request processing has failed because of an internal error. Hob's log has the cause under "
    "this request id.";
// What the machine lacks may be had again; where to look is told, what was found is not.
constexpr std::string_view kUnavailableMessage =
    "The request cannot be processed now: Hob's machine lacks something it needs, such as disk "
    "space. `hob doctor` on that machine looks for it; Hob's log has the cause under this request "
    "id.";

struct Told {
  std::string code;
  int status;
  std::string_view message_member = "message";
};

const ErrorShape* find_shape(const ServiceModel* model, std::string_view name) {
  if (model == nullptr) return nullptr;
  const auto found = std::ranges::find(model->errors, name, &ErrorShape::name);
  return found == model->errors.end() ? nullptr : &*found;
}

Told tell(const ServiceModel* model, Protocol protocol, std::string_view name, bool internal) {
  if (const ErrorShape* shape = find_shape(model, name)) {
    return {std::string(shape->code), shape->status, shape->message_member};
  }
  for (const CommonError& common : kCommonErrors) {
    if (common.name != name) continue;
    if (protocol == Protocol::kJson) return {std::string(name), common.json_status};
    return {std::string(common.query_code), common.query_status};
  }
  return {std::string(name), internal ? 500 : 400};
}

Error common(Code code, std::string_view name, std::string message) {
  return Error{.code = code, .message = std::move(message), .aws_code = std::string(name)};
}

}  // namespace

bool is_internal(const Error& error) {
  return error.aws_code.empty() || error.code == Code::kInternal;
}

ErrorAnswer encode_error(const ServiceModel* model, Protocol protocol, const Error& error,
                         std::string_view request_id) {
  const bool internal = is_internal(error);
  const std::string_view name = !internal          ? std::string_view(error.aws_code)
                                : model != nullptr ? model->internal_error
                                                   : "InternalFailure";
  const Told told = tell(model, protocol, name, internal);
  const std::string_view message = !internal ? std::string_view(error.message)
                                   : error.code == Code::kUnavailable ? kUnavailableMessage
                                                                      : kInternalMessage;
  ErrorAnswer answer{.status = told.status, .code = told.code};
  switch (protocol) {
    case Protocol::kJson:
      answer.content_type = model != nullptr ? content_type(*model) : "application/x-amz-json-1.1";
      answer.body = "{\"__type\":";
      append_json_string(answer.body, told.code);
      answer.body += ',';
      append_json_string(answer.body, told.message_member);
      answer.body += ':';
      append_json_string(answer.body, message);
      answer.body += '}';
      break;
    case Protocol::kQuery:
      answer.content_type = "text/xml";
      answer.body = model != nullptr
                        ? fmt::format("<ErrorResponse xmlns=\"{}\">", model->xml_namespace)
                        : std::string("<ErrorResponse>");
      answer.body += told.status >= 500 ? "<Error><Type>Receiver</Type><Code>"
                                        : "<Error><Type>Sender</Type><Code>";
      append_xml_text(answer.body, told.code);
      answer.body += "</Code><Message>";
      append_xml_text(answer.body, message);
      answer.body += "</Message></Error><RequestId>";
      append_xml_text(answer.body, request_id);
      answer.body += "</RequestId></ErrorResponse>";
      break;
  }
  return answer;
}

std::string content_type(const ServiceModel& model) {
  switch (model.protocol) {
    case Protocol::kJson:
      return fmt::format("application/x-amz-json-{}", model.json_version);
    case Protocol::kQuery:
      return "text/xml";
  }
  return "text/plain";
}

Error missing_authentication_token() {
  return common(Code::kDenied, "MissingAuthenticationTokenException",
                "Missing Authentication Token");
}
Error unrecognized_client() {
  return common(Code::kDenied, "UnrecognizedClientException",
                "The security token included in the request is invalid.");
}
Error signature_mismatch() {
  return common(Code::kDenied, "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret "
                "Access Key and signing method. Consult the service documentation for details.");
}
Error invalid_signature(std::string message) {
  return common(Code::kDenied, "InvalidSignatureException", std::move(message));
}
Error incomplete_signature(std::string message) {
  return common(Code::kDenied, "IncompleteSignatureException", std::move(message));
}
Error expired_token() {
  return common(Code::kDenied, "ExpiredTokenException",
                "The security token included in the request is expired");
}
Error unknown_operation(std::string_view operation) {
  return common(Code::kInvalid, "UnknownOperationException",
                fmt::format("The operation '{}' does not exist here.", operation.substr(0, 128)));
}
Error serialization_error(std::string message) {
  return common(Code::kInvalid, "SerializationException", std::move(message));
}
Error access_denied(std::string_view arn, std::string_view action, std::string_view resource) {
  return common(
      Code::kDenied, "AccessDeniedException",
      fmt::format(
          "User: {} is not authorized to perform: {} on resource: {} because no identity-based "
          "policy allows the {} action",
          arn, action, resource, action));
}

std::unexpected<Error> not_built(std::string_view service, std::string_view operation) {
  return fail(common(Code::kInvalid, "UnsupportedOperationException",
                     fmt::format("Hob does not do {}:{} yet; the README lists what it does.",
                                 service, operation)));
}

}  // namespace hob::aws
