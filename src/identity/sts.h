// STS: who am I?
#pragma once

#include "aws/sts/handler.h"

namespace hob::identity {

class Sts final : public aws::sts::Handler {
 public:
  Async<Result<aws::sts::GetCallerIdentityResponse>> get_caller_identity(
      aws::sts::GetCallerIdentityRequest request, aws::Caller caller) override;
};

}  // namespace hob::identity
