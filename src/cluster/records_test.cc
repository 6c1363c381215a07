#include "cluster/records.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"

namespace hob::cluster {
namespace {

// What an earlier release wrote; "from_a_newer_version" is a field that this one does not know.
std::string sample(const std::string& name) {
  return read_file(std::filesystem::path(HOB_SOURCE_DIR) / "src/cluster/testdata/records" /
                       (name + "-0.1.json"),
                   100'000)
      .value();
}

template <class T>
void keeps_what_it_does_not_know(const T& record, const std::string& text) {
  EXPECT_NE(encode_over(record, text).find("from_a_newer_version"), std::string::npos);
}

TEST(Records, SamplesOfEarlierReleasesAreRead) {
  const auto service = decode_service(sample("service"));
  ASSERT_TRUE(service) << service.error().message;
  EXPECT_EQ(service->status, ServiceStatus::kActive);
  EXPECT_EQ(service->routing.certificates.at("shop.test"), "c1");
  ASSERT_EQ(service->deployments.size(), 1u);
  EXPECT_EQ(service->deployments[0].revision, 3);
  EXPECT_TRUE(service->deployments[0].kept_since);
  EXPECT_EQ(service->deployments[0].task.containers.at(0).environment.at("K"), "V");
  keeps_what_it_does_not_know(*service, sample("service"));
  const auto task = decode_task(sample("task"));
  ASSERT_TRUE(task) << task.error().message;
  EXPECT_EQ(task->status, TaskStatus::kRunning);
  EXPECT_TRUE(task->was_healthy);
  keeps_what_it_does_not_know(*task, sample("task"));
  const auto certificate = decode_certificate(sample("certificate"));
  ASSERT_TRUE(certificate) << certificate.error().message;
  EXPECT_EQ(certificate->staple, "AAAA");
  EXPECT_TRUE(certificate->staple_again_at);
  keeps_what_it_does_not_know(*certificate, sample("certificate"));
  const auto host = decode_host(sample("host"));
  ASSERT_TRUE(host) << host.error().message;
  EXPECT_EQ(host->memory_mib, 8192);
  const auto edge = decode_edge(sample("edge"));
  ASSERT_TRUE(edge) << edge.error().message;
  EXPECT_EQ(edge->zone, "us-east-1a");
  const auto challenge = decode_challenge(sample("challenge"));
  ASSERT_TRUE(challenge) << challenge.error().message;
  EXPECT_EQ(challenge->key_authorization, "t.k");
}

}  // namespace
}  // namespace hob::cluster
