// CloudWatch Logs' API over Logs, for reading what is there. Belongs to control's loop.
//
// Groups and streams exist as soon as something was written to them; there is nothing to create.
// Retention is by size (logs.h), so PutRetentionPolicy is not built. Filter patterns:
// filter_pattern.h.
#pragma once

#include <string>

#include "aws/logs/handler.h"
#include "observe/logs.h"

namespace hob::observe {

inline constexpr size_t kDescribeDefault = 50;  // groups or streams of one answer (service model)

class LogsApi final : public aws::logs::Handler {
 public:
  // `logs` must outlive it.
  LogsApi(Logs& logs, std::string region) : logs_(logs), region_(std::move(region)) {}

  Async<Result<aws::logs::DescribeLogGroupsResponse>> describe_log_groups(
      aws::logs::DescribeLogGroupsRequest request, aws::Caller caller) override;
  Async<Result<aws::logs::DescribeLogStreamsResponse>> describe_log_streams(
      aws::logs::DescribeLogStreamsRequest request, aws::Caller caller) override;
  Async<Result<aws::logs::GetLogEventsResponse>> get_log_events(
      aws::logs::GetLogEventsRequest request, aws::Caller caller) override;
  Async<Result<aws::logs::FilterLogEventsResponse>> filter_log_events(
      aws::logs::FilterLogEventsRequest request, aws::Caller caller) override;

 private:
  // The group a request means, by its name or its ARN (logGroupIdentifier).
  Result<std::string> group_of(const std::optional<std::string>& name,
                               const std::optional<std::string>& identifier,
                               const aws::Caller& caller) const;
  std::string group_arn(const std::string& account, const std::string& group) const;

  Logs& logs_;
  std::string region_;
};

}  // namespace hob::observe
