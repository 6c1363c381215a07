#include "image/reference.h"

#include <gtest/gtest.h>

namespace hob::image {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');

TEST(Reference, ParsesAsDockerDoes) {
  struct Case {
    std::string text;
    ImageReference want;
  };
  for (const Case& c : {
           Case{"nginx", {"docker.io", "library/nginx", "latest", ""}},
           Case{"nginx:1.25", {"docker.io", "library/nginx", "1.25", ""}},
           Case{"shop/web", {"docker.io", "shop/web", "latest", ""}},
           Case{"docker.io/nginx", {"docker.io", "library/nginx", "latest", ""}},
           Case{"127.0.0.1:4566/hello:1", {"127.0.0.1:4566", "hello", "1", ""}},
           Case{"localhost/hello", {"localhost", "hello", "latest", ""}},
           Case{"quay.io/a/b/c:V1_x", {"quay.io", "a/b/c", "V1_x", ""}},
           Case{"quay.io/a@" + kDigest, {"quay.io", "a", "", kDigest}},
           Case{"quay.io/a:1@" + kDigest, {"quay.io", "a", "1", kDigest}},
           Case{"000000000001.dkr.ecr.us-east-1.hob.localhost:4566/x-y__z:1",
                {"000000000001.dkr.ecr.us-east-1.hob.localhost:4566", "x-y__z", "1", ""}},
       }) {
    const Result<ImageReference> parsed = parse_reference(c.text);
    ASSERT_TRUE(parsed) << c.text << ": " << parsed.error().message;
    EXPECT_EQ(*parsed, c.want) << c.text;
  }
}

TEST(Reference, RefusesWhatIsNone) {
  for (const std::string& text :
       {std::string(), std::string("Nginx"), std::string("a b"), std::string("a:"),
        std::string("a:-x"), std::string("a/../b"), std::string("a//b"), std::string("/a"),
        std::string("a/"), std::string("a___b"), std::string("a..b"), std::string("h:x/a"),
        std::string("a@sha256:12"), std::string("a@md5:") + std::string(64, 'a'),
        std::string("a:") + std::string(129, 'x'), std::string(1025, 'a'), std::string(257, 'a'),
        std::string("127.0.0.1:4566/a\nb")}) {
    const Result<ImageReference> parsed = parse_reference(text);
    EXPECT_FALSE(parsed) << text;
  }
}

TEST(Reference, KnowsOurRegistry) {
  struct Case {
    const char* registry;
    bool ours;
    const char* account;
  };
  for (const Case& c : {
           Case{"127.0.0.1:4566", true, ""},
           Case{"127.0.0.2:4566", true, ""},
           Case{"localhost:4566", true, ""},
           Case{"127.0.0.1:5000", false, ""},
           Case{"127.0.0.1", false, ""},
           Case{"000000000001.dkr.ecr.us-east-1.hob.localhost:4566", true, "000000000001"},
           Case{"000000000001.dkr.ecr.eu-west-1.hob.localhost", true, "000000000001"},
           Case{"000000000001.dkr.ecr.eu-west-1.hob.localhost:80", false, ""},
           Case{"000000000001.dkr.ecr.us-east-1.amazonaws.com", false, ""},
           Case{"1.dkr.ecr.us-east-1.hob.localhost:4566", false, ""},
           Case{"quay.io:4566", false, ""},
       }) {
    const OwnRegistry found = match_own_registry(c.registry, 4566);
    EXPECT_EQ(found.ours, c.ours) << c.registry;
    EXPECT_EQ(found.account, c.account) << c.registry;
  }
}

TEST(Reference, KnowsWhatIsOnThisMachine) {
  for (const char* registry :
       {"localhost", "localhost:5000", "127.0.0.1:5000", "127.8.9.1", "[::1]:80"})
    EXPECT_TRUE(is_loopback_registry(registry)) << registry;
  for (const char* registry :
       {"127.example.com", "127.0.0.1.example.com:80", "localhost.example.com", "quay.io",
        "10.0.0.1:5000", "[::2]", "000000000001.dkr.ecr.eu-west-1.hob.localhost"})
    EXPECT_FALSE(is_loopback_registry(registry)) << registry;
}

}  // namespace
}  // namespace hob::image
