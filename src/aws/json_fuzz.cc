// A JSON body: any bytes must decode into each of these requests or an error.
#include <cstdint>
#include <string>

#include "aws/apprunner/codec.h"
#include "aws/dispatch.h"
#include "aws/ecr/codec.h"
#include "aws/logs/codec.h"
#include "base/assert.h"

using namespace hob;

namespace {

template <class Request>
void decode(const aws::Call& call) {
  // Every JSON service reads with the same In.
  const auto request = aws::decode<aws::JsonIn, Request>(call, "InvalidRequestException");
  if (!request) HOB_ASSERT(!request.error().aws_code.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const aws::Call call{.body = std::string(reinterpret_cast<const char*>(data), size)};
  decode<aws::apprunner::CreateServiceRequest>(call);
  decode<aws::apprunner::UpdateServiceRequest>(call);
  decode<aws::apprunner::CreateAutoScalingConfigurationRequest>(call);
  decode<aws::apprunner::UntagResourceRequest>(call);
  decode<aws::ecr::BatchGetImageRequest>(call);
  decode<aws::ecr::DescribeImagesRequest>(call);
  decode<aws::ecr::PutImageRequest>(call);
  decode<aws::logs::FilterLogEventsRequest>(call);
  decode<aws::logs::GetLogEventsRequest>(call);
  return 0;
}
