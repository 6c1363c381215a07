// Hob's own git remote over smart HTTP: clone, fetch and push at /git/SERVICE.git, and a push that
// deploys.
//
// Callers log in by HTTP basic authentication; whose repository is meant, the login says, and one
// of another account is not found. The hook of a push asks here, and waits while the deployment
// runs: its log is shown in the pusher's terminal, and the branch moves when it has succeeded. A
// pusher who goes away cancels nothing. Belongs to control's loop.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/async.h"
#include "base/http.h"
#include "base/result.h"
#include "git/push_decision.h"
#include "git/remote_path.h"
#include "git/repositories.h"

namespace hob::git {

struct RemoteCaller {
  std::string account{};
  std::string user{};  // as it logged in
  bool may_push = false;
};
// Who logs in with this; kDenied: nobody.
using RemoteAuthentication =
    std::function<Async<Result<RemoteCaller>>(std::string user, std::string password)>;

// Shows the pusher a line; without effect once they are gone.
using Say = std::function<Async<>(std::string line)>;

struct PushedDeployment {
  std::string account{};
  std::string user{};  // who pushed, as RemoteCaller has it
  std::string service{};
  std::string branch{};
  std::string commit{};
  bool creates = false;  // the service is not there yet
};

// What the remote needs of control; implemented above this room.
class Deployments {
 public:
  virtual ~Deployments() = default;
  virtual Async<Result<PushedService>> find(std::string account, std::string service) = 0;
  // Runs the deployment to its end. The error of a failed one says why, for the pusher.
  virtual Async<Result<void>> deploy(PushedDeployment push, Say say) = 0;
};

class Remote {
 public:
  // All must outlive it, and it every request it was given.
  Remote(Repositories& repositories, Deployments& deployments, RemoteAuthentication authenticate);

  // Answers one request below kRemoteRoot.
  Async<> handle(const http::Request& request, http::BodyReader& body, http::Responder& responder);
  http::Handler handler();

 private:
  struct Exchange;  // one request being answered
  class Turn;       // its place among kExchangesMax
  Async<Result<void>> answer(Exchange& exchange);
  Async<Result<void>> prepare(Exchange& exchange);
  Async<Result<void>> run(Exchange& exchange);
  Async<Result<void>> send_body(Exchange& exchange);
  Async<Result<void>> receive_answer(Exchange& exchange);
  Async<Result<void>> pass_answer(Exchange& exchange);
  Async<Result<void>> serve_hook(Exchange& exchange);
  Async<Result<void>> take_push(Exchange& exchange, const PushQuestion& question);

  Repositories& repositories_;
  Deployments& deployments_;
  RemoteAuthentication authenticate_;
  size_t exchanges_ = 0;
  std::map<std::string, size_t> exchanges_of_;    // by account
  std::map<std::string, size_t> pushes_running_;  // by path of the repository
};

}  // namespace hob::git
