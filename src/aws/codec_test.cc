#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "aws/apprunner/handler.h"
#include "aws/constraints.h"
#include "aws/ecr/handler.h"
#include "aws/sts/handler.h"
#include "aws/wire_error.h"
#include "base/testing_loop.h"

// What generated code makes of input: the constraint texts, the wrong types, both protocols.
namespace hob::aws {
namespace {

using namespace std::chrono_literals;

class Runner final : public apprunner::Handler {
 public:
  Async<Result<apprunner::CreateServiceResponse>> create_service(
      apprunner::CreateServiceRequest request, Caller) override {
    seen = std::move(request);
    co_return apprunner::invalid_state_exception("seen");
  }
  Async<Result<apprunner::TagResourceResponse>> tag_resource(apprunner::TagResourceRequest,
                                                             Caller) override {
    co_return apprunner::TagResourceResponse{};
  }
  Async<Result<apprunner::ListTagsForResourceResponse>> list_tags_for_resource(
      apprunner::ListTagsForResourceRequest, Caller) override {
    apprunner::ListTagsForResourceResponse response;
    response.tags = {{.key = "a\"\\\n\x01", .value = ""}, {.key = "b"}};
    co_return response;
  }
  Async<Result<apprunner::DescribeAutoScalingConfigurationResponse>>
  describe_auto_scaling_configuration(apprunner::DescribeAutoScalingConfigurationRequest,
                                      Caller) override {
    apprunner::AutoScalingConfiguration configuration;
    configuration.min_size = 0;
    configuration.latest = false;
    configuration.created_at = Instant(1'795'430'000'000ms);
    configuration.deleted_at = Instant(1'795'430'003'007ms);
    co_return apprunner::DescribeAutoScalingConfigurationResponse{.auto_scaling_configuration =
                                                                      configuration};
  }
  apprunner::CreateServiceRequest seen{};
};

class Tokens final : public sts::Handler {
 public:
  Async<Result<sts::AssumeRoleResponse>> assume_role(sts::AssumeRoleRequest request,
                                                     Caller) override {
    seen = std::move(request);
    sts::AssumeRoleResponse response;
    response.credentials = sts::Credentials{.access_key_id = "ASIA<&>",
                                            .secret_access_key = "s",
                                            .session_token = "t",
                                            .expiration = Instant(1'795'471'909'500ms)};
    co_return response;
  }
  sts::AssumeRoleRequest seen{};
};

// The answer, or "code: message".
std::string ask(Service& service, Call call) {
  std::string out;
  hob::testing::run_loop([&](Executor) -> Async<> {
    Caller caller{.account = "000000000001", .request_id = "id"};
    const Result<std::string> answer = co_await service.call(call, caller);
    out = answer ? *answer : answer.error().aws_code + ": " + answer.error().message;
  });
  return out;
}

std::string ask_runner(const std::string& operation, const std::string& body) {
  Runner runner;
  const auto service = apprunner::make_service(runner);
  return ask(*service, {.operation = operation, .body = body});
}

constexpr const char* kImage =
    R"("SourceConfiguration":{"ImageRepository":{"ImageIdentifier":"a:1","ImageRepositoryType":"ECR"}})";

TEST(JsonCodec, ChecksConstraintsInAwsWords) {
  struct Case {
    const char* name;
    std::string members;
    std::string want;
  };
  const std::string one = "InvalidRequestException: 1 validation error detected: ";
  for (
      const Case& c : std::vector<Case>{
          {"all is well", R"("ServiceName":"hello")", "InvalidStateException: seen"},
          {"unknown members are ignored", R"("ServiceName":"hello","New":{"a":[1]})",
           "InvalidStateException: seen"},
          {"null is absent", R"("ServiceName":"hello","Tags":null)", "InvalidStateException: seen"},
          {"missing", R"("ServiceName":null)",
           one +
               "Value null at 'serviceName' failed to satisfy constraint: Member must not be null"},
          {"the shortest name", R"("ServiceName":"abcd")", "InvalidStateException: seen"},
          {"the longest name", R"("ServiceName":")" + std::string(40, 'a') + "\"",
           "InvalidStateException: seen"},
          {"the pattern", R"("ServiceName":"-abcd")",
           one + "Value '-abcd' at 'serviceName' failed to satisfy constraint: Member must satisfy "
                 "regular expression "
                 "pattern: [A-Za-z0-9][A-Za-z0-9-_]{3,39}"},
          {"a nested path",
           R"("ServiceName":"hello","NetworkConfiguration":{"EgressConfiguration":{"EgressType":"X"}})",
           one + "Value 'X' at 'networkConfiguration.egressConfiguration.egressType' failed to "
                 "satisfy constraint: "
                 "Member must satisfy enum value set: [DEFAULT, VPC]"},
          {"in a list of structures",
           R"("ServiceName":"hello","Tags":[{"Key":"ok"},{"Key":"aws:x"}])",
           one + "Value 'aws:x' at 'tags.2.member.key' failed to satisfy constraint: Member must "
                 "satisfy regular "
                 "expression pattern: ^(?!aws:).+"},
          {"a number too low", R"("ServiceName":"hello","HealthCheckConfiguration":{"Interval":0})",
           one + "Value '0' at 'healthCheckConfiguration.interval' failed to satisfy constraint: "
                 "Member must have "
                 "value greater than or equal to 1"},
          {"sizes of the newer model",
           R"("ServiceName":"hello","InstanceConfiguration":{"Cpu":"0.25 vCPU","Memory":"512"})",
           "InvalidStateException: seen"},
          {"two at once",
           R"("ServiceName":"hello","InstanceConfiguration":{"Cpu":"333","Memory":"1 TB"})",
           "InvalidRequestException: 2 validation errors detected: Value '333' at "
           "'instanceConfiguration.cpu' failed "
           "to satisfy constraint: Member must satisfy regular expression pattern: "
           "256|512|1024|2048|4096|(0.25|0.5|1|2|4) vCPU; Value '1 TB' at "
           "'instanceConfiguration.memory' failed to "
           "satisfy constraint: Member must satisfy regular expression pattern: "
           "512|1024|2048|3072|4096|6144|8192|10240|12288|(0.5|1|2|3|4|6|8|10|12) GB"},
          {"a wrong type goes before", R"("ServiceName":"x","Tags":{})",
           "SerializationException: a structure found where a list was expected at 'tags'"},
          {"a fraction for an integer",
           R"("ServiceName":"hello","HealthCheckConfiguration":{"Interval":1.5})",
           "SerializationException: a number found where a whole number in range was expected at "
           "'healthCheckConfiguration.interval'"},
          {"an integer beyond 32 bits",
           R"("ServiceName":"hello","HealthCheckConfiguration":{"Interval":4294967297})",
           "SerializationException: a number found where a whole number in range was expected at "
           "'healthCheckConfiguration.interval'"},
          {"text for a boolean",
           R"("ServiceName":"hello","ObservabilityConfiguration":{"ObservabilityEnabled":"true"})",
           "SerializationException: a string found where a boolean was expected at "
           "'observabilityConfiguration.observabilityEnabled'"},
      }) {
    EXPECT_EQ(ask_runner("CreateService", "{" + c.members + "," + kImage + "}"), c.want) << c.name;
  }
}

TEST(JsonCodec, KeepsSecretsOutOfMessages) {
  const std::string body =
      std::string(R"({"ServiceName":"hello","SourceConfiguration":{"ImageRepository":{)") +
      R"("ImageIdentifier":"a:1","ImageRepositoryType":"ECR","ImageConfiguration":{)" +
      R"("RuntimeEnvironmentSecrets":{"PASSWORD":""}}}}})";
  EXPECT_EQ(ask_runner("CreateService", body),
            "InvalidRequestException: 1 validation error detected: Value at "
            "'sourceConfiguration.imageRepository.imageConfiguration.runtimeEnvironmentSecrets' "
            "failed to satisfy "
            "constraint: Map value must satisfy constraint: [Member must have length less than or "
            "equal to 2048, Member "
            "must have length greater than or equal to 1]");
}

TEST(JsonCodec, TellsScalarsInListsTogether) {
  EXPECT_EQ(
      ask_runner(
          "UntagResource",
          R"({"ResourceArn":"arn:aws:apprunner:us-east-1:000000000001:service/hello/1","TagKeys":["ok","","aws:b"]})"),
      "InvalidRequestException: 1 validation error detected: Value '[ok, , aws:b]' at 'tagKeys' "
      "failed to satisfy "
      "constraint: Member must satisfy constraint: [Member must have length less than or equal to "
      "128, Member "
      "must have length greater than or equal to 1, Member must satisfy regular expression "
      "pattern: "
      "^(?!aws:).+]");
}

TEST(JsonCodec, BoundsWhatItTells) {
  std::string tags;
  for (int i = 0; i < 100; ++i) tags += std::string(i == 0 ? "" : ",") + R"({"Key":""})";
  const std::string many = ask_runner(
      "CreateService", R"({"ServiceName":"hello","Tags":[)" + tags + "]," + kImage + "}");
  EXPECT_TRUE(many.starts_with("InvalidRequestException: 20 validation errors detected: ")) << many;
  const std::string long_value = ask_runner(
      "CreateService", R"({"ServiceName":")" + std::string(100'000, 'a') + "\"," + kImage + "}");
  EXPECT_LT(long_value.size(), 4 * kShownValueMax);
}

