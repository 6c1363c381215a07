#include "builder/detect.h"

#include <gtest/gtest.h>

#include "builder/testing_source.h"

namespace hob::builder {
namespace {

const std::vector<Runtime>& runtimes() {
  static const std::vector<Runtime> all = [] {
    Result<std::vector<Runtime>> loaded = load_runtimes(HOB_SOURCE_DIR "/runtimes");
    EXPECT_TRUE(loaded) << loaded.error().message;
    return loaded ? *loaded : std::vector<Runtime>();
  }();
  return all;
}

Result<Recipe> recipe(std::map<std::string, std::string> files) {
  return make_recipe(TestSource(std::move(files)), runtimes());
}

std::string refusal(std::map<std::string, std::string> files) {
  const Result<Recipe> made = recipe(std::move(files));
  return made ? "built" : made.error().message;
}

TEST(Detect, ANodeApplication) {
  const Result<Recipe> made = recipe({
      {"package.json", R"({"engines": {"node": "^20.9 || >=22"}, "scripts": {"start": "node app.js",
        "build": "tsc"}})"},
      {"package-lock.json", "{}"},
      {"app.js", ""},
  });
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(made->runtime.version->name, "22");
  EXPECT_EQ(made->start, "node app.js");
  ASSERT_TRUE(made->install);
  EXPECT_TRUE(made->install->command.starts_with("npm ci"));
  EXPECT_FALSE(made->install->inputs.empty()) << "the lock file decides";
  EXPECT_EQ(made->build, std::vector<std::string>{"npm run build"});
  EXPECT_NE(made->reasons.front().find("package.json"), std::string::npos);
}

TEST(Detect, ScriptsOfTheApplicationSeeAllOfIt) {
  const Result<Recipe> made = recipe({
      {"package.json", R"({"scripts": {"start": "node .", "postinstall": "node gen.js"}})"},
      {"package-lock.json", "{}"},
  });
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_TRUE(made->install->inputs.empty());
}

TEST(Detect, WithoutALockFileItInstallsAll) {
  const Result<Recipe> made = recipe({{"package.json", R"({"main": "x.js"})"}});
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_TRUE(made->install->command.starts_with("npm install"));
  EXPECT_EQ(made->start, "node x.js");
}

TEST(Detect, AProcfileSaysHowItStarts) {
  const Result<Recipe> made = recipe({
      {"package.json", R"({"scripts": {"start": "node a.js"}})"},
      {"Procfile", "# processes\nrelease: node migrate.js\nweb: node b.js --title 'a: b'\n"},
  });
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(made->start, "node b.js --title 'a: b'");
  EXPECT_EQ(made->release, "node migrate.js");
}

TEST(Detect, WhatIsWrongIsSaid) {
  EXPECT_NE(refusal({{"README.md", ""}}).find("of no runtime that is known here"),
            std::string::npos);
  EXPECT_NE(refusal({{"package.json", R"({"engines": {"node": "<10"}, "main": "x"})"}})
                .find("asks for Node.js <10"),
            std::string::npos);
  EXPECT_NE(refusal({{"package.json", "{}"}}).find("\"start\" script"), std::string::npos);
  EXPECT_NE(refusal({{"package.json", "{}"}, {"Procfile", "web\n"}}).find("Procfile: line 1"),
            std::string::npos);
  EXPECT_NE(refusal({{"apprunner.yaml",
                      "version: 1.0\nruntime: cobol\nbuild: {commands: {build: "
                      "[x]}}\nrun: {command: x}\n"}})
                .find("there is no runtime 'cobol'; there are"),
            std::string::npos);
}

TEST(Detect, TheFileDecidesWhereThereIsOne) {
  const Result<Recipe> made = recipe({
      {"package.json", R"({"scripts": {"start": "node a.js"}})"},
      {"apprunner.yaml",
       "version: 1.0\nruntime: nodejs22\nbuild:\n  commands:\n    pre-build: [npm ci]\n    build: "
       "[npm run x]\n  env: [{name: A, value: b}]\nrun:\n  command: node c.js\n  network: {port: "
       "3000, env: MY_PORT}\n  env: [{name: NODE_ENV, value: test}]\n"},
  });
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_FALSE(made->install);
  EXPECT_EQ(made->build, (std::vector<std::string>{"npm ci", "npm run x"}));
  EXPECT_EQ(made->start, "node c.js");
  EXPECT_EQ(made->port, 3000);
  EXPECT_EQ(made->build_environment.at("A"), "b");
  EXPECT_EQ(made->environment.at("MY_PORT"), "3000");
  EXPECT_EQ(made->environment.at("NODE_ENV"), "test");
}

}  // namespace
}  // namespace hob::builder
