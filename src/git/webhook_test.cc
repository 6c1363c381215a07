// Deliveries as each provider documents them, signed, forged, repeated and broken.
#include "git/webhook.h"

#include <gtest/gtest.h>

#include "base/digest.h"

namespace hob::git {
namespace {

using namespace std::chrono_literals;
constexpr Instant t0{1'795'430'000s};
const std::string kSecret = "It's a Secret to Everybody";
const std::vector<Secret<std::string>> kSecrets = {Secret<std::string>(kSecret)};
using Pairs = std::vector<std::pair<std::string, std::string>>;

http::Headers headers(const Pairs& pairs) {
  http::Headers all;
  for (const auto& [name, value] : pairs) all.add(name, value);
  return all;
}

std::string mac(const std::string& body, const std::string& secret = kSecret) {
  return hex(hmac_sha256(secret, body));
}

Pairs standard_webhook(const std::string& body, const std::string& key, Instant at) {
  const std::string seconds = std::to_string(at.time_since_epoch() / 1s);
  const Sha256 signature = hmac_sha256(key, "msg1." + seconds + "." + body);
  return {{"X-Gitlab-Event", "Push Hook"},
          {"webhook-id", "msg1"},
          {"webhook-timestamp", seconds},
          {"webhook-signature",
           "v1,AAAA v1," +
               base64({reinterpret_cast<const char*>(signature.data()), signature.size()})}};
}

TEST(Webhook, GithubsOwnExampleVerifies) {
  // From GitHub's documentation of validating deliveries.
  const auto delivery = verify_delivery(
      headers({{"X-GitHub-Event", "push"},
               {"X-GitHub-Delivery", "1"},
               {"X-Hub-Signature-256",
                "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}}),
      "Hello, World!", kSecrets, t0);
  ASSERT_TRUE(delivery) << delivery.error().message;
  EXPECT_EQ(delivery->provider, Provider::kGithub);
}

TEST(Webhook, EachProvidersSignature) {
  const std::string body = R"({"ref":"refs/heads/main","after":"abc"})";
  struct Case {
    const char* name;
    Pairs fields;
    const char* want;  // the id, or why not
  };
  const std::string right = mac(body);
  const std::string wrong = mac(body, "another secret");
  for (const Case& c : std::vector<Case>{
           {"github",
            {{"X-GitHub-Event", "push"},
             {"X-GitHub-Delivery", "d1"},
             {"X-Hub-Signature-256", "sha256=" + right}},
            "d1"},
           {"github forged",
            {{"X-GitHub-Event", "push"},
             {"X-GitHub-Delivery", "d1"},
             {"X-Hub-Signature-256", "sha256=" + wrong}},
            "denied"},
           {"github unsigned", {{"X-GitHub-Event", "push"}, {"X-GitHub-Delivery", "d1"}}, "denied"},
           {"github with SHA-1 alone",
            {{"X-GitHub-Event", "push"},
             {"X-GitHub-Delivery", "d1"},
             {"X-Hub-Signature", "sha1=" + right}},
            "denied"},
           {"github without prefix",
            {{"X-GitHub-Event", "push"},
             {"X-GitHub-Delivery", "d1"},
             {"X-Hub-Signature-256", right}},
            "denied"},
           {"github without id",
            {{"X-GitHub-Event", "push"}, {"X-Hub-Signature-256", "sha256=" + right}},
            "invalid"},
           {"gitlab's token",
            {{"X-Gitlab-Event", "Push Hook"},
             {"X-Gitlab-Token", kSecret},
             {"X-Gitlab-Event-UUID", "d2"}},
            "d2"},
           {"gitlab's token, wrong",
            {{"X-Gitlab-Event", "Push Hook"},
             {"X-Gitlab-Token", "x"},
             {"X-Gitlab-Event-UUID", "d2"}},
            "denied"},
           {"gitlab without",
            {{"X-Gitlab-Event", "Push Hook"}, {"X-Gitlab-Event-UUID", "d2"}},
            "denied"},
           {"gitlab's signature", standard_webhook(body, kSecret, t0), "msg1"},
           {"of five minutes ago", standard_webhook(body, kSecret, t0 - 5min), "msg1"},
           {"of longer ago", standard_webhook(body, kSecret, t0 - 5min - 1s), "denied"},
           {"of the future", standard_webhook(body, kSecret, t0 + 6min), "denied"},
           {"gitlab's signature, wrong", standard_webhook(body, "x", t0), "denied"},
           {"gitea",
            {{"X-Gitea-Event", "push"},
             {"X-GitHub-Event", "push"},
             {"X-Gitea-Delivery", "d3"},
             {"X-Gitea-Signature", right}},
            "d3"},
           {"gitea with github's alone",
            {{"X-Gitea-Event", "push"},
             {"X-GitHub-Event", "push"},
             {"X-GitHub-Delivery", "d3"},
             {"X-Hub-Signature-256", "sha256=" + wrong}},
            "denied"},
           {"forgejo",
            {{"X-Forgejo-Event", "push"},
             {"X-Gitea-Event", "push"},
             {"X-Forgejo-Delivery", "d4"},
             {"X-Forgejo-Signature", right}},
            "d4"},
           {"forgejo's must be right",
            {{"X-Forgejo-Event", "push"},
             {"X-Gitea-Signature", right},
             {"X-Forgejo-Delivery", "d4"},
             {"X-Forgejo-Signature", wrong}},
            "denied"},
           {"bitbucket",
            {{"X-Event-Key", "repo:push"},
             {"X-Request-UUID", "d5"},
             {"X-Hub-Signature", "sha256=" + right}},
            "d5"},
           {"bitbucket data center",
            {{"X-Event-Key", "repo:refs_changed"},
             {"X-Request-Id", "d6"},
             {"X-Hub-Signature", "sha256=" + right}},
            "d6"},
           {"bitbucket's hook id is no secret",
            {{"X-Event-Key", "repo:push"}, {"X-Request-UUID", "d5"}, {"X-Hook-UUID", kSecret}},
            "denied"},
           {"nobody's", {{"X-Hub-Signature-256", "sha256=" + right}}, "invalid"},
       }) {
    const auto delivery = verify_delivery(headers(c.fields), body, kSecrets, t0);
    EXPECT_EQ(delivery ? delivery->id : std::string(word(delivery.error().code)), c.want) << c.name;
    EXPECT_FALSE(verify_delivery(headers(c.fields), body + " ", kSecrets, t0) &&
                 c.fields[0].first != "X-Gitlab-Event")
        << c.name << ", changed";
    EXPECT_FALSE(verify_delivery(headers(c.fields), body, {}, t0)) << c.name << ", no secret";
    EXPECT_FALSE(verify_delivery(headers(c.fields), body, {Secret<std::string>()}, t0)) << c.name;
  }
}

TEST(Webhook, TwoSecretsWhileOneIsReplaced) {
  const std::string body = "{}";
  const std::vector<Secret<std::string>> both = {Secret<std::string>("old"),
                                                 Secret<std::string>("new")};
  for (const char* secret : {"old", "new"}) {
    EXPECT_TRUE(verify_delivery(headers({{"X-GitHub-Event", "ping"},
                                         {"X-GitHub-Delivery", "d"},
                                         {"X-Hub-Signature-256", "sha256=" + mac(body, secret)}}),
                                body, both, t0));
  }
  // A Standard Webhooks secret names its key in base64.
  const std::vector<Secret<std::string>> encoded = {
      Secret<std::string>("whsec_" + base64("the key"))};
  EXPECT_TRUE(verify_delivery(headers(standard_webhook(body, "the key", t0)), body, encoded, t0));
}

std::string show(const Result<Hint>& hint) {
  if (!hint) return "invalid";
  std::string text = hint->any ? "any " : "";
  for (const HintedBranch& branch : hint->branches)
    text += (branch.deleted ? "-" : "+") + branch.name + " ";
  return text;
}

TEST(Webhook, SpeaksOfBranches) {
  const std::string zeros(40, '0');
  struct Case {
    const char* name;
    const char* event;
    std::string body;
    const char* want;
  };
  for (const Case& c : std::vector<Case>{
           {"a push", "push", R"({"ref":"refs/heads/a/b","after":"1","deleted":false})", "+a/b "},
           {"a deletion", "push", R"({"ref":"refs/heads/x","deleted":true})", "-x "},
           {"by zeros", "Push Hook", R"({"ref":"refs/heads/x","after":")" + zeros + "\"}", "-x "},
           {"github's delete", "delete", R"({"ref":"x","ref_type":"branch"})", "-x "},
           {"of a tag", "delete", R"({"ref":"x","ref_type":"tag"})", ""},
           {"a pushed tag", "push", R"({"ref":"refs/tags/v1","after":"1"})", ""},
           {"a ping", "ping", "no JSON", ""},
           {"bitbucket, several", "repo:push",
            R"({"push":{"changes":[{"new":{"type":"branch","name":"a"},"old":null},
                {"new":null,"old":{"type":"branch","name":"b"}},{"new":{"type":"tag","name":"t"}}]}})",
            "+a -b "},
           {"data center", "repo:refs_changed",
            R"({"changes":[{"ref":{"id":"refs/heads/a"},"type":"UPDATE"},
                {"ref":{"id":"refs/heads/b"},"type":"DELETE"}]})",
            "+a -b "},
           {"a name that is none", "push", R"({"ref":"refs/heads/--output=x"})", ""},
           {"another type", "push", R"({"ref":["refs/heads/x"]})", ""},
           {"no JSON", "push", "ref=refs/heads/x", "invalid"},
           {"no object", "push", "[]", "invalid"},
           {"too deep", "push", std::string(50, '[') + std::string(50, ']'), "invalid"},
           {"too large to look at", "push", std::string(kParsedDeliveryBytesMax + 1, ' '), "any "},
       }) {
    EXPECT_EQ(show(read_delivery({.event = c.event}, c.body)), c.want) << c.name;
  }
  std::string many = R"({"changes":[)";
  for (size_t i = 0; i <= kHintedBranchesMax; ++i)
    many += R"({"ref":{"id":"refs/heads/b)" + std::to_string(i) + R"("},"type":"ADD"},)";
  many.back() = ']';
  const auto hint = read_delivery({.event = "repo:refs_changed"}, many + "}");
  ASSERT_TRUE(hint);
  EXPECT_TRUE(hint->any);
  EXPECT_EQ(hint->branches.size(), kHintedBranchesMax);
}

TEST(Webhook, ADeliveryIsTakenOnce) {
  DeliveryMemory memory;
  EXPECT_TRUE(memory.remember("h", "1", t0));
  EXPECT_FALSE(memory.remember("h", "1", t0 + 24h));
  EXPECT_TRUE(memory.remember("other", "1", t0));
  for (size_t i = 0; i < kDeliveriesKept; ++i)
    EXPECT_TRUE(memory.remember("h", "n" + std::to_string(i), t0));
  EXPECT_TRUE(memory.remember("h", "1", t0));  // pushed out by the others
  EXPECT_FALSE(memory.remember("other", "1", t0 + kDeliveryKept));
  EXPECT_TRUE(memory.remember("other", "1", t0 + kDeliveryKept + 1ms));
}

}  // namespace
}  // namespace hob::git
