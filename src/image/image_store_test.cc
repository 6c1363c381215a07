// Pulls from a small registry of the test's own, which logs in, redirects, breaks off, stalls and
// lies as it is told.
#include "image/image_store.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "base/http.h"
#include "image/content_digest.h"
#include "image/manifest.h"
#include "image/puller.h"
#include "image/testing_images.h"

namespace hob::image {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::tar;

// What it serves, and how badly.
struct FakeRegistry {
  std::map<std::string, std::string> manifests{};  // by reference
  std::map<std::string, std::string> blobs{};      // by digest
  bool wants_token = false;
  bool redirects = false;    // blobs are somewhere else, where an Authorization is an error
  std::string breaks_off{};  // this blob breaks off half-way, once
  std::string stalls{};      // this blob never comes
  int failures = 0;          // so many requests are answered 503
  std::map<std::string, int> asked{};  // by path
};

uint16_t port_of(const Fd& listener) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  EXPECT_EQ(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  return ntohs(address.sin_port);
}

class ImageStoreTest : public ::testing::Test {
 protected:
  ImageStoreTest() {
    std::string pattern = (fs::temp_directory_path() / "hob-images-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    auto listener = http::listen_tcp("127.0.0.1", 0);
    port_ = port_of(*listener);
    const auto handler = [this](const http::Request& request, http::BodyReader&,
                                http::Responder& responder) { return answer(request, responder); };
    server_ = std::make_unique<http::Server>(loop_.get_executor(), std::move(*listener), handler);
    server_->start();
    settings_.timeouts = {
        .transfer = {.connect = 2s, .stall = 300ms}, .retry_min = 1ms, .retry_max = 5ms};
    reopen();
  }
  ~ImageStoreTest() override {
    images_.reset();
    run(server_->stop(Duration(0)));
    server_.reset();
    pool_.join();
    fs::remove_all(directory_);
  }
  void reopen() {
    images_.reset();
    images_ = std::make_unique<ImageStore>(directory_ / "store", pool_, settings_);
    ASSERT_TRUE(run(images_->open()));
  }

  Async<> answer(const http::Request& request, http::Responder& responder) {
    ++registry_.asked[request.path];
    const auto give = [&](int status, std::string body, std::string type = "application/json") {
      http::Response response{.status = status, .body = std::move(body)};
      response.headers.set("Content-Type", std::move(type));
      return responder.respond(std::move(response));
    };
    const bool elsewhere = request.path.starts_with("/elsewhere/");
    const std::string authorization(request.headers.get("Authorization"));
    if (request.path == "/token") {
      const bool right = authorization == "Basic " + base64("me:pw") &&
                         request.query.find("scope=repository%3Aapp%3Apull") != std::string::npos;
      static_cast<void>(co_await give(right ? 200 : 401, right ? R"({"token":"abc"})" : "{}"));
      co_return;
    }
    if (registry_.wants_token && !elsewhere && authorization != "Bearer abc") {
      http::Response response{.status = 401};
      response.headers.set(
          "WWW-Authenticate",
          fmt::format(R"(Bearer realm="http://127.0.0.1:{}/token",service="s")", port_));
      static_cast<void>(co_await responder.respond(std::move(response)));
      co_return;
    }
    if (registry_.failures > 0) {
      --registry_.failures;
      static_cast<void>(co_await give(503, R"({"errors":[{"code":"BUSY","message":"later"}]})"));
      co_return;
    }
    const std::string name = request.path.substr(request.path.rfind('/') + 1);
    if (request.path.starts_with("/v2/app/manifests/")) {
      const auto found = registry_.manifests.find(name);
      if (found == registry_.manifests.end())
        static_cast<void>(co_await give(404, "{}"));
      else
        static_cast<void>(co_await give(200, found->second));
      co_return;
    }
    const auto found = registry_.blobs.find(name);
    if (found == registry_.blobs.end()) {
      static_cast<void>(co_await give(404, "{}"));
      co_return;
    }
    if (registry_.redirects && !elsewhere) {
      http::Response response{.status = 307};
      response.headers.set("Location",
                           fmt::format("http://localhost:{}/elsewhere/{}", port_, name));
      static_cast<void>(co_await responder.respond(std::move(response)));
      co_return;
    }
    if (elsewhere && !authorization.empty()) {
      static_cast<void>(co_await give(400, "{}"));
      co_return;
    }
    co_await send(request, responder, name, found->second);
  }

  Async<> send(const http::Request& request, http::Responder& responder, std::string name,
               std::string blob) {
    size_t from = 0;
    http::Headers headers;
    if (const std::string range(request.headers.get("Range")); range.starts_with("bytes=")) {
      from = std::stoul(range.substr(6));
      headers.set("Content-Range",
                  fmt::format("bytes {}-{}/{}", from, blob.size() - 1, blob.size()));
    }
    if (!co_await responder.begin(from > 0 ? 206 : 200, headers, blob.size() - from)) co_return;
    if (name == registry_.stalls) co_await sleep_for(10s);
    if (name == registry_.breaks_off) {
      registry_.breaks_off.clear();
      static_cast<void>(co_await responder.write(blob.substr(0, blob.size() / 2)));
      co_return;  // without end(): the connection closes
    }
    if (co_await responder.write(blob.substr(from))) static_cast<void>(co_await responder.end());
  }

  void serve(const testing::TestImage& image, const std::string& tag) {
    for (const std::string& layer : image.layers) registry_.blobs[digest_of(layer)] = layer;
    registry_.blobs[digest_of(image.config)] = image.config;
    registry_.manifests[tag] = image.manifest;
    registry_.manifests[digest_of(image.manifest)] = image.manifest;
  }
  PullRequest request(const std::string& reference) const {
    return {.registry = "127.0.0.1:" + std::to_string(port_),
            .plain_http = true,
            .repository = "app",
            .reference = reference};
  }
  Result<LocalImage> pull(const std::string& reference, const std::string& user = {}) {
    PullRequest wanted = request(reference);
    wanted.username = user;
    wanted.password = user.empty() ? "" : "pw";
    return run(images_->pull(std::move(wanted)));
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
  size_t count(const char* part) const {
    return static_cast<size_t>(
        std::distance(fs::directory_iterator(directory_ / "store" / part), {}));
  }

  boost::asio::io_context loop_{1};
  AsyncScope scope_{loop_.get_executor()};
  BlockingPool pool_{2};
  fs::path directory_;
  PullSettings settings_;
  FakeRegistry registry_;
  std::unique_ptr<http::Server> server_;
  std::unique_ptr<ImageStore> images_;
  uint16_t port_ = 0;
};

const testing::TestImage kImage = testing::make_image(
    {tar({{.name = "a", .data = std::string(300'000, 'a')}}), tar({{.name = "b", .data = "b"}}),
     tar({{.name = "a", .data = std::string(300'000, 'a')}}), tar({{.name = "c", .data = "c"}})});

TEST_F(ImageStoreTest, PullsOnceAndSharesLayers) {
  serve(kImage, "1");
  const auto image = pull("1");
  ASSERT_TRUE(image) << image.error().message;
  // The layer that comes twice is listed once, where it is uppermost.
  ASSERT_EQ(image->layers.size(), 3u);
  EXPECT_TRUE(fs::exists(image->layers[0] / "c"));
  EXPECT_TRUE(fs::exists(image->layers[1] / "a"));
  EXPECT_TRUE(fs::exists(image->layers[2] / "b"));
  for (const std::string& layer : kImage.layers)
    EXPECT_EQ(registry_.asked["/v2/app/blobs/" + digest_of(layer)], 1);
  ASSERT_TRUE(pull("1"));
  EXPECT_EQ(registry_.asked["/v2/app/blobs/" + digest_of(kImage.config)], 1);
  registry_ = {};
  EXPECT_TRUE(pull(digest_of(kImage.manifest)));
  EXPECT_TRUE(registry_.asked.empty());
  reopen();
  EXPECT_TRUE(pull(digest_of(kImage.manifest)));
  EXPECT_TRUE(registry_.asked.empty());
}

TEST_F(ImageStoreTest, ADigestThatIsHereIsShownOnlyToWhoPulledIt) {
  serve(kImage, "1");
  const std::string digest = digest_of(kImage.manifest);
  PullRequest first = request(digest);
  first.account = "1";
  ASSERT_TRUE(run(images_->pull(first)));
  PullRequest another = first;
  another.account = "2";
  PullRequest elsewhere = first;
  elsewhere.repository = "app2";
  registry_.manifests.clear();
  for (const PullRequest& asks : {another, elsewhere}) {
    registry_.asked.clear();
    EXPECT_EQ(run(images_->pull(asks)).error().code, Code::kNotFound);
    EXPECT_FALSE(registry_.asked.empty());
  }
  // Who may have it gets it by the manifest and the config: the layers are shared.
  serve(kImage, "1");
  registry_.asked.clear();
  EXPECT_TRUE(run(images_->pull(another)));
  EXPECT_EQ(registry_.asked["/v2/app/blobs/" + digest_of(kImage.layers[0])], 0);
  registry_ = {};
  EXPECT_TRUE(run(images_->pull(first)));
  EXPECT_TRUE(run(images_->pull(another)));
  EXPECT_TRUE(registry_.asked.empty());
}

TEST_F(ImageStoreTest, FollowsAnIndexATokenAndARedirect) {
  serve(kImage, "x");
  registry_.manifests["1"] = fmt::format(
      R"({{"schemaVersion":2,"mediaType":"{0}","manifests":[{{"mediaType":"{1}","digest":"{2}","size":1,)"
      R"("platform":{{"os":"linux","architecture":"arm64"}}}},{{"mediaType":"{1}","digest":"{3}","size":{4},)"
      R"("platform":{{"os":"linux","architecture":"amd64"}}}}]}})",
      kOciIndex, kOciManifest, digest_of("arm"), digest_of(kImage.manifest),
      kImage.manifest.size());
  registry_.wants_token = true;
  registry_.redirects = true;
  EXPECT_EQ(pull("1").error().code, Code::kDenied);
  const auto image = pull("1", "me");
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_EQ(image->digest, digest_of(kImage.manifest));
  const std::string index = digest_of(registry_.manifests["1"]);
  registry_ = {};
  const auto again = pull(index, "me");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->digest, image->digest);  // the index's digest names it, too
}

TEST_F(ImageStoreTest, GoesOnAfterFailures) {
  serve(kImage, "1");
  registry_.failures = 2;
  registry_.breaks_off = digest_of(kImage.layers[0]);
  const auto image = pull("1");
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_EQ(registry_.asked["/v2/app/blobs/" + digest_of(kImage.layers[0])], 2);
}

TEST_F(ImageStoreTest, OnePullForAllWhoAskAtOnce) {
  serve(kImage, "1");
  int pulled = 0;
  for (int i = 0; i < 5; ++i) {
    scope_.spawn("pull", [](ImageStore& images, PullRequest wanted, int& done) -> Async<> {
      const auto image = co_await images.pull(std::move(wanted));
      EXPECT_TRUE(image);
      ++done;
    }(*images_, request("1"), pulled));
  }
  loop_.restart();
  while (pulled < 5) loop_.run_one();
  EXPECT_EQ(registry_.asked["/v2/app/manifests/1"], 1);
}

TEST_F(ImageStoreTest, ACancelledPullLeavesItToTheNext) {
  serve(kImage, "1");
  registry_.stalls = digest_of(kImage.layers[3]);
  AsyncScope first(loop_.get_executor());
  first.spawn("first", [](ImageStore& images, PullRequest wanted) -> Async<> {
    static_cast<void>(co_await images.pull(std::move(wanted)));
    ADD_FAILURE() << "it was cancelled";
  }(*images_, request("1")));
  loop_.restart();
  while (registry_.asked["/v2/app/blobs/" + registry_.stalls] == 0) loop_.run_one();
  registry_.stalls.clear();
  std::optional<Result<LocalImage>> second;
  scope_.spawn("second",
               [](ImageStore& images, PullRequest wanted,
                  std::optional<Result<LocalImage>>& into) -> Async<> {
                 into.emplace(co_await images.pull(std::move(wanted)));
               }(*images_, request("1"), second));
  loop_.poll();
  first.cancel();
  run(first.join());
  loop_.restart();
  while (!second) loop_.run_one();
  ASSERT_TRUE(*second) << second->error().message;
  EXPECT_EQ(count("tmp"), 0u);
}

// Takes connections, and says nothing.
class SilentRegistry {
 public:
  SilentRegistry() : listener_(std::move(*http::listen_tcp("127.0.0.1", 0))) {}
  std::string name() const { return "127.0.0.1:" + std::to_string(port_of(listener_)); }
  // One more connection, if one comes within the time.
  bool take(std::chrono::milliseconds wait) {
    pollfd coming{.fd = listener_.get(), .events = POLLIN, .revents = 0};
    if (poll(&coming, 1, static_cast<int>(wait.count())) != 1) return false;
    taken_.emplace_back(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    return static_cast<bool>(taken_.back());
  }

 private:
  Fd listener_;
  std::vector<Fd> taken_;
};

TEST_F(ImageStoreTest, ARegistryThatStallsHoldsUpNoOther) {
  settings_.timeouts.transfer.stall = 10min;
  reopen();
  serve(kImage, "1");
  SilentRegistry silent;
  const auto stall = [&](AsyncScope& scope, size_t pulls, const std::string& tag) {
    for (size_t i = 0; i < pulls; ++i) {
      PullRequest wanted = request(tag + std::to_string(i));
      wanted.registry = silent.name();
      scope.spawn("stalls", [](ImageStore& images, PullRequest asked) -> Async<> {
        static_cast<void>(co_await images.pull(std::move(asked)));
        ADD_FAILURE() << "it was cancelled";
      }(*images_, std::move(wanted)));
    }
    loop_.restart();
    loop_.poll();
  };
  AsyncScope first(loop_.get_executor());
  AsyncScope second(loop_.get_executor());
  stall(first, kPullsPerRegistry, "first");
  for (size_t i = 0; i < kPullsPerRegistry; ++i) ASSERT_TRUE(silent.take(60s));
  stall(second, kPullsAtOnce, "second");
  const auto image = pull("1");
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_FALSE(silent.take(0s)) << "more than kPullsPerRegistry pull at once";

  // Those that waited have their turn when the first are gone; who never had one leaves, too.
  first.cancel();
  run(first.join());
  loop_.poll();
  for (size_t i = 0; i < kPullsPerRegistry; ++i) ASSERT_TRUE(silent.take(60s));
  second.cancel();
  run(second.join());
  EXPECT_FALSE(silent.take(0s));
  EXPECT_EQ(count("tmp"), 0u);
}

TEST_F(ImageStoreTest, MoreThanMayPullAtOnceAllGetTheirs) {
  serve(kImage, "0");
  constexpr size_t kPulls = 3 * kPullsPerRegistry;
  size_t pulled = 0;
  for (size_t i = 0; i < kPulls; ++i) {
    const std::string tag = std::to_string(i);
    registry_.manifests[tag] = kImage.manifest;
    scope_.spawn("pull", [](ImageStore& images, PullRequest wanted, size_t& done) -> Async<> {
      const auto image = co_await images.pull(std::move(wanted));
      EXPECT_TRUE(image) << image.error().message;
      ++done;
    }(*images_, request(tag), pulled));
  }
  loop_.restart();
  while (pulled < kPulls) loop_.run_one();
}

TEST_F(ImageStoreTest, LiesAndStallsAreErrorsAndLeaveNothing) {
  struct Case {
    const char* name;
    std::function<void(FakeRegistry&)> lie;
    Code code;
    const char* says;
  };
  const std::string top = digest_of(kImage.layers[3]);
  const testing::TestImage evil =
      testing::make_image({tar({{.name = "../../escaped", .data = "x"}})});
  testing::TestImage wrong_diff = kImage;
  const std::string first_diff = digest_of(tar({{.name = "b", .data = "b"}}));
  wrong_diff.config.replace(wrong_diff.config.find(first_diff), first_diff.size(),
                            digest_of("other"));
  const auto replace = [](std::string text, std::string_view what, std::string_view by) {
    return text.replace(text.find(what), what.size(), by);
  };
  wrong_diff.manifest =
      replace(kImage.manifest, digest_of(kImage.config), digest_of(wrong_diff.config));
  for (const Case& c : {
           Case{"another layer",
                [&](FakeRegistry& r) { r.blobs[top] = std::string(r.blobs[top].size(), 'x'); },
                Code::kCorrupt, "layer"},
           Case{"a longer layer", [&](FakeRegistry& r) { r.blobs[top] += "x"; }, Code::kCorrupt,
                "more than"},
           Case{"a shorter layer", [&](FakeRegistry& r) { r.blobs[top].pop_back(); },
                Code::kCorrupt, "of the"},
           Case{"no layer", [&](FakeRegistry& r) { r.blobs.erase(top); }, Code::kNotFound, "404"},
           Case{"a layer that never comes", [&](FakeRegistry& r) { r.stalls = top; },
                Code::kTimeout, "sent nothing"},
           Case{"another config",
                [&](FakeRegistry& r) { r.blobs[digest_of(kImage.config)].back() = ' '; },
                Code::kCorrupt, "digest"},
           Case{"another diff id",
                [&](FakeRegistry& r) {
                  r.blobs[digest_of(wrong_diff.config)] = wrong_diff.config;
                  r.manifests["1"] = wrong_diff.manifest;
                },
                Code::kCorrupt, "config says"},
           Case{"a manifest that is none", [&](FakeRegistry& r) { r.manifests["1"] = "[]"; },
                Code::kInvalid, "manifest"},
           Case{"a manifest of 5 MB",
                [&](FakeRegistry& r) { r.manifests["1"] = std::string(5 << 20, ' '); },
                Code::kLimit, "over"},
           Case{"busy for ever", [&](FakeRegistry& r) { r.failures = 1'000; }, Code::kUnavailable,
                "BUSY: later"},
           Case{"a layer that climbs out",
                [&](FakeRegistry& r) {
                  r.blobs[digest_of(evil.layers[0])] = evil.layers[0];
                  r.blobs[digest_of(evil.config)] = evil.config;
                  r.manifests["1"] = evil.manifest;
                },
                Code::kCorrupt, "'../../escaped'"},
       }) {
    registry_ = {};
    fs::remove_all(directory_ / "store");
    reopen();
    serve(kImage, "1");
    c.lie(registry_);
    const auto image = pull("1");
    ASSERT_FALSE(image) << c.name;
    EXPECT_EQ(image.error().code, c.code) << c.name << ": " << image.error().message;
    EXPECT_NE(image.error().message.find(c.says), std::string::npos)
        << c.name << ": " << image.error().message;
    EXPECT_EQ(count("tmp"), 0u) << c.name;
    EXPECT_EQ(count("images"), 0u) << c.name;
  }
  EXPECT_EQ(pull("2").error().code, Code::kNotFound);
  // Too long a label for any DNS to be asked; a name that DNS does not know is the same to us.
  PullRequest misspelt = request("1");
  misspelt.registry = std::string(70, 'a') + ".com:5000";
  const auto image = run(images_->pull(misspelt));
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().code, Code::kNotFound) << image.error().message;
  serve(kImage, digest_of("other"));
  EXPECT_EQ(pull(digest_of("other")).error().code, Code::kCorrupt);
  EXPECT_EQ(pull("../x").error().code, Code::kInvalid);
}

TEST_F(ImageStoreTest, PrunesWhatIsNotKept) {
  const testing::TestImage other =
      testing::make_image({tar({{.name = "b", .data = "b"}}), tar({{.name = "z"}})});
  serve(kImage, "1");
  serve(other, "2");
  ASSERT_TRUE(pull("1"));
  ASSERT_TRUE(pull("2"));
  EXPECT_EQ(count("layers/sha256"), 4u);  // one is shared
  ASSERT_TRUE(run(images_->prune({}, 1h)));
  EXPECT_EQ(count("layers/sha256"), 4u);
  ASSERT_TRUE(run(images_->prune({digest_of(other.manifest)}, Duration(0))));
  EXPECT_EQ(count("layers/sha256"), 2u);
  EXPECT_EQ(count("images"), 1u);
  registry_.asked.clear();
  EXPECT_TRUE(pull(digest_of(other.manifest)));
  EXPECT_TRUE(registry_.asked.empty());
  EXPECT_TRUE(pull("1"));  // comes back
}

TEST_F(ImageStoreTest, DamageIsPulledAnew) {
  serve(kImage, "1");
  ASSERT_TRUE(pull("1"));
  const std::string digest = digest_of(kImage.manifest);
  std::ofstream(directory_ / "store/images" / (std::string(digest_hex(digest)) + ".json"))
      << "{broken";
  ASSERT_TRUE(pull(digest));
  fs::create_directories(directory_ / "store/tmp/half/of/a/layer");
  reopen();
  EXPECT_EQ(count("tmp"), 0u);
  while (count("layers/durable") < 3)
    std::this_thread::yield();  // the pool still flushes and marks
  // After another boot, what was not marked as flushed is gone, and comes back.
  fs::remove_all(directory_ / "store/layers/durable");
  std::ofstream(directory_ / "store/layers/boot") << "another";
  reopen();
  EXPECT_EQ(count("layers/sha256"), 0u);
  EXPECT_TRUE(pull(digest));
}

}  // namespace
}  // namespace hob::image
