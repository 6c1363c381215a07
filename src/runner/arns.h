// The ARNs of runner's resources: made, and read. Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "runner/account_records.h"
#include "runner/records.h"

namespace hob::runner {

// An ARN of App Runner's, cut up; revision and id are empty in partial ones.
struct ResourceArn {
  std::string region{};
  std::string account{};
  std::string kind{};  // "service", "connection", "autoscalingconfiguration", …
  std::string name{};
  std::optional<int> revision{};  // a service has none
  std::string id{};
};

std::string arn_of(const Service& service);
std::string arn_of(const std::string& region, const std::string& account,
                   const ScalingReference& scaling);
std::string arn_of(const std::string& region, const Connection& connection);
std::string arn_of(const std::string& region, const ObservabilityConfiguration& configuration);
// nullopt: not of the form arn:aws:apprunner:REGION:ACCOUNT:service/NAME/ID or
// …:connection/NAME/ID, or …:autoscalingconfiguration/NAME[/REVISION[/ID]],
// …:observabilityconfiguration/NAME[/REVISION[/ID]].
std::optional<ResourceArn> parse_arn(std::string_view text);

}  // namespace hob::runner
