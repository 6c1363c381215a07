// The registry served on loopback: a real skopeo pushes to it, the host's ImageStore pulls
// from it.
#include "image/registry.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <fstream>

#include "base/process.h"
#include "image/content_digest.h"
#include "image/image_store.h"
#include "image/manifest.h"
#include "image/puller.h"
#include "image/testing_images.h"
#include "store/memory_store.h"

namespace hob::image {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::tar;

constexpr Duration kCommandTimeout{60'000};
const std::string kAccount = "000000000001";

class RegistryTest : public ::testing::Test {
 protected:
  RegistryTest() {
    std::string pattern = (fs::temp_directory_path() / "hob-registry-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    open();
  }
  ~RegistryTest() override {
    run(server_->stop(Duration(0)));
    server_.reset();
    pool_.join();
    fs::remove_all(directory_);
  }

  void open() {
    blobs_ = std::make_unique<BlobStore>(directory_ / "registry", pool_);
    EXPECT_TRUE(run(blobs_->open()));
    repositories_ = std::make_unique<Repositories>(*store_, *blobs_, clock_, random_);
    auto listener = http::listen_tcp("127.0.0.1", 0);
    sockaddr_in address{};
    socklen_t size = sizeof address;
    EXPECT_EQ(getsockname(listener->get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    const auto check = [](std::string user, std::string password) -> Async<Result<RegistryCaller>> {
      if (user != "AWS" || !password.starts_with("secret"))
        co_return fail(Code::kDenied, "wrong password");
      co_return RegistryCaller{.account = kAccount, .may_push = password == "secret"};
    };
    registry_ = std::make_unique<Registry>(*repositories_, pool_, check, port_);
    server_ = std::make_unique<http::Server>(loop_.get_executor(), std::move(*listener),
                                             registry_->handler());
    server_->start();
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

  std::string host() const { return "127.0.0.1:" + std::to_string(port_); }
  // Runs it to its end; its output. A failure is the test's.
  std::string command(std::vector<std::string> argv) {
    const std::string name = argv[0] + " " + argv[1];
    const auto exit = run(hob::run({.argv = std::move(argv)}, kCommandTimeout));
    EXPECT_TRUE(exit) << name << ": " << exit.error().message;
    if (!exit) return {};
    EXPECT_EQ(exit->status, 0) << name << ": " << exit->errors;
    return exit->output;
  }
  void skopeo_push(const testing::TestImage& image, const std::string& name) {
    const fs::path layout = directory_ / "layout";
    fs::remove_all(layout);
    testing::write_layout(image, layout, "t");
    command({"skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false",
             "--dest-creds=AWS:secret", "oci:" + layout.string() + ":t",
             "docker://" + host() + "/" + name});
  }
  // One plain request.
  http::Response call(const std::string& method, const std::string& target, std::string body = {},
                      std::vector<std::pair<std::string, std::string>> headers = {},
                      const std::string& login = "AWS:secret") {
    http::Request request{.method = method, .target = target};
    request.headers.set("Host", host());
    if (!login.empty()) request.headers.set("Authorization", "Basic " + base64(login));
    for (const auto& [name, value] : headers) request.headers.set(name, value);
    auto response =
        run(http::fetch({"127.0.0.1", port_}, std::move(request), std::move(body), 10s, 8 << 20));
    EXPECT_TRUE(response) << method << " " << target << ": " << response.error().message;
    return response ? *response : http::Response{.status = 0};
  }
  // Pushes the documents of an image by plain requests; the manifest's answer.
  http::Response push(const testing::TestImage& image, const std::string& name,
                      const std::string& reference) {
    std::vector<std::string> blobs = image.layers;
    blobs.push_back(image.config);
    for (const std::string& blob : blobs) {
      EXPECT_EQ(
          call("POST", "/v2/" + name + "/blobs/uploads/?digest=" + digest_of(blob), blob).status,
          201);
    }
    return call("PUT", "/v2/" + name + "/manifests/" + reference, image.manifest,
                {{"Content-Type", std::string(kOciManifest)}});
  }
  Result<LocalImage> pull(ImageStore& images, const std::string& repository,
                          const std::string& reference, const std::string& password = "secret") {
    PullRequest request{.registry = host(),
                        .plain_http = true,
                        .repository = repository,
                        .reference = reference,
                        .username = "AWS",
                        .password = password};
    return run(images.pull(std::move(request)));
  }

  boost::asio::io_context loop_{1};
  AsyncScope scope_{loop_.get_executor()};
  BlockingPool pool_{2};
  SystemClock clock_;
  SystemRandom random_;
  fs::path directory_;
  std::unique_ptr<store::Store> store_ = store::make_memory_store(loop_.get_executor());
  std::unique_ptr<BlobStore> blobs_;
  std::unique_ptr<Repositories> repositories_;
  std::unique_ptr<Registry> registry_;
  std::unique_ptr<http::Server> server_;
  uint16_t port_ = 0;
};

testing::TestImage two_layers() {
  return testing::make_image(
      {tar({{.name = "bin/", .type = '5'}, {.name = "bin/hello", .data = "lower", .mode = 0755}}),
       tar({{.name = "etc/", .type = '5'},
            {.name = "etc/conf", .data = std::string(100'000, 'c')}})});
}

TEST_F(RegistryTest, SkopeoPushesAndAHostPulls) {
  const testing::TestImage image = two_layers();
  skopeo_push(image, "team/app:1");
  ImageStore images(directory_ / "host", pool_);
  ASSERT_TRUE(run(images.open()));
  const auto local = pull(images, "team/app", "1");
  ASSERT_TRUE(local) << local.error().message;
  EXPECT_EQ(local->digest, digest_of(image.manifest));
  EXPECT_EQ(local->config.entry_point, std::vector<std::string>{"/hello"});
  EXPECT_EQ(local->config.user, "7");
  ASSERT_EQ(local->layers.size(), 2u);
  EXPECT_TRUE(fs::exists(local->layers[0] / "etc/conf"));  // the top one first
  EXPECT_TRUE(fs::exists(local->layers[1] / "bin/hello"));

  EXPECT_NE(command({"skopeo", "list-tags", "--tls-verify=false", "--creds=AWS:secret",
                     "docker://" + host() + "/team/app"})
                .find("\"1\""),
            std::string::npos);
  command({"skopeo", "copy", "--insecure-policy", "--src-tls-verify=false",
           "--src-creds=AWS:secret", "docker://" + host() + "/team/app:1",
           "oci:" + (directory_ / "back").string() + ":1"});
  command({"skopeo", "copy", "--insecure-policy", "--src-tls-verify=false",
           "--dest-tls-verify=false", "--format=v2s2", "--src-creds=AWS:secret",
           "--dest-creds=AWS:secret", "docker://" + host() + "/team/app:1",
           "docker://" + host() + "/team/docker:1"});
  const auto docker = pull(images, "team/docker", "1");
  ASSERT_TRUE(docker) << docker.error().message;
  EXPECT_EQ(docker->layers, local->layers);  // shared
  EXPECT_NE(docker->digest, local->digest);
  command({"skopeo", "delete", "--tls-verify=false", "--creds=AWS:secret",
           "docker://" + host() + "/team/app:1"});
  EXPECT_EQ(pull(images, "team/app", "1").error().code, Code::kNotFound);
  // What is here whole needs no registry.
  EXPECT_TRUE(pull(images, "team/app", local->digest));
}

TEST_F(RegistryTest, LogsIn) {
  const auto refused = call("GET", "/v2/", {}, {}, "");
  EXPECT_EQ(refused.status, 401);
  EXPECT_NE(refused.headers.get("WWW-Authenticate").find("service=\"ecr.amazonaws.com\""),
            std::string_view::npos);
  EXPECT_EQ(call("GET", "/v2/", {}, {}, "AWS:wrong").status, 401);
  EXPECT_EQ(call("GET", "/v2/").status, 200);
  const std::string own = ".dkr.ecr.us-east-1.hob.localhost:" + std::to_string(port_);
  EXPECT_EQ(call("GET", "/v2/", {}, {{"Host", kAccount + own}}).status, 200);
  EXPECT_EQ(call("GET", "/v2/", {}, {{"Host", "000000000002" + own}}).status, 401);
  EXPECT_EQ(call("POST", "/v2/a/blobs/uploads/", {}, {}, "AWS:secret-to-pull").status, 403);
  ASSERT_EQ(push(two_layers(), "app", "1").status, 201);
  ImageStore images(directory_ / "host", pool_);
  ASSERT_TRUE(run(images.open()));
  EXPECT_EQ(pull(images, "app", "1", "wrong").error().code, Code::kDenied);
  EXPECT_EQ(pull(images, "none", "1").error().code, Code::kNotFound);
}

TEST_F(RegistryTest, UploadsInPiecesGoOnAfterARestart) {
  const std::string blob = std::string(5'000, 'a') + std::string(5'000, 'b');
  const std::string base = "/v2/app/blobs/uploads/";
  const std::string place(call("POST", base).headers.get("Location"));
  auto part = call("PATCH", place, blob.substr(0, 5'000), {{"Content-Range", "0-4999"}});
  EXPECT_EQ(part.status, 202);
  EXPECT_EQ(part.headers.get("Range"), "0-4999");
  part = call("PATCH", place, "gap", {{"Content-Range", "6000-6002"}});
  EXPECT_EQ(part.status, 416);
  EXPECT_EQ(part.headers.get("Range"), "0-4999");

  run(server_->stop(Duration(0)));
  open();
  EXPECT_EQ(call("GET", place).headers.get("Range"), "0-4999");
  EXPECT_EQ(call("PATCH", place, blob.substr(5'000), {{"Content-Range", "5000-9999"}}).status, 202);
  EXPECT_EQ(call("PUT", place + "?digest=" + digest_of(blob)).status, 201);
  EXPECT_EQ(call("GET", "/v2/app/blobs/" + digest_of(blob)).body, blob);
  const auto range =
      call("GET", "/v2/app/blobs/" + digest_of(blob), {}, {{"Range", "bytes=4999-5000"}});
  EXPECT_EQ(range.status, 206);
  EXPECT_EQ(range.body, "ab");
  EXPECT_EQ(range.headers.get("Content-Range"), "bytes 4999-5000/10000");
  EXPECT_EQ(call("GET", "/v2/app/blobs/" + digest_of(blob), {}, {{"Range", "bytes=10000-"}}).status,
            416);
  EXPECT_EQ(call("GET", place).status, 404);

  EXPECT_EQ(call("POST", "/v2/other/blobs/uploads/?from=app&mount=" + digest_of(blob)).status, 201);
  EXPECT_EQ(call("HEAD", "/v2/other/blobs/" + digest_of(blob)).headers.get("Content-Length"),
            "10000");
  EXPECT_EQ(call("POST", "/v2/other/blobs/uploads/?from=app&mount=" + digest_of("x")).status, 202);
  const std::string wrong(call("POST", base).headers.get("Location"));
  EXPECT_NE(call("PUT", wrong + "?digest=" + digest_of("x"), "y").body.find("DIGEST_INVALID"),
            std::string::npos);
  const std::string cancelled(call("POST", base).headers.get("Location"));
  EXPECT_EQ(call("DELETE", cancelled).status, 204);
  EXPECT_EQ(call("GET", cancelled).status, 404);
}

TEST_F(RegistryTest, ManifestsAreChecked) {
  const testing::TestImage image = two_layers();
  struct Case {
    const char* name;
    std::string reference;
    std::string manifest;
    int status;
    const char* code;
  };
  ASSERT_EQ(push(image, "app", "1").status, 201);
  for (const Case& c : {
           Case{"not JSON", "x", "{", 400, "MANIFEST_INVALID"},
           Case{"another digest", digest_of("x"), image.manifest, 400, "DIGEST_INVALID"},
           Case{"a blob that is not there", "x",
                testing::make_image({tar({{.name = "new"}})}).manifest, 404,
                "MANIFEST_BLOB_UNKNOWN"},
           Case{"no reference", "-", image.manifest, 400, "TAG_INVALID"},
           Case{"too large", "x", std::string((4 << 20) + 1, ' '), 413, "SIZE_INVALID"},
       }) {
    const auto answer = call("PUT", "/v2/app/manifests/" + c.reference, c.manifest,
                             {{"Content-Type", std::string(kOciManifest)}});
    EXPECT_EQ(answer.status, c.status) << c.name << answer.body;
    EXPECT_NE(answer.body.find(c.code), std::string::npos) << c.name << answer.body;
  }
  EXPECT_EQ(call("DELETE", "/v2/app/blobs/" + digest_of(image.config)).status, 409);
  EXPECT_EQ(call("GET", "/v2/app/manifests/2").status, 404);
  EXPECT_EQ(call("GET", "/v2/App/manifests/2").status, 400);
}

TEST_F(RegistryTest, TagsReferrersAndDeletes) {
  const testing::TestImage image = two_layers();
  for (const char* tag : {"b", "a", "c"}) ASSERT_EQ(push(image, "app", tag).status, 201);
  const auto page = call("GET", "/v2/app/tags/list?n=2");
  EXPECT_EQ(page.body, R"({"name":"app","tags":["a","b"]})");
  EXPECT_EQ(page.headers.get("Link"), R"(</v2/app/tags/list?n=2&last=b>; rel="next")");
  EXPECT_EQ(call("GET", "/v2/app/tags/list?n=2&last=b").body, R"({"name":"app","tags":["c"]})");
  EXPECT_EQ(call("GET", "/v2/_catalog").body, R"({"repositories":["app"]})");

  const std::string subject = digest_of(image.manifest);
  testing::TestImage signature = image;
  signature.manifest.insert(
      1, fmt::format(
             R"("artifactType":"x/sig","subject":{{"mediaType":"{}","digest":"{}","size":{}}},)",
             kOciManifest, subject, image.manifest.size()));
  const auto signed_it = push(signature, "app", digest_of(signature.manifest));
  EXPECT_EQ(signed_it.status, 201) << signed_it.body;
  EXPECT_EQ(signed_it.headers.get("OCI-Subject"), subject);
  const auto found = call("GET", "/v2/app/referrers/" + subject + "?artifactType=x%2Fsig");
  EXPECT_NE(found.body.find(digest_of(signature.manifest)), std::string::npos);
  EXPECT_EQ(found.headers.get("OCI-Filters-Applied"), "artifactType");
  EXPECT_NE(
      call("GET", "/v2/app/referrers/" + subject + "?artifactType=y").body.find("\"manifests\":[]"),
      std::string::npos);

  EXPECT_EQ(call("DELETE", "/v2/app/manifests/a").status, 202);
  EXPECT_EQ(call("GET", "/v2/app/manifests/b").status, 200);
  EXPECT_EQ(call("DELETE", "/v2/app/manifests/" + subject).status, 202);
  EXPECT_EQ(call("GET", "/v2/app/manifests/b").status, 404);
}

TEST_F(RegistryTest, ImmutableTagsStay) {
  RepositorySettings settings{.immutable_tags = true};
  ASSERT_TRUE(run(repositories_->create(kAccount, "fixed", settings)));
  ASSERT_EQ(push(two_layers(), "fixed", "1").status, 201);
  EXPECT_EQ(push(two_layers(), "fixed", "1").status, 201);  // the same again
  const auto other = push(testing::make_image({tar({{.name = "other"}})}), "fixed", "1");
  EXPECT_EQ(other.status, 400);
  EXPECT_NE(other.body.find("TAG_INVALID"), std::string::npos);
}

TEST_F(RegistryTest, GarbageGoesAndTheRestStays) {
  ASSERT_EQ(push(two_layers(), "app", "1").status, 201);
  const std::string orphan = "orphan";
  ASSERT_EQ(call("POST", "/v2/app/blobs/uploads/?digest=" + digest_of(orphan), orphan).status, 201);
  EXPECT_EQ(*run(repositories_->collect_garbage()), 0u);  // young: a push may be on its way
  ASSERT_TRUE(run(repositories_->remove(kAccount, "app", Repositories::Force::kYes)));
  for (const auto& entry : fs::directory_iterator(directory_ / "registry/blobs/sha256")) {
    fs::last_write_time(entry.path(), fs::file_time_type::clock::now() - 25h);
  }
  EXPECT_EQ(*run(repositories_->collect_garbage()), 5u);  // two layers, config, manifest, orphan
  EXPECT_TRUE(fs::is_empty(directory_ / "registry/blobs/sha256"));
}

}  // namespace
}  // namespace hob::image
