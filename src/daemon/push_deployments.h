// What the git remote asks of control: which services there are, and deployments of what is pushed.
//
// The deployment itself is what `hob deploy` does, on the host (source_deployer.h), in the name of
// who pushed. Belongs to control's loop.
#pragma once

#include <filesystem>
#include <set>

#include "git/remote.h"
#include "identity/directory.h"
#include "store/store.h"

namespace hob::daemon {

class PushDeployments final : public git::Deployments {
 public:
  // All must outlive it. `data`: the instance's directory.
  PushDeployments(store::Store& store, const identity::Directory& directory,
                  std::filesystem::path data)
      : store_(store), directory_(directory), data_(std::move(data)) {}

  Async<Result<git::PushedService>> find(std::string account, std::string service) override;
  Async<Result<void>> deploy(git::PushedDeployment push, git::Say say) override;

 private:
  store::Store& store_;
  const identity::Directory& directory_;
  std::filesystem::path data_;
  std::set<std::pair<std::string, std::string>> running_;  // account, service
};

// Who may use the remote: an access key with its secret may fetch and push; a registry's password
// (user AWS), as builds get one, may fetch. `directory` must outlive it.
git::RemoteAuthentication remote_authentication(const identity::Directory& directory);

}  // namespace hob::daemon
