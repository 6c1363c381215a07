#include "git/remote.h"

#include <chrono>

#include "base/basic_credentials.h"
#include "base/log.h"
#include "git/cgi_answer.h"
#include "git/cgi_child.h"

namespace hob::git {

namespace asio = boost::asio;
using std::chrono::steady_clock;

namespace {

// What a failed push ends with, above the lines that git adds.
constexpr std::string_view kNothingChanged = "nothing was changed: what ran before runs on";

// Waits for all of them; cancelling the caller cancels each.
Async<std::vector<Result<void>>> all(Async<Result<void>> first, Async<Result<void>> second,
                                     Async<Result<void>> third) {
  const Executor executor = co_await asio::this_coro::executor;
  auto [order, exception1, result1, exception2, result2, exception3, result3] =
      co_await asio::experimental::make_parallel_group(
          asio::co_spawn(executor, std::move(first), asio::deferred),
          asio::co_spawn(executor, std::move(second), asio::deferred),
          asio::co_spawn(executor, std::move(third), asio::deferred))
          .async_wait(asio::experimental::wait_for_all(), asio::use_awaitable);
  co_await throw_if_cancelled();
  for (const std::exception_ptr& exception : {exception1, exception2, exception3}) {
    if (exception) std::rethrow_exception(exception);
  }
  co_return std::vector<Result<void>>{std::move(result1), std::move(result2), std::move(result3)};
}

int status_of(const Error& error) {
  switch (error.code) {
    case Code::kNotFound:
      return 404;
    case Code::kDenied:
    case Code::kLimit:
      return 403;
    case Code::kInvalid:
      return 400;
    case Code::kUnavailable:
    case Code::kTimeout:
      return 503;
    case Code::kExists:
    case Code::kConflict:
      return 409;
    case Code::kCancelled:
    case Code::kCorrupt:
    case Code::kInternal:
      return 500;
  }
  return 500;
}

std::string reason_for_people(const Error& error) {
  return status_of(error) == 500 ? "Hob failed; its log says why" : error.message;
}

}  // namespace

struct Remote::Exchange {
  const http::Request& request;
  http::BodyReader& body;
  http::Responder& responder;
  RemotePath path{};
  RemoteCaller caller{};
  std::unique_ptr<CgiChild> child{};
  Event body_ended;
  bool peer_gone = false;
  bool answered = false;

