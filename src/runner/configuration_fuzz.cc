// A service as a client describes it, its tags too: refused for a reason, or a configuration that
// keeps its limits and can be shown.
#include <algorithm>
#include <cstdint>
#include <string>

#include "aws/apprunner/codec.h"
#include "aws/dispatch.h"
#include "base/assert.h"
#include "runner/configuration.h"

namespace {

using namespace hob;
using namespace hob::runner;

class AnyImages final : public Images {
 public:
  Async<Result<ResolvedImage>> resolve(std::string, std::string) override {
    co_return ResolvedImage{};
  }
  Result<void> check(const std::string& identifier) const override {
    if (identifier.starts_with("bad")) return fail(Code::kInvalid, "no image");
    return {};
  }
  Result<std::string> at_digest(const std::string& identifier,
                                const std::string& digest) const override {
    return identifier + "@" + digest;
  }
  bool is_ours(const std::string& identifier) const override {
    return identifier.starts_with("127.0.0.1");
  }
  Async<Result<void>> changed() override { co_return Result<void>(); }
};

template <class T>
const T* pointer(const std::optional<T>& value) {
  return value ? &*value : nullptr;
}
template <class T>
const T* pointer(const T& value) {
  return &value;
}

template <class Request>
void check(const std::string& body, const Configuration& before) {
  const aws::Call call{.body = body};
  const auto request = aws::decode<aws::apprunner::In, Request>(call, "InvalidRequestException");
  if (!request) return;
  const AnyImages images;
  const auto configuration =
      apply_request(before,
                    {.source = pointer(request->source_configuration),
                     .instance = pointer(request->instance_configuration),
                     .health = pointer(request->health_check_configuration),
                     .network = pointer(request->network_configuration),
                     .observability = pointer(request->observability_configuration)},
                    images);
  if (!configuration) {
    HOB_ASSERT(configuration.error().aws_code == "InvalidRequestException");
    return;
  }
  HOB_ASSERT(configuration->environment.size() <= kVariablesMax);
  HOB_ASSERT(configuration->health_path.starts_with('/'));
  HOB_ASSERT(configuration->cpu >= 256 && configuration->memory_mib >= 512);
  Service service;
  service.configuration = *configuration;
  HOB_ASSERT(decode_service(encode(service)).has_value());
  static_cast<void>(show(service));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string body(reinterpret_cast<const char*>(data), size);
  check<aws::apprunner::CreateServiceRequest>(body, {});
  check<aws::apprunner::UpdateServiceRequest>(body, {.image = "127.0.0.1:4566/hello:1"});
  const aws::Call call{.body = body};
  const auto tagging = aws::decode<aws::apprunner::In, aws::apprunner::TagResourceRequest>(
      call, "InvalidRequestException");
  if (tagging) {
    for (const TaggedKind kind : {TaggedKind::kService, TaggedKind::kAutoScalingConfiguration}) {
      const auto tags = apply_tags({{"team", "shop"}}, tagging->tags, kind);
      if (tags) HOB_ASSERT(tags->size() <= kTagsMax);
    }
  }
  return 0;
}
