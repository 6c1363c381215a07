// What a service of AWS is to the endpoint: its model's facts, and a call from encoded input to
// encoded answer.
//
// Generated code makes one from a handler: aws::apprunner::make_service(handler). Belongs to
// control's loop.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/async.h"
#include "base/result.h"

namespace hob::aws {

// Who calls, authenticated.
struct Caller {
  std::string account{};  // twelve digits
  std::string arn{};      // "arn:aws:iam::000000000001:root"
  std::string user_id{};  // as STS GetCallerIdentity answers it
  std::string access_key_id{};
  std::string region{};
  std::string request_id{};
};

enum class Protocol { kJson, kQuery };

struct ErrorShape {
  std::string_view name{};  // the shape's, which is Error::aws_code
  std::string_view code{};  // on the wire; differs from the name in Query only
  int status = 400;
  std::string_view message_member{};  // "Message" or "message"
};

struct ServiceModel {
  std::string_view name{};          // "apprunner": ours, and the prefix of its actions in policies
  std::string_view signing_name{};  // in the credential scope
  Protocol protocol = Protocol::kJson;
  std::string_view json_version{};   // "1.0", "1.1"
  std::string_view target_prefix{};  // of X-Amz-Target
  std::string_view api_version{};
  std::string_view xml_namespace{};
  std::string_view validation_error{};  // the code for a broken constraint
  std::string_view internal_error{};    // the code for a failure of ours
  std::span<const ErrorShape> errors{};
};

// One request, decoded as far as the protocol goes without the operation's shapes. JSON uses the
// body, Query the form; protocols that put members into path and headers will add those here.
struct Call {
  std::string operation{};
  std::string body{};
  std::vector<std::pair<std::string, std::string>> form{};
};

class Service {
 public:
  virtual ~Service() = default;
  virtual const ServiceModel& model() const = 0;
  // In alphabetical order.
  virtual std::vector<std::string_view> operations() const = 0;
  // The encoded answer. Errors for wire_error.h: the handler's, or UnknownOperationException,
  // SerializationException, the model's validation error.
  virtual Async<Result<std::string>> call(Call call, Caller caller) = 0;
};

// The answer of an operation that nobody overrides: UnsupportedOperationException, which no SDK
// retries.
std::unexpected<Error> not_built(std::string_view service, std::string_view operation);

}  // namespace hob::aws
