// A form: any bytes must decode into an AssumeRole request or an error.
#include <cstdint>
#include <string_view>

#include "aws/dispatch.h"
#include "aws/sts/codec.h"
#include "base/assert.h"
#include "base/http.h"

using namespace hob;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto form = http::parse_query(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!form) return 0;
  const aws::Call call{.operation = "AssumeRole", .form = std::move(*form)};
  const auto request =
      aws::decode<aws::sts::In, aws::sts::AssumeRoleRequest>(call, "ValidationError");
  if (!request) HOB_ASSERT(!request.error().aws_code.empty());
  return 0;
}
