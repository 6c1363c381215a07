#include "api/endpoint.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <filesystem>
#include <map>
#include <string>

#include "aws/apprunner/handler.h"
#include "aws/ecr/handler.h"
#include "aws/sigv4.h"
#include "base/process.h"
#include "base/testing_loop.h"
#include "identity/sts.h"
#include "store/memory_store.h"

namespace hob::api {
namespace {

using namespace std::chrono_literals;

constexpr const char* kKeyId = "AKIAIOSFODNN7EXAMPLE";
constexpr const char* kSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
constexpr const char* kAccount = "000000000001";

// Keeps nothing; see testdata/clients.py.
class EchoRunner final : public aws::apprunner::Handler {
 public:
  Async<Result<aws::apprunner::CreateServiceResponse>> create_service(
      aws::apprunner::CreateServiceRequest request, aws::Caller caller) override {
    aws::apprunner::CreateServiceResponse response;
    response.operation_id = "operation";
    aws::apprunner::Service& service = response.service;
    service.service_name = request.service_name;
    service.service_id = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
    service.service_arn =
        "arn:aws:apprunner:" + caller.region + ":" + caller.account + ":service/hello/0f1e";
    service.created_at = Instant(1'795'435'200'125ms);
    service.updated_at = service.created_at;
    service.status = "OPERATION_IN_PROGRESS";
    service.source_configuration = request.source_configuration;
    service.health_check_configuration = request.health_check_configuration;
    co_return response;
  }
  Async<Result<aws::apprunner::DescribeServiceResponse>> describe_service(
      aws::apprunner::DescribeServiceRequest, aws::Caller) override {
    co_return aws::apprunner::resource_not_found_exception("no such service");
  }
  Async<Result<aws::apprunner::ListServicesResponse>> list_services(
      aws::apprunner::ListServicesRequest, aws::Caller) override {
    co_return fail(Code::kCorrupt, "/a/file is damaged");
  }
};

uint16_t port_of(const Fd& listener) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

// An endpoint on a port of its own, with one account.
class Running {
 public:
  explicit Running(Executor executor)
      : store_(store::make_memory_store(executor)),
        directory_(*store_, executor, clock_, random_),
        endpoint_(directory_, clock_, random_, metrics_, "us-east-1") {
    endpoint_.add(aws::apprunner::make_service(runner_));
    endpoint_.add(aws::ecr::make_service(registry_));
    endpoint_.add(aws::sts::make_service(sts_));
    Result<Fd> listener = http::listen_tcp("127.0.0.1", 0);
    EXPECT_TRUE(listener.has_value());
    port_ = port_of(*listener);
    server_.emplace(executor, std::move(*listener), endpoint_.handler());
  }
  Async<> start() {
    EXPECT_TRUE((co_await directory_.start()).has_value());
    const Result<void> made = co_await directory_.ensure_account(kAccount, "default", kKeyId,
                                                                 Secret<std::string>(kSecret));
    EXPECT_TRUE(made.has_value());
    server_->start();
  }
  Async<> stop() {
    co_await server_->stop(1s);
    co_await directory_.stop();
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  http::Endpoint address() const { return {.host = "127.0.0.1", .port = port_}; }
  Endpoint& endpoint() { return endpoint_; }

  std::map<std::string, std::string> environment() const {
    return {{"PATH", "/usr/bin:/bin"},
            {"HOME", "/nonexistent"},
            {"AWS_ACCESS_KEY_ID", kKeyId},
            {"AWS_SECRET_ACCESS_KEY", kSecret},
            {"AWS_DEFAULT_REGION", "us-east-1"},
            {"AWS_REGION", "us-east-1"},
            {"AWS_ENDPOINT_URL", url()},
            {"AWS_EC2_METADATA_DISABLED", "true"},
            {"AWS_PAGER", ""},
            {"LC_ALL", "C.UTF-8"}};
  }

  // A signed JSON call, whatever its body.
  Async<Result<http::Response>> call(std::string target, std::string body,
                                     std::string content_type = "") {
    http::Request request{.method = "POST", .target = "/", .path = "/"};
    request.headers.add("Host", "127.0.0.1:" + std::to_string(port_));
    request.headers.add("Content-Type",
                        content_type.empty() ? "application/x-amz-json-1.0" : content_type);
    if (!target.empty()) request.headers.add("X-Amz-Target", target);
    const aws::Credentials credentials{.access_key_id = kKeyId,
                                       .secret = Secret<std::string>(kSecret)};
    const std::string service = target.empty() ? "sts" : "apprunner";
    aws::sign(request, body, credentials, "us-east-1", service, clock_.now());
    co_return co_await http::fetch(address(), request, body, 10s, 1024 * 1024);
  }
  // An unsigned request.
  Async<Result<http::Response>> send(std::string method, std::string target, http::Headers headers,
                                     std::string body) {
    http::Request request{
        .method = std::move(method), .target = std::move(target), .headers = std::move(headers)};
    co_return co_await http::fetch(address(), request, body, 10s, 1024 * 1024);
  }

 private:
  SystemClock clock_;
  SystemRandom random_;
  Metrics metrics_;
  std::unique_ptr<store::Store> store_;
  identity::Directory directory_;
  EchoRunner runner_;
  aws::ecr::Handler registry_;
  identity::Sts sts_;
  Endpoint endpoint_;
  std::optional<http::Server> server_;
  uint16_t port_ = 0;
};

template <class F>
void with_endpoint(F body) {
  testing::run_loop([&](Executor executor) -> Async<> {
    Running running(executor);
    co_await running.start();
    co_await body(running);
    co_await running.stop();
  });
}

TEST(Endpoint, Boto3ParsesAllItAnswers) {
  with_endpoint([](Running& running) -> Async<> {
    Command command{.argv = {"/usr/bin/python3", HOB_SOURCE_DIR "/src/api/testdata/clients.py"},
                    .environment = running.environment()};
    const Result<Exit> exit = co_await run(std::move(command), 120s);
    EXPECT_TRUE(exit.has_value());
    if (exit) EXPECT_EQ(exit->status, 0) << exit->errors;
    if (exit) EXPECT_TRUE(exit->output.starts_with("ok ")) << exit->output;
  });
}

// A second boto3 where there is one: people bring newer clients than Debian's.
TEST(Endpoint, TheOtherPythonsBoto3DoesToo) {
  const auto found = run_blocking(
      {.argv = {"python3", "-c", "import boto3, sys; print(sys.executable, end='')"}}, 60s);
  if (!found || found->status != 0 || found->output == "/usr/bin/python3")
    GTEST_SKIP() << "no other python3 with boto3";
  with_endpoint([&](Running& running) -> Async<> {
    Command command{.argv = {found->output, HOB_SOURCE_DIR "/src/api/testdata/clients.py"},
                    .environment = running.environment()};
    const Result<Exit> exit = co_await run(std::move(command), 120s);
    EXPECT_TRUE(exit.has_value());
    if (exit) EXPECT_EQ(exit->status, 0) << exit->errors;
  });
}

TEST(Endpoint, TheAwsCommandWorks) {
  struct Case {
    std::vector<std::string> arguments;
    int status;
    const char* in_output;
    const char* in_errors;
  };
  const std::vector<Case> cases = {
      {{"sts", "get-caller-identity"}, 0, "\"Arn\": \"arn:aws:iam::000000000001:root\"", ""},
      {{"apprunner", "create-service", "--service-name", "hello", "--source-configuration",
        R"({"ImageRepository": {"ImageIdentifier": "127.0.0.1:4566/hello:1", "ImageRepositoryType": "ECR"}})"},
       0,
       "\"OperationId\": \"operation\"",
       ""},
      {{"apprunner", "list-services", "--max-results", "21"},
       254,
       "",
       "An error occurred (InvalidRequestException) when calling the ListServices operation: 1 "
       "validation error "
       "detected: Value '21' at 'maxResults' failed to satisfy constraint: Member must have value "
       "less than or equal "
       "to 20"},
      {{"ecr", "describe-repositories"},
       254,
       "",
       "An error occurred (UnsupportedOperationException) when calling the DescribeRepositories "
       "operation: Hob does "
       "not do ecr:DescribeRepositories yet; the README lists what it does."},
  };
  with_endpoint([&](Running& running) -> Async<> {
    for (const Case& c : cases) {
      Command command{.argv = {"/usr/bin/aws", "--endpoint-url", running.url()},
                      .environment = running.environment()};
      command.argv.insert(command.argv.end(), c.arguments.begin(), c.arguments.end());
      const Result<Exit> exit = co_await run(std::move(command), 120s);
      EXPECT_TRUE(exit.has_value());
      if (!exit) co_return;
      EXPECT_EQ(exit->status, c.status) << exit->errors;
      EXPECT_NE(exit->output.find(c.in_output), std::string::npos) << exit->output;
      EXPECT_NE(exit->errors.find(c.in_errors), std::string::npos) << exit->errors;
    }
  });
}

TEST(Endpoint, RefusesMalformedRequests) {
  struct Case {
    const char* name;
    std::string target;
    std::string body;
    std::string content_type;
    int status;
    const char* in_body;
  };
  const std::vector<Case> cases = {
      {"not JSON", "AppRunner.ListServices", "{", "", 400, R"("__type":"SerializationException")"},
      {"a list for a structure", "AppRunner.ListServices", "[]", "", 400,
       R"("__type":"SerializationException")"},
      {"a number for a string", "AppRunner.DescribeService", R"({"ServiceArn":1})", "", 400,
       "a number found where a string was expected at 'serviceArn'"},
      {"deep nesting", "AppRunner.ListServices", std::string(100, '[') + std::string(100, ']'), "",
       400, R"("__type":"SerializationException")"},
      {"bytes that are no UTF-8", "AppRunner.DescribeService", "{\"ServiceArn\":\"\xff\"}", "", 400,
       R"("__type":"SerializationException")"},
      {"an unknown operation", "AppRunner.Nothing", "{}", "", 400,
       R"("__type":"UnknownOperationException")"},
      {"no operation", "AppRunner", "{}", "", 400, R"("__type":"UnknownOperationException")"},
      {"another service's operation", "AmazonEC2ContainerRegistry_V20150921.ListImages", "{}", "",
       400, "Credential should be scoped to correct service."},
      {"an empty body", "AppRunner.DescribeService", "", "", 400, "Value null at 'serviceArn'"},
      {"a form without an action", "", "Version=2011-06-15", "application/x-www-form-urlencoded",
       400, "<Code>MissingAction</Code>"},
      {"a broken form", "", "Action=%zz", "application/x-www-form-urlencoded", 400,
       "<Code>MalformedQueryString</Code>"},
      {"a parameter name with an empty part", "", "Action=AssumeRole&A..b=1",
       "application/x-www-form-urlencoded", 400, "<Code>MalformedQueryString</Code>"},
      {"an unknown action", "", "Action=Nothing", "application/x-www-form-urlencoded", 400,
       "<Code>InvalidAction</Code>"},
  };
  with_endpoint([&](Running& running) -> Async<> {
    for (const Case& c : cases) {
      const Result<http::Response> response =
          co_await running.call(c.target, c.body, c.content_type);
      EXPECT_TRUE(response.has_value()) << c.name;
      if (!response) continue;
      EXPECT_EQ(response->status, c.status) << c.name;
      EXPECT_NE(response->body.find(c.in_body), std::string::npos)
          << c.name << ": " << response->body;
      EXPECT_EQ(response->headers.get("x-amzn-RequestId").size(), 36u) << c.name;
    }
  });
}

TEST(Endpoint, AnswersUnsignedRequestsInTheirProtocol) {
  with_endpoint([](Running& running) -> Async<> {
    http::Headers json;
    json.add("X-Amz-Target", "AppRunner.ListServices");
    json.add("Content-Type", "application/x-amz-json-1.0");
    Result<http::Response> response = co_await running.send("POST", "/", json, "{}");
    EXPECT_EQ(response->status, 400);
    EXPECT_EQ(
        response->body,
        R"({"__type":"MissingAuthenticationTokenException","message":"Missing Authentication Token"})");
    EXPECT_EQ(response->headers.get("content-type"), "application/x-amz-json-1.0");

    response =
        co_await running.send("GET", "/?Action=GetCallerIdentity&Version=2011-06-15", {}, "");
    EXPECT_EQ(response->status, 403);
    EXPECT_NE(response->body.find("<Code>MissingAuthenticationToken</Code>"), std::string::npos)
        << response->body;
    EXPECT_EQ(response->headers.get("content-type"), "text/xml");
  });
}

TEST(Endpoint, BoundsBodies) {
  with_endpoint([](Running& running) -> Async<> {
    const Result<http::Response> large =
        co_await running.call("AppRunner.ListServices", std::string(kBodyBytesMax + 1, ' '));
    if (large) EXPECT_EQ(large->status, 413);
    http::Headers headers;
    headers.add("X-Amz-Target", "AppRunner.ListServices");
    const Result<http::Response> unsigned_ =
        co_await running.send("POST", "/", headers, std::string(kUnsignedBodyBytesMax + 1, ' '));
    if (unsigned_) EXPECT_EQ(unsigned_->status, 413);
    // Nothing was left held by the two.
    const Result<http::Response> after = co_await running.call("AppRunner.DescribeService", "{}");
    EXPECT_EQ(after->status, 400);
  });
}

TEST(Endpoint, GivesMountedPathsToTheirHandlers) {
  with_endpoint([](Running& running) -> Async<> {
    running.endpoint().mount(
        "/v2",
        [](const http::Request& request, http::BodyReader&, http::Responder& responder) -> Async<> {
          const Result<void> sent =
              co_await responder.respond({.status = 401, .body = request.target});
          EXPECT_TRUE(sent.has_value());
        });
    for (const std::string target : {"/v2/", "/v2", "/v2/a/tags/list?n=1"}) {
      const Result<http::Response> response = co_await running.send("GET", target, {}, "");
      EXPECT_EQ(response->status, 401);
      EXPECT_EQ(response->body, target);
    }
    Result<http::Response> response = co_await running.send("GET", "/v2x", {}, "");
    EXPECT_EQ(response->status, 403);
    response = co_await running.send("GET", "/", {}, "");
    EXPECT_EQ(response->status, 200);
    EXPECT_TRUE(response->body.starts_with("This is Hob"));
  });
}

}  // namespace
}  // namespace hob::api