  RepositoryName name() const { return {.account = caller.account, .service = path.service}; }
  bool pushes() const { return path.git == GitService::kReceivePack; }
  Async<Result<void>> refuse(int status, std::string message, http::Headers headers = {}) {
    headers.set("Content-Type", "text/plain; charset=utf-8");
    headers.set("Cache-Control", "no-cache");
    answered = true;
    co_return co_await responder.respond(
        {.status = status, .headers = std::move(headers), .body = message + "\n"});
  }
};

class Remote::Turn {
 public:
  Turn(Remote& remote, const Exchange& exchange)
      : remote_(remote), account_(exchange.caller.account) {
    ++remote_.exchanges_;
    ++remote_.exchanges_of_[account_];
    if (!exchange.pushes()) return;
    repository_ = remote_.repositories_.path_of(exchange.name()).string();
    ++remote_.pushes_running_[repository_];
  }
  ~Turn() {
    --remote_.exchanges_;
    leave(remote_.exchanges_of_, account_);
    leave_repository();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  // Whether nobody else pushes to the same repository; this one does no more.
  bool was_last() {
    const bool alone = remote_.pushes_running_[repository_] == 1;
    leave_repository();
    return alone;
  }

 private:
  static void leave(std::map<std::string, size_t>& counts, const std::string& key) {
    const auto found = counts.find(key);
    if (--found->second == 0) counts.erase(found);
  }
  void leave_repository() {
    if (!repository_.empty()) leave(remote_.pushes_running_, repository_);
    repository_.clear();
  }
  Remote& remote_;
  std::string account_;
  std::string repository_;  // empty: no push
};

Remote::Remote(Repositories& repositories, Deployments& deployments,
               RemoteAuthentication authenticate)
    : repositories_(repositories),
      deployments_(deployments),
      authenticate_(std::move(authenticate)) {}

http::Handler Remote::handler() {
  return [this](const http::Request& request, http::BodyReader& body, http::Responder& responder) {
    return handle(request, body, responder);
  };
}

Async<> Remote::handle(const http::Request& request, http::BodyReader& body,
                       http::Responder& responder) {
  Exchange exchange{.request = request,
                    .body = body,
                    .responder = responder,
                    .body_ended = Event(co_await asio::this_coro::executor)};
  const Result<void> answered = co_await answer(exchange);
  if (answered) co_return;
  if (exchange.answered || exchange.peer_gone) {
    log::debug("a git client went away", {{"error", answered.error().message}});
    co_return;
  }
  const int status = status_of(answered.error());
  if (status >= 500) {
    log::error("a git client was not served", {{"service", exchange.path.service},
                                               {"account", exchange.caller.account},
                                               {"error", answered.error().message}});
  }
  // The asker may have gone.
  static_cast<void>(co_await exchange.refuse(status, reason_for_people(answered.error())));
}

Async<Result<void>> Remote::answer(Exchange& exchange) {
  const auto path = http::percent_decode(exchange.request.path, http::Plus::kLiteral);
  const auto parsed =
      path ? parse_remote_path(exchange.request.method, *path, exchange.request.query)
           : std::nullopt;
  if (!parsed)
    co_return fail(Code::kNotFound, "there is no such page; a remote is /git/SERVICE.git");
  exchange.path = *parsed;
  const auto login = http::basic_credentials(exchange.request.headers.get("Authorization"));
  Result<RemoteCaller> caller = fail(Code::kDenied, "log in with an access key");
  if (login) caller = co_await authenticate_(login->first, login->second);
  if (!caller && caller.error().code != Code::kDenied) co_return fail(caller.error());
  if (!caller) {
    http::Headers headers;
    headers.set("WWW-Authenticate", R"(Basic realm="Hob git", charset="UTF-8")");
    co_return co_await exchange.refuse(401, caller.error().message, std::move(headers));
  }
  exchange.caller = std::move(*caller);
  if (exchange.pushes() && !exchange.caller.may_push)
    co_return fail(Code::kDenied, "this login may only fetch");
  if (exchanges_ >= kExchangesMax) {
    http::Headers headers;
    headers.set("Retry-After", "5");
    co_return co_await exchange.refuse(503, "too many git clients at once; try again",
                                       std::move(headers));
  }
  if (const auto running = exchanges_of_.find(exchange.caller.account);
      running != exchanges_of_.end() && running->second >= kExchangesOfAccountMax) {
    http::Headers headers;
    headers.set("Retry-After", "5");
    co_return co_await exchange.refuse(
        503, "too many git clients of this account at once; try again", std::move(headers));
  }
  Turn turn(*this, exchange);
  HOB_CO_CHECK(co_await prepare(exchange));
  Result<void> served =
      co_await within(exchange.pushes() ? kPushWithin : kTransferWithin, run(exchange));
  exchange.child.reset();
  if (exchange.pushes() && !exchange.path.advertises && turn.was_last()) {
    const Result<void> collected = co_await repositories_.collect_garbage(exchange.name());
    if (!collected) {
      log::warn("a repository's garbage was not collected",
                {{"service", exchange.path.service}, {"error", collected.error().message}});
    }
  }
  co_return served;
}

// Makes sure that there is a repository, and starts git on it.
Async<Result<void>> Remote::prepare(Exchange& exchange) {
  const RepositoryName name = exchange.name();
  HOB_CO_TRY(const bool there, co_await repositories_.has(name));
  if (!there) {
    bool wanted = exchange.pushes();
    if (!wanted) {
      HOB_CO_TRY(const PushedService service,
                 co_await deployments_.find(name.account, name.service));
      wanted = service.exists;  // nothing was pushed yet: an empty clone
    }
    if (!wanted) co_return fail(Code::kNotFound, "there is no service {}", name.service);
    HOB_CO_CHECK(co_await repositories_.ensure(name));
  }
  if (exchange.pushes()) HOB_CO_CHECK(co_await repositories_.check_room(name));

  const http::Request& request = exchange.request;
  CgiStart start{
      .environment = git_environment(repositories_.hooks(), repositories_.push_bytes_max()),
      .has_hook = exchange.pushes() && !exchange.path.advertises};
  auto& environment = start.environment;
  environment["GIT_PROJECT_ROOT"] = (repositories_.directory() / name.account).string();
  environment["GIT_HTTP_EXPORT_ALL"] = "1";
  environment["PATH_INFO"] = fmt::format(
      "/{}.git/{}", name.service,
      exchange.path.advertises ? std::string_view("info/refs") : word(exchange.path.git));
  environment["QUERY_STRING"] = request.query;
  environment["REQUEST_METHOD"] = request.method;
  environment["REMOTE_USER"] = name.account;
  environment["REMOTE_ADDR"] = request.peer;
  environment["SERVER_PROTOCOL"] = "HTTP/1.1";
  environment["CONTENT_TYPE"] = request.headers.get("Content-Type");
  environment["GIT_PROTOCOL"] = request.headers.get("Git-Protocol");
  // git un-zips by itself.
  environment["HTTP_CONTENT_ENCODING"] = request.headers.get("Content-Encoding");
  if (request.body_size && *request.body_size > 0)
    environment["CONTENT_LENGTH"] = std::to_string(*request.body_size);
  const Executor executor = co_await asio::this_coro::executor;
  HOB_CO_TRY(exchange.child, CgiChild::start(executor, std::move(start)));
  co_return Result<void>();
}

Async<Result<void>> Remote::run(Exchange& exchange) {
  const std::vector<Result<void>> ended =
      co_await all(send_body(exchange), receive_answer(exchange), serve_hook(exchange));
  const int status = co_await exchange.child->wait();
  if (status != 0) {
    log::info("git ended with an error", {{"service", exchange.path.service},
                                          {"account", exchange.caller.account},
                                          {"status", status},
                                          {"errors", exchange.child->errors()}});
  }
  for (const Result<void>& each : ended) HOB_CO_CHECK(each);
  co_return Result<void>();
}

// The request's body to git's input. A git that reads no more has refused it: the rest is dropped,
// within a bound, so that its answer is read and not a broken connection.
Async<Result<void>> Remote::send_body(Exchange& exchange) {
  const auto until = steady_clock::now() + kTransferWithin;
  uint64_t dropped = 0;
  bool reads = true;
  Result<void> sent;
  for (;;) {
    Result<std::string> piece = co_await exchange.body.read();
    if (!piece) {
      exchange.peer_gone = true;
      sent = fail(piece.error());
      break;
    }
    if (piece->empty()) break;
    if (steady_clock::now() > until) {
      sent = fail(Code::kTimeout, "the transfer took longer than {} s",
                  kTransferWithin.count() / 1000);
      break;
    }
    if (reads)
      reads = (co_await exchange.child->write(std::move(*piece))).has_value();
    else if ((dropped += piece->size()) > kDroppedBytesMax)
      break;
  }
  exchange.child->end_input();
  exchange.body_ended.set();
  co_return sent;
}

Async<Result<void>> Remote::receive_answer(Exchange& exchange) {
  Result<void> passed = co_await pass_answer(exchange);
  if (!passed && !exchange.peer_gone) exchange.child->kill();  // nobody would read what it says
  co_return passed;
}

// git's answer to the client. It waits for the end of the body, since a connection is one
// coroutine's at a time. Once the client is gone the rest is read and dropped: the hook goes on.
Async<Result<void>> Remote::pass_answer(Exchange& exchange) {
  std::string early;
  std::optional<CgiHead> head;
  bool begun = false;
  Result<void> answered;
  for (;;) {
    HOB_CO_TRY(std::string piece, co_await exchange.child->read());
    if (piece.empty()) break;
    if (exchange.peer_gone) continue;
    if (!begun) {
      if (early.size() + piece.size() > kEarlyOutputBytesMax)
        co_return fail(Code::kLimit, "git said too much before it had read all");
      early += piece;
      if (!head) {
        HOB_CO_TRY(head, parse_cgi_head(early));
      }
      if (!head || !exchange.body_ended.is_set()) continue;
      begun = true;
      exchange.answered = true;
      answered = co_await exchange.responder.begin(head->status, head->headers, std::nullopt);
      if (answered) answered = co_await exchange.responder.write(early.substr(head->bytes));
    } else {
      answered = co_await exchange.responder.write(std::move(piece));
    }
    if (!answered) exchange.peer_gone = true;
  }
  co_await exchange.body_ended.wait();
  if (exchange.peer_gone) co_return answered;
  if (!begun) {
    if (!head)
      co_return fail(Code::kUnavailable, "git answered nothing: {}", exchange.child->errors());
    exchange.answered = true;
    HOB_CO_CHECK(co_await exchange.responder.begin(head->status, head->headers, std::nullopt));
    HOB_CO_CHECK(co_await exchange.responder.write(early.substr(head->bytes)));
  }
  co_return co_await exchange.responder.end();
}

// Waits for the hook's question, if one comes, and answers it.
Async<Result<void>> Remote::serve_hook(Exchange& exchange) {
  if (!exchange.pushes() || exchange.path.advertises) co_return Result<void>();
  std::string text;
  while (!is_whole_question(text)) {
    HOB_CO_TRY(std::string piece, co_await exchange.child->read_hook());
    if (piece.empty()) co_return Result<void>();  // nothing that the hook was asked for
    text += piece;
    if (text.size() > kHookTextBytesMax) break;
  }
  Result<PushQuestion> question = text.size() > kHookTextBytesMax
                                      ? fail(Code::kLimit, "the push changes too many refs at once")
                                      : parse_question(text);
  Result<void> taken = question ? co_await take_push(exchange, *question) : fail(question.error());
  std::string last(kAcceptLine);
  if (!taken) {
    last = say_line(fmt::format("refused: {}", taken.error().message)) + say_line(kNothingChanged) +
           std::string(kRefuseLine);
    log::info("a push was refused", {{"service", exchange.path.service},
                                     {"account", exchange.caller.account},
                                     {"reason", taken.error().message}});
  }
  // A hook that is gone has refused already.
  static_cast<void>(co_await exchange.child->write_hook(std::move(last)));
  co_return Result<void>();
}

Async<Result<void>> Remote::take_push(Exchange& exchange, const PushQuestion& question) {
  const RepositoryName name = exchange.name();
  HOB_CO_TRY(PushedService service, co_await deployments_.find(name.account, name.service));
  if (service.branch.empty()) {
    HOB_CO_TRY(service.branch, co_await repositories_.followed_branch(name));
  }
  const bool creates = !service.exists;
  const PushDecision decision =
      decide_push({.service = std::move(service), .updates = question.updates});
  if (!decision.refused.empty()) co_return fail(Code::kDenied, "{}", decision.refused);
  CgiChild* const child = exchange.child.get();
  const Say say = [child](std::string line) -> Async<> {
    static_cast<void>(co_await child->write_hook(say_line(line)));
  };
  for (const std::string& note : decision.notes) co_await say(note);
  if (!decision.deploys.empty()) {
    if (decision.begins) HOB_CO_CHECK(co_await repositories_.point_head(name, decision.deploys));
    HOB_CO_CHECK(co_await repositories_.keep(name, question, decision.commit));
    PushedDeployment deployment{.account = name.account,
                                .user = exchange.caller.user,
                                .service = name.service,
                                .branch = decision.deploys,
                                .commit = decision.commit,
                                .creates = creates};
    Result<void> deployed = co_await deployments_.deploy(std::move(deployment), say);
    const Result<void> forgotten = co_await repositories_.forget(name, decision.commit);
    if (!forgotten) log::warn("a pushed commit stays kept", {{"error", forgotten.error().message}});
    HOB_CO_CHECK(std::move(deployed));
  }
  co_return Result<void>();
}

}  // namespace hob::git
