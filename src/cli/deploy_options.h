// What `hob deploy` was asked for, as App Runner's API wants it. Pure.
#pragma once

#include <boost/json/fwd.hpp>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hob::cli {

struct DeployOptions {
  std::string image{};  // or a source
  std::string source_directory{};
  std::string name{};
  int port = 0;                            // 0: 8080, or what the service has
  std::vector<std::string> environment{};  // "K=V"
  // From a source's own file, which decides alone: variable → where its value comes from.
  std::optional<std::map<std::string, std::string>> secrets{};
  std::string cpu{};
  std::string memory{};
  std::string health_path{};  // empty: TCP, or what the service has
  std::string command{};
  std::string request_timeout{};
  std::string idle_timeout{};
  std::string protocol{};
  std::string min_size{};  // this and the next five as their hob: tags (docs/extensions.md)
  std::string min_size_schedule{};
  std::string sleep_after{};
  std::string stop_after{};
  std::string strategy{};
  std::string keep_previous{};
  std::string sticky{};
  bool auto_deploy = false;
  bool no_wait = false;
};

// A service name from an image's: "registry/team/my_app:1" -> "my_app". App Runner wants 4 to 40
// letters, digits, - and _.
std::string service_name_for(std::string_view image);
// kInvalid: App Runner would refuse it.
Result<void> check_service_name(std::string_view name);
// The repository in our registry for an archive's name or path: lower case, [a-z0-9._-/].
std::string repository_for(std::string_view name);

// The hob: tags that the options ask for: [{Key, Value}].
boost::json::array tags_of(const DeployOptions& options);
// CreateService's input. kInvalid: an option is wrong, with what would be right.
Result<boost::json::object> create_input(const DeployOptions& options, std::string_view identifier);
// UpdateService's: what DescribeService answered, with the options that were given over it.
Result<boost::json::object> update_input(const DeployOptions& options, std::string_view identifier,
                                         const boost::json::object& service);

}  // namespace hob::cli
