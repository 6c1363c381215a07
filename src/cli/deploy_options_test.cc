#include "cli/deploy_options.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "cli/terminal.h"

namespace hob::cli {
namespace {

namespace json = boost::json;

TEST(DeployOptions, NamesAServiceAfterItsImage) {
  struct Case {
    const char* image;
    const char* want;
  };
  for (const Case& c : {
           Case{"hello.oci.tar", "hello"},
           Case{"build/images/shop.tar", "shop"},
           Case{"x.oci.tar", "x-service"},
           Case{".tar", "tar-service"},
           Case{"registry.example.com:5000/team/my_app:1.2", "my_app"},
           Case{"docker.io/library/nginx@sha256:abc", "nginx"},
           Case{"web", "web-service"},
           Case{"./build/images/", "service"},
           Case{"-x-", "x-service"},
           Case{"a-name-that-is-far-longer-than-forty-characters-can-hold:1",
                "a-name-that-is-far-longer-than-forty-cha"},
       }) {
    EXPECT_EQ(service_name_for(c.image), c.want) << c.image;
  }
}

TEST(DeployOptions, TakesForAnImageWhatCannotBeAPath) {
  struct Case {
    const char* image;
    bool has_parent;
    const char* want;  // empty: it is taken
  };
  for (const Case& c : {
           Case{"docker.io/library/nginx:1.27", false, ""},
           Case{"nginx:latest", false, ""},
           Case{"nginx@sha256:abc", false, ""},
           Case{"team/app", false, ""},
           Case{"localhost/app", false, ""},
           Case{"registry.example.com/a/b/c", true, ""},
           Case{"nosuchfolder", false, "name its tag: hob deploy nosuchfolder:latest"},
           Case{"team/app", true, "there is no file or folder team/app"},
           Case{"images/source/nodd", true, "there is no file or folder"},
           Case{"a/b/c", false, "there is no file or folder"},
           Case{"/app", false, "there is no file or folder"},
           Case{"./app", false, "there is no file or folder"},
           Case{".", false, "there is no file or folder"},
           Case{"../app", true, "there is no file or folder"},
           Case{"app/", false, "there is no file or folder"},
           Case{"app.oci.tar", false, "there is no file or folder"},
       }) {
    const Result<void> taken = check_reference(c.image, c.has_parent);
    if (*c.want == 0)
      EXPECT_TRUE(taken) << c.image;
    else if (!taken)
      EXPECT_NE(taken.error().message.find(c.want), std::string::npos) << taken.error().message;
    else
      ADD_FAILURE() << c.image << " was taken";
  }
}

TEST(DeployOptions, KnowsWhichStrategiesWait) {
  for (const char* waits : {"canary 10% 5m", "linear 10% 1m", "blue-green bake=10m"})
    EXPECT_TRUE(has_waits(waits)) << waits;
  for (const char* passes : {"", "rolling", "rolling min=50", "blue-green"})
    EXPECT_FALSE(has_waits(passes)) << passes;
}

TEST(DeployOptions, KnowsWhatCanNameAService) {
  for (const std::string& good :
       {std::string("shop"), std::string("Shop-2_b"), std::string("0000"), std::string(40, 'a')})
    EXPECT_TRUE(check_service_name(good)) << good;
  EXPECT_FALSE(check_service_name(std::string(41, 'a')));
  for (const char* bad : {"", "abc", "-shop", "_shop", "my shop", "caf\xc3\xa9", "shop\n"})
    EXPECT_FALSE(check_service_name(bad)) << bad;
}

TEST(DeployOptions, NamesARepositoryAfterAnImage) {
  struct Case {
    const char* name;
    const char* want;
  };
  for (const Case& c : {
           Case{"hello:latest", "hello"},
           Case{"localhost/team/App:1", "team/app"},
           Case{"registry.example.com:5000/a/b:2", "a/b"},
           Case{"docker.io/library/nginx@sha256:abc", "library/nginx"},
           Case{"My App!", "my-app"},
           Case{"--", "image"},
           Case{"x", "image-x"},
       }) {
    EXPECT_EQ(repository_for(c.name), c.want) << c.name;
  }
}

TEST(DeployOptions, CreateSaysWhatWasGivenAndNoMore) {
  const DeployOptions options{
      .name = "shop", .environment = {"A=1", "B=x=y", "C="}, .cpu = "0.5", .health_path = "/up"};
  const Result<json::object> input = create_input(options, "127.0.0.1:4566/shop:1");
  ASSERT_TRUE(input.has_value());
  EXPECT_EQ(
      json::serialize(*input),
      R"({"ServiceName":"shop","SourceConfiguration":{"AutoDeploymentsEnabled":false,"ImageRepository":)"
      R"({"ImageIdentifier":"127.0.0.1:4566/shop:1","ImageRepositoryType":"ECR","ImageConfiguration":)"
      R"({"Port":"8080","RuntimeEnvironmentVariables":{"A":"1","B":"x=y","C":""}}}},)"
      R"("InstanceConfiguration":{"Cpu":"0.5 vCPU"},"HealthCheckConfiguration":{"Protocol":"HTTP","Path":"/up",)"
      R"("Interval":1,"Timeout":2,"HealthyThreshold":1,"UnhealthyThreshold":5}})");
}

TEST(DeployOptions, GivesSizesTheirUnit) {
  struct Case {
    const char* cpu;
    const char* memory;
    const char* want;
  };
  for (const Case& c : {
           Case{"0.25", "12", R"({"Cpu":"0.25 vCPU","Memory":"12 GB"})"},
           Case{"1024", "512", R"({"Cpu":"1024","Memory":"512"})"},
           Case{"2 vCPU", "4 GB", R"({"Cpu":"2 vCPU","Memory":"4 GB"})"},
           Case{"4096", "12288", R"({"Cpu":"4096","Memory":"12288"})"},
       }) {
    const Result<json::object> input = create_input({.cpu = c.cpu, .memory = c.memory}, "image");
    ASSERT_TRUE(input.has_value());
    EXPECT_EQ(json::serialize(input->at("InstanceConfiguration")), c.want);
  }
  for (const DeployOptions& bad : {DeployOptions{.cpu = "much"}, DeployOptions{.cpu = "3"},
                                   DeployOptions{.memory = "5"}, DeployOptions{.memory = "1 TB"}})
    EXPECT_FALSE(create_input(bad, "image")) << bad.cpu << bad.memory;
}

TEST(DeployOptions, UpdateKeepsWhatWasNotGiven) {
  const json::object service =
      json::parse(R"({"ServiceArn":"arn","SourceConfiguration":{"AutoDeploymentsEnabled":true,
      "ImageRepository":{"ImageIdentifier":"old","ImageRepositoryType":"ECR","ImageConfiguration":
      {"Port":"3000","RuntimeEnvironmentVariables":{"A":"1","B":"2"}}}}})")
          .as_object();
  const Result<json::object> input = update_input({.environment = {"B=3"}}, "new", service);
  ASSERT_TRUE(input.has_value());
  EXPECT_EQ(
      json::serialize(*input),
      R"({"ServiceArn":"arn","SourceConfiguration":{"AutoDeploymentsEnabled":true,"ImageRepository":)"
      R"({"ImageIdentifier":"new","ImageRepositoryType":"ECR","ImageConfiguration":)"
      R"({"Port":"3000","RuntimeEnvironmentVariables":{"A":"1","B":"3"}}}}})");
  EXPECT_EQ(json::serialize(update_input({.sticky = "1h"}, "new", service)->at("Tags")),
            R"([{"Key":"hob:sticky","Value":"1h"}])");
}

