// The remote's repositories: one bare one for each service of each account, by name, never shared
// (version 2 of the protocol gives away any object by its id).
//
//   DIRECTORY/hooks/pre-receive           ours, written anew at each start
//   DIRECTORY/ACCOUNT/SERVICE.git         bare; refs/hob/ is ours and hidden
//
// Belongs to control's loop; what blocks runs on the pool or in children.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/async.h"
#include "base/result.h"
#include "git/limits.h"
#include "git/push_hook.h"

namespace hob::git {

struct RepositoryName {
  std::string account{};
  std::string service{};  // is_service_name
};

class Repositories {
 public:
  // The pool must outlive it.
  Repositories(std::filesystem::path directory, BlockingPool& pool,
               uint64_t push_bytes_max = kPushBytesMax);

  // Makes the directory and the hook.
  Async<Result<void>> open();
  Async<Result<bool>> has(RepositoryName name);
  // Makes it unless it is there. kLimit: the account has kRepositoriesMax.
  Async<Result<void>> ensure(RepositoryName name);
  // kLimit: it is over kRepositoryBytesMax even without its garbage.
  Async<Result<void>> check_room(RepositoryName name);
  // Makes what a push brought a part of the repository while its hook still runs, under a hidden
  // ref, so that it is there for a build whatever becomes of the push. `question` is the hook's.
  Async<Result<void>> keep(RepositoryName name, const PushQuestion& question, std::string commit);
  // Takes the hidden ref away: what no branch came to hold is garbage.
  Async<Result<void>> forget(RepositoryName name, std::string commit);
  // The branch that its service follows: that which a clone checks out. Empty: nothing was pushed
  // yet.
  Async<Result<std::string>> followed_branch(RepositoryName name);
  // The branch that a clone checks out.
  Async<Result<void>> point_head(RepositoryName name, std::string branch);
  // After pushes: packs what is held into one pack once there are over kPacksMax, and drops what
  // is not.
  Async<Result<void>> collect_garbage(RepositoryName name);
  // rm -r; one that is not there is no error.
  Async<Result<void>> remove(RepositoryName name);

  std::filesystem::path path_of(const RepositoryName& name) const;
  const std::filesystem::path& directory() const { return directory_; }
  std::filesystem::path hooks() const { return directory_ / "hooks"; }
  uint64_t push_bytes_max() const { return push_bytes_max_; }

 private:
  Async<Result<void>> git(RepositoryName name, std::vector<std::string> arguments,
                          Duration timeout);

  std::filesystem::path directory_;
  BlockingPool& pool_;
  uint64_t push_bytes_max_;
};

}  // namespace hob::git
