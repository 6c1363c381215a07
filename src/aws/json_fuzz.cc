// A JSON body: any bytes must decode into each of these requests or an error.
#include <cstdint>
#include <string>

#include "aws/apprunner/codec.h"
#include "aws/dispatch.h"
#include "base/assert.h"

using namespace hob;

namespace {

template <class Request>
void decode(const aws::Call& call) {
  const auto request = aws::decode<aws::apprunner::In, Request>(call, "InvalidRequestException");
  if (!request) HOB_ASSERT(!request.error().aws_code.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const aws::Call call{.body = std::string(reinterpret_cast<const char*>(data), size)};
  decode<aws::apprunner::CreateServiceRequest>(call);
  decode<aws::apprunner::UpdateServiceRequest>(call);
  decode<aws::apprunner::CreateAutoScalingConfigurationRequest>(call);
  decode<aws::apprunner::UntagResourceRequest>(call);
  return 0;
}
