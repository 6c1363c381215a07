#include "identity/policy.h"

#include "aws/arn.h"
#include "aws/wire_error.h"

namespace hob::identity {

Result<void> authorize(const aws::Caller& caller, std::string_view action,
                       std::string_view resource) {
  const auto principal = aws::parse_arn(caller.arn);
  const bool is_root = principal && principal->service == "iam" && principal->resource == "root" &&
                       principal->account == caller.account;
  const auto target = aws::parse_arn(resource);
  const bool is_ours = !target || target->account.empty() || target->account == caller.account;
  // Who you are is yours to know whatever the policies say, as at AWS.
  if (action == "sts:GetCallerIdentity") return {};
  if (!is_root || !is_ours) return fail(aws::access_denied(caller.arn, action, resource));
  return {};
}

}  // namespace hob::identity
