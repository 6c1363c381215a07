// The remote served on loopback, and a real git that clones from it and pushes to it.
#include "git/remote.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <fstream>

#include "base/digest.h"
#include "base/process.h"

namespace hob::git {
namespace {

namespace fs = std::filesystem;

constexpr Duration kCommandTimeout{60'000};
constexpr uint64_t kSmallPush = 4 * 1024 * 1024;  // over git's http.postBuffer, so chunked
const std::string kAccount = "000000000001";

// Notes what it is asked, and answers what the test wants.
class FakeDeployments final : public Deployments {
 public:
  Async<Result<PushedService>> find(std::string account, std::string service) override {
    if (account == kAccount && services.contains(service)) co_return services[service];
    co_return PushedService{};
  }
  Async<Result<void>> deploy(PushedDeployment push, Say say) override {
    co_await say("building " + push.branch);
    deployed.push_back(push);
    if (gate != nullptr) {
      begun->set();
      co_await gate->wait();
    }
    if (!failure.empty()) co_return fail(Code::kUnavailable, "{}", failure);
    services[push.service] = {.exists = true};
    co_await say("http://app.localhost");
    co_return Result<void>();
  }
  std::map<std::string, PushedService> services;
  std::vector<PushedDeployment> deployed;
  std::string failure;
  Event* begun = nullptr;
  Event* gate = nullptr;
};

class RemoteTest : public ::testing::Test {
 protected:
  RemoteTest() {
    signal(SIGPIPE, SIG_IGN);
    EXPECT_TRUE(run(repositories_.open()));
    auto listener = http::listen_tcp("127.0.0.1", 0);
    sockaddr_in address{};
    socklen_t size = sizeof address;
    EXPECT_EQ(getsockname(listener->get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    server_ = std::make_unique<http::Server>(loop_.get_executor(), std::move(*listener),
                                             remote_.handler());
    server_->start();
    work_ = directory_ / "work";
    git({"init", "-q", "-b", "main", work_.string()}, "/");
    commit("a", "first");
  }
  ~RemoteTest() override {
    run(server_->stop(Duration(0)));
    server_.reset();
    pool_.join();
    fs::remove_all(directory_);
  }

  static fs::path fresh_directory() {
    std::string pattern = (fs::temp_directory_path() / "hob-git-XXXXXX").string();
    return mkdtemp(pattern.data());
  }
  static Async<Result<RemoteCaller>> log_in(std::string user, std::string password) {
    if (user == "KEY" && password == "secret") co_return RemoteCaller{kAccount, user, true};
    if (user == "OTHER" && password == "secret") co_return RemoteCaller{"000000000002", user, true};
    if (user == "READER") co_return RemoteCaller{kAccount, user, false};
    co_return fail(Code::kDenied, "no such key, or another secret");
  }

  template <class T>
  T run(Async<T> work) {
    std::optional<T> value;
    scope_.spawn("test", [](Async<T> body, std::optional<T>& into) -> Async<> {
      into.emplace(co_await std::move(body));
    }(std::move(work), value));
    loop_.restart();
    while (!value) loop_.run_one();
    return std::move(*value);
  }
  void run(Async<> work) {
    bool done = false;
    scope_.spawn("test", [](Async<> body, bool& flag) -> Async<> {
      co_await std::move(body);
      flag = true;
    }(std::move(work), done));
    loop_.restart();
    while (!done) loop_.run_one();
  }

  Command git_command(std::vector<std::string> arguments, const std::string& in = {}) const {
    Command command{
        .argv = {"git", "-c", "user.name=t", "-c", "user.email=t@localhost"},
        .environment = std::map<std::string, std::string>{{"PATH", getenv("PATH")},
                                                          {"HOME", directory_.string()},
                                                          {"GIT_CONFIG_NOSYSTEM", "1"},
                                                          {"GIT_TERMINAL_PROMPT", "0"}}};
    command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
    command.directory = in.empty() ? work_.string() : in;
    return command;
  }
  Exit try_git(std::vector<std::string> arguments, const std::string& in = {}) {
    auto exit = run(hob::run(git_command(std::move(arguments), in), kCommandTimeout));
    EXPECT_TRUE(exit) << exit.error().message;
    return exit ? std::move(*exit) : Exit{.status = -1};
  }
  std::string git(std::vector<std::string> arguments, const std::string& in = {}) {
    const std::string what = arguments[0];
    Exit exit = try_git(std::move(arguments), in);
    EXPECT_EQ(exit.status, 0) << what << ": " << exit.errors;
    return exit.output + exit.errors;
  }
  void commit(const std::string& file, const std::string& content) {
    std::ofstream(work_ / file) << content;
    git({"add", "."});
    git({"commit", "-q", "-m", "change"});
  }
  std::string head() { return git({"rev-parse", "HEAD"}).substr(0, 40); }
  std::string url(const std::string& service, const std::string& login = "KEY:secret") const {
    return "http://" + login + "@127.0.0.1:" + std::to_string(port_) + "/git/" + service + ".git";
  }
  // What the remote says that its branch is at; empty: it has none.
  std::string remote_branch(const std::string& service, const std::string& branch) {
    return git({"ls-remote", url(service), "refs/heads/" + branch}).substr(0, 40);
  }
  // How many hidden refs, packs and other leavings of pushes there are.
  size_t leavings(const std::string& service) {
    size_t found = 0;
    const fs::path repository = repositories_.path_of({kAccount, service});
    for (const auto& entry : fs::directory_iterator(repository / "objects"))
      found += entry.path().filename().string().starts_with("tmp_") ? 1u : 0u;
    if (fs::exists(repository / "refs/hob/deploying")) {
      for ([[maybe_unused]] const auto& entry :
           fs::directory_iterator(repository / "refs/hob/deploying"))
        ++found;
    }
    return found;
  }

  boost::asio::io_context loop_{1};
  AsyncScope scope_{loop_.get_executor()};
  BlockingPool pool_{2};
  fs::path directory_ = fresh_directory();
  fs::path work_;
  Repositories repositories_{directory_ / "git", pool_, kSmallPush};
  FakeDeployments deployments_;
  Remote remote_{repositories_, deployments_, log_in};
  uint16_t port_ = 0;
  std::unique_ptr<http::Server> server_;
};

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(RemoteTest, FirstPushCreatesTheServiceAndACloneGivesItBack) {
  const std::string said = git({"push", url("shop"), "main"});
  EXPECT_TRUE(holds(said, "remote: building main")) << said;
  EXPECT_TRUE(holds(said, "remote: http://app.localhost")) << said;
  ASSERT_EQ(deployments_.deployed.size(), 1u);
  EXPECT_TRUE(deployments_.deployed[0].creates);
  EXPECT_EQ(deployments_.deployed[0].commit, head());
  EXPECT_EQ(deployments_.deployed[0].user, "KEY");
  EXPECT_EQ(remote_branch("shop", "main"), head());
  EXPECT_EQ(leavings("shop"), 0u);

  for (const char* version : {"0", "1", "2"}) {
    const std::string copy = (directory_ / "copy").string() + version;
    git({"-c", std::string("protocol.version=") + version, "clone", "-q", url("shop"), copy});
    EXPECT_EQ(git({"rev-parse", "HEAD"}, copy).substr(0, 40), head());
  }
  // One commit by its id, as a build fetches it.
  const fs::path bare = directory_ / "bare";
  git({"init", "-q", "--bare", bare.string()});
  git({"fetch", "-q", "--depth", "1", "--no-tags", url("shop", "READER:x"), head()}, bare);

  // The next one moves on, from a clone whose request is zipped because it has so much to say.
  const std::string copy = (directory_ / "copy2").string();
  for (int i = 0; i < 40; ++i) {
    git({"commit", "-q", "--allow-empty", "-m", "more"}, copy);
    git({"branch", "b" + std::to_string(i)}, copy);
  }
  commit("a", "second");
  git({"push", url("shop"), "main"});
  EXPECT_FALSE(deployments_.deployed.back().creates);
  git({"fetch", "-q", "origin"}, copy);
  EXPECT_EQ(git({"rev-parse", "origin/main"}, copy).substr(0, 40), head());
}

TEST_F(RemoteTest, OnlyTheAccountsOwnIsFound) {
  git({"push", "-q", url("shop"), "main"});
  const Exit wrong = try_git({"ls-remote", url("shop", "KEY:wrong")});
  EXPECT_EQ(wrong.status, 128);
  EXPECT_TRUE(holds(wrong.errors, "Authentication failed")) << wrong.errors;
  const Exit nobody =
      try_git({"ls-remote", "http://127.0.0.1:" + std::to_string(port_) + "/git/shop.git"});
  EXPECT_TRUE(holds(nobody.errors, "could not read Username")) << nobody.errors;
  const Exit other = try_git({"clone", "-q", url("shop", "OTHER:secret"), "copy"});
  EXPECT_TRUE(holds(other.errors, "not found")) << other.errors;
  const Exit reader = try_git({"push", url("shop", "READER:x"), "main:more"});
  EXPECT_TRUE(holds(reader.errors, "403")) << reader.errors;
  const Exit unknown = try_git({"ls-remote", url("nothere")});
  EXPECT_TRUE(holds(unknown.errors, "not found")) << unknown.errors;
  // A service that nothing was pushed to.
  deployments_.services["empty"] = {.exists = true};
  EXPECT_TRUE(
      holds(git({"clone", url("empty"), (directory_ / "empty").string()}), "empty repository"));
}

TEST_F(RemoteTest, AFailedDeploymentRefusesThePush) {
  git({"push", "-q", url("shop"), "main"});
  const std::string before = head();
  commit("a", "broken");
  deployments_.failure = "Failed to execute 'build' command.";
  const Exit refused = try_git({"push", url("shop"), "main"});
  EXPECT_EQ(refused.status, 1);
  EXPECT_TRUE(holds(refused.errors, "remote: refused: Failed to execute 'build' command."));
  EXPECT_TRUE(holds(refused.errors, "remote: nothing was changed")) << refused.errors;
  EXPECT_TRUE(holds(refused.errors, "[remote rejected] main -> main")) << refused.errors;
  EXPECT_EQ(remote_branch("shop", "main"), before);
  EXPECT_EQ(leavings("shop"), 0u);
  // The same push again, when it works.
  deployments_.failure.clear();
  git({"push", "-q", url("shop"), "main"});
  EXPECT_EQ(remote_branch("shop", "main"), head());
}

TEST_F(RemoteTest, AHistoryMayBeRewritten) {
  git({"push", "-q", url("shop"), "main"});
  git({"commit", "-q", "--amend", "-m", "another"});
  const Exit behind = try_git({"push", url("shop"), "main"});
  EXPECT_TRUE(holds(behind.errors, "rejected")) << behind.errors;  // by git itself, here
  EXPECT_EQ(deployments_.deployed.size(), 1u);
  git({"push", "-q", "--force", url("shop"), "main"});
  EXPECT_EQ(deployments_.deployed.back().commit, head());
  EXPECT_EQ(remote_branch("shop", "main"), head());
}

TEST_F(RemoteTest, OtherBranchesAndTagsAreKept) {
  git({"push", "-q", url("shop"), "main"});
  git({"tag", "-a", "-m", "one", "v1"});
  const std::string said = git({"push", url("shop"), "main:fix", "v1"});
  EXPECT_TRUE(holds(said, "branch fix is kept; the service follows main")) << said;
  EXPECT_EQ(deployments_.deployed.size(), 1u);
  EXPECT_EQ(remote_branch("shop", "fix"), head());
  git({"push", "-q", url("shop"), ":fix"});
  EXPECT_EQ(remote_branch("shop", "fix"), "");
  EXPECT_EQ(try_git({"push", url("shop"), ":main"}).status, 1);
  EXPECT_EQ(remote_branch("shop", "main"), head());
  for (const char* ref : {"refs/hob/x", "refs/notes/x"})
    EXPECT_EQ(try_git({"push", url("shop"), std::string("main:") + ref}).status, 1) << ref;
}

TEST_F(RemoteTest, APushHasALimit) {
  std::string noise;
  const auto fill = [&](size_t bytes, uint64_t seed) {
    noise.clear();
    while (noise.size() < bytes) {
      const Sha256 block = sha256(std::to_string(seed) + ":" + std::to_string(noise.size()));
      noise.append(reinterpret_cast<const char*>(block.data()), block.size());
    }
  };
  fill(3 * 1024 * 1024, 1);
  commit("big", noise);
  git({"push", "-q", url("shop"), "main"});
  const std::string before = head();
  fill(6 * 1024 * 1024, 2);
  commit("big", noise);
  const Exit refused = try_git({"push", url("shop"), "main"});
  EXPECT_NE(refused.status, 0);
  EXPECT_TRUE(holds(refused.errors, "pack exceeds maximum allowed size")) << refused.errors;
  EXPECT_EQ(remote_branch("shop", "main"), before);
  EXPECT_EQ(leavings("shop"), 0u);
}

TEST_F(RemoteTest, ObjectsThatLieAreRefused) {
  git({"push", "-q", url("shop"), "main"});
  const std::string blob = git({"rev-parse", "HEAD:a"}).substr(0, 40);
  // A tree with a path out of the tree: git makes it, a check refuses it.
  for (const std::string& name : {std::string(".."), std::string(".git")}) {
    Command make = git_command({"mktree"});
    make.input = "100644 blob " + blob + "\t" + name + "\n";
    const auto tree = run(hob::run(std::move(make), kCommandTimeout));
    ASSERT_TRUE(tree);
    const std::string bad =
        git({"commit-tree", "-m", "bad", tree->output.substr(0, 40)}).substr(0, 40);
    const Exit refused = try_git({"push", "--force", url("shop"), bad + ":refs/heads/main"});
    EXPECT_NE(refused.status, 0);
    EXPECT_TRUE(holds(refused.errors, "fsck error")) << refused.errors;
  }
  EXPECT_EQ(deployments_.deployed.size(), 1u);
}

TEST_F(RemoteTest, APusherWhoGoesAwayCancelsNothing) {
  Event begun(loop_.get_executor());
  Event gate(loop_.get_executor());
  deployments_.begun = &begun;
  deployments_.gate = &gate;
  AsyncScope pusher(loop_.get_executor());
  pusher.spawn("push", [command = git_command({"push", "-q", url("shop"), "main"})]() -> Async<> {
    static_cast<void>(co_await hob::run(command, kCommandTimeout));
  });
  run(begun.wait());
  pusher.cancel();  // kills git and its helpers
  run(pusher.join());
  gate.set();
  const std::string branch = (repositories_.path_of({kAccount, "shop"}) / "refs/heads/main");
  while (!fs::exists(branch)) loop_.run_one_for(std::chrono::milliseconds(20));
  deployments_.gate = nullptr;
  EXPECT_EQ(remote_branch("shop", "main"), head());
}

TEST_F(RemoteTest, NothingElseIsServed) {
  git({"push", "-q", url("shop"), "main"});
  const auto status_of = [&](const std::string& method, const std::string& target) {
    http::Request request{.method = method, .target = target};
    request.headers.set("Host", "127.0.0.1");
    request.headers.set("Authorization", "Basic " + base64("KEY:secret"));
    const auto answer = run(http::fetch({.host = "127.0.0.1", .port = port_}, std::move(request),
                                        "", kCommandTimeout, 1024 * 1024));
    EXPECT_TRUE(answer);
    return answer ? answer->status : 0;
  };
  EXPECT_EQ(status_of("GET", "/git/shop.git/info/refs?service=git-upload-pack"), 200);
  EXPECT_EQ(status_of("GET", "/git/shop.git/info/refs"), 404);
  EXPECT_EQ(status_of("GET", "/git/shop.git/config"), 404);
  EXPECT_EQ(status_of("GET", "/git/../hooks/pre-receive"), 404);
  EXPECT_EQ(status_of("GET", "/git/shop.git/info/refs?service=git-upload-archive"), 404);
  EXPECT_EQ(status_of("GET", "/git/a.git/info/refs?service=git-receive-pack"), 404);
}

}  // namespace
}  // namespace hob::git
