// ARNs: "arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE".
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace hob::aws {

struct Arn {
  std::string partition = "aws";
  std::string service{};
  std::string region{};    // empty for global services
  std::string account{};   // twelve digits, or empty
  std::string resource{};  // all that follows, colons and slashes too; never empty
  bool operator==(const Arn&) const = default;
};

// nullopt: not an ARN.
std::optional<Arn> parse_arn(std::string_view text);
std::string to_string(const Arn& arn);

}  // namespace hob::aws
