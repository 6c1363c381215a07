#include "cluster/deployment_failure.h"

#include <gtest/gtest.h>

#include "cluster/task_state.h"

namespace hob::cluster {
namespace {

TEST(DeploymentFailure, SaysWhatWasAskedWhereAndWhatCame) {
  const link::Probe http{
      .protocol = link::ProbeProtocol::kHttp, .port = 80, .path = "/up", .unhealthy_threshold = 5};
  const link::Probe tcp{.port = 8080, .unhealthy_threshold = 3};
  const std::string unhealthy(kReasonUnhealthy);
  struct Case {
    const char* name;
    std::optional<link::Probe> probe;
    std::string reason;
    std::optional<int> exit_code;
    const char* want;
  };
  for (const Case& c : {
           Case{"an answer that is no success",
                http,
                unhealthy + ": GET /up on port 80: the answer was 404, 200 to 399 is healthy",
                {},
                "Health check failed on protocol `HTTP` [Path: '/up'] [Port: '80'], 5 times in a "
                "row: GET /up on port 80: the answer was 404, 200 to 399 is healthy"},
           Case{"a closed port",
                tcp,
                unhealthy + ": TCP connect to port 8080: Connection refused; nothing listens on "
                            "port 8080",
                {},
                "Health check failed on protocol `TCP` [Port: '8080'], 3 times in a row: TCP "
                "connect to port 8080: Connection refused; nothing listens on port 8080"},
           Case{"no probe ended",
                tcp,
                unhealthy,
                {},
                "Health check failed on protocol `TCP` [Port: '8080'], 3 times in a row: it was "
                "not healthy within the time for its start"},
           Case{"it ended", tcp, "Essential container in task exited", 3,
                "Essential container in task exited (exit code 3)"},
           Case{"nobody knows", {}, "", {}, "The task stopped"},
       }) {
    Task task;
    task.stopped_reason = c.reason;
    task.exit_code = c.exit_code;
    TaskTemplate wanted;
    wanted.probe = c.probe;
    EXPECT_EQ(explained(task, wanted), c.want) << c.name;
  }
}

}  // namespace
}  // namespace hob::cluster
