// Which service and operation a request is for.
//
// Pure. AWS's services share one endpoint here, so the request must tell: by the credential scope
// of its signature, else by X-Amz-Target, else by the Version of a Query call.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aws/service.h"
#include "aws/sigv4.h"
#include "base/http.h"
#include "base/result.h"

namespace hob::api {

using Services = std::vector<std::unique_ptr<aws::Service>>;

struct Destination {
  aws::Service* service = nullptr;                // nullptr: none of ours; then `failure` says why
  aws::Protocol protocol = aws::Protocol::kJson;  // to answer in, also when the service is unknown
  aws::Call call{};
  std::optional<Error> failure{};  // found while routing: told only to who has proven who they are
};

// `signature`: what the request claims, if it does. `body`: moved into the call.
Destination route(const Services& services, const http::Request& request,
                  const std::optional<aws::Signature>& signature, std::string body);

}  // namespace hob::api