TEST(JsonCodec, WritesTimesNumbersAndEscapes) {
  constexpr const char* kArn =
      R"({"AutoScalingConfigurationArn":"arn:aws:apprunner:us-east-1:000000000001:autoscalingconfiguration/a"})";
  EXPECT_EQ(
      ask_runner("DescribeAutoScalingConfiguration", kArn),
      R"({"AutoScalingConfiguration":{"Latest":false,"MinSize":0,"CreatedAt":1795430000,"DeletedAt":1795430003.007}})");
  constexpr const char* kResource =
      R"({"ResourceArn":"arn:aws:apprunner:us-east-1:000000000001:service/hello/1"})";
  EXPECT_EQ(ask_runner("ListTagsForResource", kResource),
            R"({"Tags":[{"Key":"a\"\\\n\u0001","Value":""},{"Key":"b"}]})");
  EXPECT_EQ(
      ask_runner(
          "TagResource",
          R"({"ResourceArn":"arn:aws:apprunner:us-east-1:000000000001:service/hello/1","Tags":[]})"),
      "{}");
}

TEST(JsonCodec, RefusesWhatIsNotBuilt) {
  EXPECT_EQ(ask_runner("ListVpcConnectors", "{}"),
            "UnsupportedOperationException: Hob does not do apprunner:ListVpcConnectors yet; the "
            "README lists what it "
            "does.");
  EXPECT_EQ(ask_runner("Nothing", "{}"),
            "UnknownOperationException: The operation 'Nothing' does not exist here.");
}

