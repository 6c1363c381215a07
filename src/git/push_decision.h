// What becomes of a push: which branch is deployed, what is only kept, what is refused. Pure; any
// thread.
//
// A service follows one branch, and that branch of the remote is what runs: it moves when the
// deployment has succeeded, and a push that fails to build or to start is refused, as Heroku's is
// (docs/decisions/git-remote.md). Other branches and tags are kept.
#pragma once

#include <string>
#include <vector>

#include "git/push_hook.h"

namespace hob::git {

// A service as a pusher finds it.
struct PushedService {
  bool exists = false;
  std::string branch{};  // the one it follows; empty: nothing was pushed to it yet
};

struct PushView {
  PushedService service{};
  std::vector<RefUpdate> updates{};
};

struct PushDecision {
  std::string refused{};  // the reason, for the pusher; empty: it may go on, with what follows
  std::string deploys{};  // the branch; empty: none
  std::string commit{};   // of it
  bool begins = false;    // the service follows that branch from now on
  std::vector<std::string> notes{};  // for the pusher, a line each
};

PushDecision decide_push(const PushView& view);

}  // namespace hob::git