TEST(DeployOptions, ASourcesSecretsReplaceTheServices) {
  const json::object service =
      json::parse(R"({"ServiceArn":"arn","SourceConfiguration":{"ImageRepository":
      {"ImageConfiguration":{"RuntimeEnvironmentSecrets":{"OLD":"arn:old"}}}}})")
          .as_object();
  const auto secrets = [&](std::optional<std::map<std::string, std::string>> given) {
    const Result<json::object> input = update_input({.secrets = std::move(given)}, "new", service);
    boost::system::error_code error;
    const json::value whole = *input;
    const json::value* found = whole.find_pointer(
        "/SourceConfiguration/ImageRepository/ImageConfiguration/RuntimeEnvironmentSecrets", error);
    return found == nullptr ? "none" : json::serialize(*found);
  };
  EXPECT_EQ(secrets({}), R"({"OLD":"arn:old"})") << "an image says nothing of them";
  EXPECT_EQ(secrets({{{"NEW", "parameter"}}}), R"({"NEW":"parameter"})");
  EXPECT_EQ(secrets(std::map<std::string, std::string>()), "none");
}

TEST(DeployOptions, SettingsAreTags) {
  EXPECT_TRUE(tags_of({}).empty());
  const DeployOptions options{.request_timeout = "5m",
                              .protocol = "http2",
                              .isolation = "microvm",
                              .min_size = "0",
                              .min_size_schedule = "daily 08:00-18:00 2",
                              .sleep_after = "1m",
                              .stop_after = "1h"};
  EXPECT_EQ(json::serialize(tags_of(options)),
            R"([{"Key":"hob:request-timeout","Value":"5m"},{"Key":"hob:protocol","Value":"http2"},)"
            R"({"Key":"hob:isolation","Value":"microvm"},{"Key":"hob:min-size","Value":"0"},)"
            R"({"Key":"hob:min-size-schedule","Value":"daily 08:00-18:00 2"},)"
            R"({"Key":"hob:sleep-after","Value":"1m"},{"Key":"hob:stop-after","Value":"1h"}])");
  const Result<json::object> input = create_input(options, "image");
  ASSERT_TRUE(input.has_value());
  EXPECT_EQ(input->at("Tags").as_array().size(), 7u);
}

TEST(DeployOptions, RefusesAVariableWithoutAValue) {
  for (const char* pair : {"A", "=1", ""}) {
    EXPECT_FALSE(create_input({.environment = {pair}}, "image").has_value()) << pair;
  }
}

TEST(Terminal, QuotesForAShell) {
  EXPECT_EQ(shell_quoted("plain-1.2/x"), "plain-1.2/x");
  EXPECT_EQ(shell_quoted(""), "''");
  EXPECT_EQ(shell_quoted("it's $HOME"), R"('it'\''s $HOME')");
}

TEST(Terminal, ShowsControlCharacters) {
  EXPECT_EQ(printable("a\tb\033[31m\x7f\nü"), "a\tb\\x1b[31m\\x7f\\nü");
}

TEST(Terminal, PadsColumns) {
  EXPECT_EQ(table({{"NAME", "URL"}, {"a", "http://x"}, {"longer", ""}}),
            "NAME    URL\na       http://x\nlonger  \n");
}

}  // namespace
}  // namespace hob::cli