TEST(Services, KnowTheirOperations) {
  Runner runner;
  EXPECT_EQ(apprunner::make_service(runner)->operations().size(), 37u);
  EXPECT_EQ(apprunner::make_service(runner)->model().target_prefix, "AppRunner");
  ecr::Handler registry;
  EXPECT_EQ(ecr::make_service(registry)->model().signing_name, "ecr");
  EXPECT_EQ(ecr::make_service(registry)->model().json_version, "1.1");
}

TEST(QueryCodec, ReadsNestedListsAndWritesXml) {
  Tokens tokens;
  const auto service = sts::make_service(tokens);
  const std::string answer =
      ask(*service, {.operation = "AssumeRole",
                     .form = {{"RoleArn", "arn:aws:iam::000000000001:role/x"},
                              {"RoleSessionName", "session"},
                              {"DurationSeconds", "900"},
                              {"Tags.member.10.Key", "last"},
                              {"Tags.member.10.Value", ""},
                              {"Tags.member.2.Key", "first"},
                              {"Tags.member.2.Value", "1"},
                              {"TransitiveTagKeys.member.1", "first"}}});
  EXPECT_EQ(answer,
            "<AssumeRoleResponse "
            "xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>"
            "<AccessKeyId>ASIA&lt;&amp;&gt;</AccessKeyId><SecretAccessKey>s</"
            "SecretAccessKey><SessionToken>t"
            "</SessionToken><Expiration>2026-11-23T22:11:49.500Z</Expiration></Credentials></"
            "AssumeRoleResult>"
            "<ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></AssumeRoleResponse>");
  EXPECT_EQ(tokens.seen.duration_seconds, 900);
  ASSERT_TRUE(tokens.seen.tags.has_value());
  ASSERT_EQ(tokens.seen.tags->size(), 2u);
  EXPECT_EQ(tokens.seen.tags->at(0).key, "first");
  EXPECT_EQ(tokens.seen.tags->at(1).key, "last");
  EXPECT_EQ(tokens.seen.transitive_tag_keys->at(0), "first");
}

