#include "identity/sts.h"

namespace hob::identity {

Async<Result<aws::sts::GetCallerIdentityResponse>> Sts::get_caller_identity(
    aws::sts::GetCallerIdentityRequest, aws::Caller caller) {
  co_return aws::sts::GetCallerIdentityResponse{
      .user_id = caller.user_id, .account = caller.account, .arn = caller.arn};
}

}  // namespace hob::identity
