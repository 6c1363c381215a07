// Errors on the wire: the body and status of each protocol, and the errors that all of AWS's
// services share.
//
// A shared error carries the JSON protocols' name in Error::aws_code; the table here knows what
// Query calls it.
#pragma once

#include <string>
#include <string_view>

#include "aws/service.h"
#include "base/result.h"

namespace hob::aws {

struct ErrorAnswer {
  int status = 400;
  std::string code{};  // as on the wire
  std::string content_type{};
  std::string body{};
};

// `model`: nullptr where the service is not known; then `protocol` alone decides. An error without
// an AWS code, or with Code::kInternal, is told as the service's internal error without its
// message: log that before. With Code::kUnavailable it says that trying again may help.
ErrorAnswer encode_error(const ServiceModel* model, Protocol protocol, const Error& error,
                         std::string_view request_id);

// Whether the client is told a text of ours instead of the message.
bool is_internal(const Error& error);

// The type of successful answers.
std::string content_type(const ServiceModel& model);

Error missing_authentication_token();
Error unrecognized_client();
Error signature_mismatch();
Error invalid_signature(std::string message);     // the clock, the scope: told why
Error incomplete_signature(std::string message);  // malformed
Error expired_token();
Error unknown_operation(std::string_view operation);
Error serialization_error(std::string message);
// "User: ARN is not authorized to perform: apprunner:CreateService on resource: …"
Error access_denied(std::string_view arn, std::string_view action, std::string_view resource);

}  // namespace hob::aws
