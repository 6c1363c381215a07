// Between AWS's shapes and our records: what a request asks for, checked, and what a record is
// shown as.
//
// Pure; any thread. Errors are InvalidRequestException with the reason for people. The service
// model's own constraints (lengths, ranges, enums) were checked before.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "aws/apprunner/types.h"
#include "base/result.h"
#include "runner/images.h"
#include "runner/records.h"

namespace hob::runner {

inline constexpr size_t kVariablesMax = 50;  // AWS's quota, with secrets
inline constexpr size_t kEnvironmentBytesMax =
    256 * 1024;                         // keys and values: execve takes not much more
inline constexpr size_t kTagsMax = 50;  // AWS's quota

// The parts of a request that make a Configuration; a nullptr is a part that was not given.
struct ConfigurationRequest {
  const aws::apprunner::SourceConfiguration* source = nullptr;
  const aws::apprunner::InstanceConfiguration* instance = nullptr;
  const aws::apprunner::HealthCheckConfiguration* health = nullptr;
  const aws::apprunner::NetworkConfiguration* network = nullptr;
  // Its ARN, if it has one, is whole and known.
  const aws::apprunner::ServiceObservabilityConfiguration* observability = nullptr;
};

// `configuration` as it is after the request: parts not given stay; a given ImageRepository
// replaces the old one whole, within the other parts members not given stay. The auto scaling
// configuration is not looked at.
Result<Configuration> apply_request(Configuration configuration,
                                    const ConfigurationRequest& request, const Images& images);

// Checked tags: no reserved or doubled key, at most kTagsMax with `existing` ones, hob: tags of a
// service valid.
enum class TaggedKind {
  kService,
  kAutoScalingConfiguration,
  kConnection,
  kObservabilityConfiguration
};
Result<std::map<std::string, std::string>> apply_tags(std::map<std::string, std::string> existing,
                                                      const std::vector<aws::apprunner::Tag>& tags,
                                                      TaggedKind kind);
// InvalidRequestException: the tags ask for a minimum size over `max_size`.
Result<void> check_minimum(const std::map<std::string, std::string>& tags, int max_size);

aws::apprunner::Service show(const Service& service);
aws::apprunner::ServiceSummary show_summary(const Service& service);
aws::apprunner::OperationSummary show(const Operation& operation, const Service& service);

}  // namespace hob::runner
