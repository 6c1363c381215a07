// What control asks of the host when something was pushed: build and deploy one commit of the
// remote. The host runs a program of root's with it, so it takes nothing that is not checked here.
// Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace hob::git {

inline constexpr size_t kDeployOrderBytesMax = 64 * 1024;

struct DeployOrder {
  std::string service{};
  std::string commit{};      // 40 hex
  std::string fetch_user{};  // of the remote
  std::string fetch_password{};
  std::string access_key{};  // as whom: whose service it is
  std::string secret_key{};
};

std::string encode(const DeployOrder& order);
// kInvalid: no order, or one with a name, a commit or a word that no order of control's has.
Result<DeployOrder> decode_deploy_order(std::string_view json);

// A line of the answer: "say TEXT", then "done" or "failed" as the last.
inline constexpr std::string_view kSayWord = "say ";
inline constexpr std::string_view kDoneWord = "done";
inline constexpr std::string_view kFailedWord = "failed";

}  // namespace hob::git