TEST(QueryCodec, ChecksAsJsonDoes) {
  struct Case {
    const char* name;
    std::vector<std::pair<std::string, std::string>> form;
    const char* want;
  };
  Tokens tokens;
  const auto service = sts::make_service(tokens);
  for (const Case& c : std::vector<Case>{
           {"missing",
            {{"RoleArn", "arn:aws:iam::000000000001:role/x"}},
            "ValidationError: 1 validation error detected: Value null at 'roleSessionName' failed "
            "to satisfy constraint: "
            "Member must not be null"},
           {"no number",
            {{"RoleArn", "arn:aws:iam::000000000001:role/x"},
             {"RoleSessionName", "ab"},
             {"DurationSeconds", "x"}},
            "SerializationException: The value at 'durationSeconds' is not a whole number in "
            "range"},
           {"no UTF-8",
            {{"RoleArn", "\xff"}},
            "MalformedQueryString: The form holds bytes that are not UTF-8"},
           {"an empty part",
            {{"a..b", "x"}},
            "MalformedQueryString: The parameter name 'a..b' is malformed"},
           {"in a list",
            {{"RoleArn", "arn:aws:iam::000000000001:role/x"},
             {"RoleSessionName", "ab"},
             {"Tags.member.1.Value", "x"}},
            "ValidationError: 1 validation error detected: Value null at 'tags.1.member.key' "
            "failed to satisfy "
            "constraint: Member must not be null"},
       }) {
    EXPECT_EQ(ask(*service, {.operation = "AssumeRole", .form = c.form}), c.want) << c.name;
  }
  std::string deep = "a";
  for (int i = 0; i < 100; ++i) deep += ".a";
  EXPECT_TRUE(ask(*service, {.operation = "AssumeRole", .form = {{deep, "x"}}})
                  .starts_with("MalformedQueryString"));
}

TEST(WireErrors, HaveEachProtocolsShape) {
  Runner runner;
  const auto service = apprunner::make_service(runner);
  const ServiceModel& model = service->model();
  const auto json = [&](Error error) {
    const ErrorAnswer answer = encode_error(&model, Protocol::kJson, error, "id");
    return std::to_string(answer.status) + " " + answer.body;
  };
  EXPECT_EQ(json(apprunner::invalid_state_exception("a \"b\"").error()),
            R"(400 {"__type":"InvalidStateException","Message":"a \"b\""})");
  EXPECT_EQ(json(access_denied("arn", "a:B", "*")).substr(0, 34),
            R"(400 {"__type":"AccessDeniedExcepti)");
  // What went wrong inside is nobody's business outside.
  const std::string internal = json(fail(Code::kUnavailable, "/var/lib/hob is full").error());
  EXPECT_TRUE(internal.starts_with(R"(500 {"__type":"InternalServiceErrorException","Message":)"))
      << internal;
  EXPECT_EQ(internal.find("hob is full"), std::string::npos);
  // But that the machine lacks something is the user's to mend.
  EXPECT_NE(internal.find("disk space"), std::string::npos) << internal;
  EXPECT_EQ(json(fail(Code::kInternal, "x").error()).find("disk space"), std::string::npos);

  // What a header brought is repeated as valid JSON, whatever it was.
  EXPECT_EQ(json(unknown_operation("\xff\"")),
            "400 {\"__type\":\"UnknownOperationException\",\"message\":\"The operation "
            "'\xEF\xBF\xBD\\\"' does not exist "
            "here.\"}");

  Tokens tokens;
  const auto token_service = sts::make_service(tokens);
  const auto xml = [&](const ServiceModel* of, Error error) {
    const ErrorAnswer answer = encode_error(of, Protocol::kQuery, error, "id");
    return std::to_string(answer.status) + " " + answer.body;
  };
  EXPECT_EQ(xml(&token_service->model(), signature_mismatch()).substr(0, 149),
            "403 <ErrorResponse "
            "xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>"
            "<Code>SignatureDoesNotMatch</Code><Message>The request");
  EXPECT_EQ(xml(&token_service->model(), sts::malformed_policy_document_exception("<x>").error()),
            "400 <ErrorResponse "
            "xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>"
            "<Code>MalformedPolicyDocument</Code><Message>&lt;x&gt;</Message></"
            "Error><RequestId>id</RequestId>"
            "</ErrorResponse>");
  EXPECT_EQ(xml(nullptr, fail(Code::kInternal, "x").error()).substr(0, 79),
            "500 <ErrorResponse><Error><Type>Receiver</Type><Code>InternalFailure</Code><Mes");
}

}  // namespace
}  // namespace hob::aws
