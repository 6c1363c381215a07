// May this caller do that?
//
// An account's root principal may do everything in its account. IAM's policies will be evaluated
// here when there are other principals; until then those may do nothing.
#pragma once

#include <string_view>

#include "aws/service.h"
#include "base/result.h"

namespace hob::identity {

// `action`: "apprunner:CreateService"; `resource`: an ARN, or "*" where the operation names none.
// AccessDeniedException in AWS's words. A resource of another account is denied.
Result<void> authorize(const aws::Caller& caller, std::string_view action,
                       std::string_view resource);

}  // namespace hob::identity
