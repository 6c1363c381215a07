#include "daemon/push_deployments.h"

#include "base/digest.h"
#include "base/log.h"
#include "daemon/source_deployer.h"
#include "git/deploy_order.h"
#include "runner/keys.h"

namespace hob::daemon {

namespace {

constexpr Duration kFetchPasswordLife{3'600'000};
// From one line to the next: a step of a build may be silent, and a canary's wait is.
constexpr Duration kSilenceMax{2 * 3'600'000};
constexpr size_t kPendingBytesMax = 64 * 1024;
constexpr std::string_view kRegistryUser = "AWS";

}  // namespace

Async<Result<git::PushedService>> PushDeployments::find(std::string account, std::string service) {
  HOB_CO_TRY(const auto entry, co_await store_.get(runner::name_key(account, service)));
  co_return git::PushedService{.exists = entry.has_value()};
}

Async<Result<void>> PushDeployments::deploy(git::PushedDeployment push, git::Say say) {
  const auto key = directory_.find_key(push.user);
  if (!key) co_return fail(Code::kDenied, "the access key that pushed is gone");
  const auto place = std::pair(push.account, push.service);
  if (!running_.insert(place).second) {
    co_return fail(
        Code::kConflict,
        "another push to {} is being deployed: wait for it (hob deploys {}) or cancel it "
        "(hob cancel {}), then push again",
        push.service, push.service, push.service);
  }
  const auto leave = [place](decltype(running_)* running) { running->erase(place); };
  const std::unique_ptr<decltype(running_), decltype(leave)> turn(&running_, leave);

  const identity::RegistryPassword password =
      directory_.mint_pull_password(push.account, key->arn, kFetchPasswordLife);
  const git::DeployOrder order{.service = push.service,
                               .commit = push.commit,
                               .fetch_user = std::string(kRegistryUser),
                               .fetch_password = password.password,
                               .access_key = key->id,
                               .secret_key = key->secret};
  http::Request request{.method = "POST", .target = "/deploy", .path = "/deploy"};
  request.headers.set("Host", "host");
  std::string text;
  bool done = false;
  bool failed = false;
  const auto sink = [&](std::string piece) -> Async<Result<void>> {
    text += piece;
    for (size_t end = 0; (end = text.find('\n')) != std::string::npos;) {
      const std::string line = text.substr(0, end);
      text.erase(0, end + 1);
      if (line.starts_with(git::kSayWord))
        co_await say(line.substr(git::kSayWord.size()));
      else
        (line == git::kDoneWord ? done : failed) = true;
    }
    if (text.size() > kPendingBytesMax)
      co_return fail(Code::kLimit, "a line of host's is too long");
    co_return Result<void>();
  };
  const auto answer =
      co_await http::fetch_streaming({.host = deployer_socket(data_).string()}, std::move(request),
                                     encode(order), kSilenceMax, sink);
  if (!answer) {
    log::warn("host did not deploy a push", {{"error", answer.error().message}});
    co_return fail(Code::kUnavailable, "the host that builds does not answer; push again");
  }
  if (answer->status == 503)
    co_return fail(Code::kUnavailable, "too many pushes are being deployed; push again");
  if (done) co_return Result<void>();
  co_return fail(Code::kUnavailable, "{}",
                 failed ? "the deployment failed, for the reason above"
                        : "the host that builds broke off; push again");
}

git::RemoteAuthentication remote_authentication(const identity::Directory& directory) {
  return [&directory](std::string user, std::string password) -> Async<Result<git::RemoteCaller>> {
    if (user == kRegistryUser) {
      HOB_CO_TRY(const identity::RegistryGrant grant, directory.check_registry_password(password));
      co_return git::RemoteCaller{.account = grant.account, .user = user};
    }
    const auto key = directory.find_key(user);
    if (!key || !equal_in_constant_time(key->secret, password)) {
      co_return fail(Code::kDenied,
                     "the user name is an access key's id, the password its secret key");
    }
    co_return git::RemoteCaller{.account = key->account, .user = user, .may_push = true};
  };
}

}  // namespace hob::daemon
