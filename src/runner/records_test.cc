#include "runner/records.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "runner/arns.h"
#include "runner/keys.h"

namespace hob::runner {
namespace {

// What an earlier release wrote; "from_a_newer_version" is a field that this one does not know.
std::string sample(const std::string& name) {
  return read_file(std::filesystem::path(HOB_SOURCE_DIR) / "src/runner/testdata/records" /
                       (name + ".json"),
                   100'000)
      .value();
}

TEST(Records, SamplesOfEarlierReleasesAreRead) {
  const std::string text = sample("service-0.1");
  auto service = decode_service(text);
  ASSERT_TRUE(service) << service.error().message;
  EXPECT_EQ(service->name, "hello");
  EXPECT_EQ(service->status, ServiceStatus::kRunning);
  EXPECT_EQ(service->configuration.port, "80");
  EXPECT_EQ(service->configuration.environment.at("GREETING"), "hi");
  EXPECT_EQ(service->configuration.scaling.revision, 1);
  EXPECT_EQ(service->tags.at("hob:request-timeout"), "5m");
  service->status = ServiceStatus::kPaused;
  const std::string after = encode_over(*service, text);
  EXPECT_NE(after.find("from_a_newer_version"), std::string::npos);
  EXPECT_EQ(decode_service(after)->status, ServiceStatus::kPaused);

  const auto connection = decode_connection(sample("connection-0.1"));
  ASSERT_TRUE(connection) << connection.error().message;
  EXPECT_EQ(connection->status, ConnectionStatus::kAvailable);
  EXPECT_EQ(connection->credential, CredentialKind::kToken);
  EXPECT_NE(encode_over(*connection, sample("connection-0.1")).find("from_a_newer_version"),
            std::string::npos);
  const auto observability = decode_observability(sample("observability-0.1"));
  ASSERT_TRUE(observability) << observability.error().message;
  EXPECT_EQ(observability->vendor, "AWSXRAY");

  const auto operation = decode_operation(sample("operation-0.1"));
  ASSERT_TRUE(operation) << operation.error().message;
  EXPECT_EQ(operation->type, OperationType::kCreateService);
  EXPECT_EQ(operation->status, OperationStatus::kRollbackSucceeded);
  const auto scaling = decode_scaling(sample("autoscaling-0.1"));
  ASSERT_TRUE(scaling) << scaling.error().message;
  EXPECT_EQ(scaling->max_concurrency, 50);
  EXPECT_FALSE(scaling->deleted_at);
  const auto pointer = decode_pointer(sample("autoscaling-default-0.1"));
  ASSERT_TRUE(pointer) << pointer.error().message;
  EXPECT_EQ(pointer->scaling.name, "DefaultConfiguration");
  const auto revision = decode_revision(sample("revision-0.1"));
  ASSERT_TRUE(revision) << revision.error().message;
  EXPECT_EQ(revision->number, 3);
  EXPECT_EQ(revision->state, RevisionState::kFailed);
  EXPECT_EQ(revision->configuration.environment.at("GREETING"), "hi");
  const auto domain = decode_domain(sample("domain-0.1"));
  ASSERT_TRUE(domain) << domain.error().message;
  EXPECT_EQ(domain->status, DomainStatus::kPendingCertificateDnsValidation);
  EXPECT_TRUE(domain->proofs.at(0).seen);
  EXPECT_NE(encode_over(*domain, sample("domain-0.1")).find("from_a_newer_version"),
            std::string::npos);
  const auto given = decode_given_certificate(sample("certificate-0.1"));
  ASSERT_TRUE(given) << given.error().message;
  EXPECT_EQ(given->host_names, std::vector<std::string>{"*.shop.example"});
  EXPECT_TRUE(given->removed_at);
}

TEST(Records, AWordOfANewerVersionIsAnErrorThatNamesTheField) {
  const auto service = decode_service(R"({"status":"HIBERNATING"})");
  ASSERT_FALSE(service);
  EXPECT_NE(service.error().message.find("status"), std::string::npos) << service.error().message;
}

TEST(Keys, AreReadBack) {
  EXPECT_EQ(parse_service_key(kServicesPrefix, service_key("1", "id")),
            std::pair(std::string("1"), std::string("id")));
  EXPECT_EQ(parse_service_key(kOperationsPrefix, operation_key("1", "id", "op")),
            std::pair(std::string("1"), std::string("id")));
  EXPECT_FALSE(parse_service_key(kServicesPrefix, "/elsewhere/1/id"));
  EXPECT_FALSE(parse_service_key(kServicesPrefix, "/runner/services/1"));
}

TEST(Arns, AreMadeAndReadBack) {
  const Service service{.account = "000000000001",
                        .region = "us-east-1",
                        .id = std::string(32, 'a'),
                        .name = "hello"};
  const auto parsed = parse_arn(arn_of(service));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->name, "hello");
  EXPECT_EQ(parsed->id, service.id);
  const auto scaling =
      parse_arn(arn_of("us-east-1", "000000000001", {.name = "busy", .revision = 2, .id = "x"}));
  EXPECT_EQ(scaling->revision, 2);
  EXPECT_EQ(scaling->id, "x");
  EXPECT_EQ(parse_arn("arn:aws:apprunner:r:a:autoscalingconfiguration/busy")->revision,
            std::nullopt);
  for (const char* bad :
       {"", "arn", "arn:aws:ecs:r:a:service/n/i", "arn:aws:apprunner:r:a:service/n",
        "arn:aws:apprunner:r:a:service/n/i/x", "arn:aws:apprunner:r:a:service//i",
        "arn:aws:apprunner:r:a:autoscalingconfiguration/n/0",
        "arn:aws:apprunner:r:a:autoscalingconfiguration/n/1x",
        "arn:aws:apprunner:r:a:vpcconnector/n/i",
        "arn:aws:apprunner:r:a:autoscalingconfiguration/n/99999999999"}) {
    EXPECT_FALSE(parse_arn(bad)) << bad;
  }
}

}  // namespace
}  // namespace hob::runner
