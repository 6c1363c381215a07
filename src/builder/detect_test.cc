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
      {"Procfile", "# processes\nworker: node migrate.js\nweb: node b.js --title 'a: b'\n"},
  });
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(made->start, "node b.js --title 'a: b'");
  EXPECT_TRUE(
      refusal({{"package.json", "{}"}, {"Procfile", "web: node x\nrelease: node migrate.js\n"}})
          .starts_with("Procfile: line 2: release commands are not run here yet"));
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

// What runs it, and how, for the smallest application of each.
TEST(Detect, EachRuntimesOwn) {
  struct Case {
    const char* runtime;
    std::map<std::string, std::string> files;
    const char* start;
  };
  for (const Case& c : {
           Case{"python",
                {{"requirements.txt", "gunicorn"}, {"app.py", ""}},
                "gunicorn --bind 0.0.0.0:$PORT app:app"},
           Case{"python", {{"main.py", ""}}, "python3 main.py"},
           Case{"go", {{"go.mod", "module x\n\ngo 1.16\n"}}, "/app/bin/app"},
           Case{"go", {{"go.mod", "module x"}, {"package.json", "{}"}}, "/app/bin/app"},
           Case{"php",
                {{"composer.json", "{}"}, {"public/index.php", ""}},
                "php -S 0.0.0.0:$PORT -t public"},
           Case{"ruby", {{"config.ru", ""}}, "puma -b tcp://0.0.0.0:$PORT"},
           Case{"ruby",
                {{"Gemfile", ""}, {"Gemfile.lock", ""}, {"config.ru", ""}},
                "bundle exec puma -b tcp://0.0.0.0:$PORT"},
           Case{"java", {{"Main.java", ""}}, "java -XX:MaxRAMPercentage=75 -cp target Main"},
           Case{"static-node",
                {{"package.json", "{}"}, {"vite.config.ts", ""}},
                "serve-files /app/dist /index.html"},
           Case{"nodejs",
                {{"package.json", R"({"scripts": {"start": "node x"}})"}, {"vite.config.ts", ""}},
                "node x"},
           Case{"static", {{"public/index.html", ""}}, "serve-files /app/public =404"},
           Case{"static", {{"index.html", ""}}, "serve-files /app =404"},
       }) {
    const Result<Recipe> made = recipe(c.files);
    ASSERT_TRUE(made) << c.runtime << ": " << made.error().message;
    EXPECT_EQ(made->runtime.runtime->name, c.runtime);
    EXPECT_EQ(made->start, c.start) << c.runtime;
  }
}

TEST(Detect, AppRunnersNamesAreTakenOrRefusedWithWhatToDo) {
  const auto named = [](std::string name) -> std::string {
    const Result<RuntimeChoice> choice = runtime_named(runtimes(), name);
    return choice ? choice->runtime->name + " " + choice->version->name : choice.error().message;
  };
  for (const auto& [name, taken] : std::map<std::string, std::string>{{"NODEJS_22", "nodejs 22"},
                                                                      {"nodejs18", "nodejs 18"},
                                                                      {"PYTHON_311", "python 3.11"},
                                                                      {"PYTHON_3", "python 3"},
                                                                      {"CORRETTO_11", "java 17"},
                                                                      {"CORRETTO_8", "java 17"},
                                                                      {"GO_1", "go 1.19"},
                                                                      {"PHP_81", "php 8.2"},
                                                                      {"RUBY_31", "ruby 3.1"}}) {
    EXPECT_EQ(named(name), taken) << name;
  }
  for (const char* name : {"NODEJS_16", "nodejs14", "NODEJS_12"}) {
    EXPECT_NE(named(name).find("use nodejs22"), std::string::npos) << named(name);
  }
  EXPECT_NE(named("DOTNET_6").find("--self-contained"), std::string::npos);
  EXPECT_NE(refusal({{"apprunner.yml", "version: 1.0"}}).find("called apprunner.yaml"),
            std::string::npos);
}

TEST(Detect, ANodeApplicationGetsTheVersionItAsksFor) {
  for (const auto& [engines, version] : std::map<std::string, std::string>{
           {">=18", "22"}, {"18.x", "18"}, {"20", "20"}, {"^24.1", "24"}}) {
    const Result<Recipe> made = recipe(
        {{"package.json", R"({"main": "x.js", "engines": {"node": ")" + engines + R"("}})"}});
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_EQ(made->runtime.version->name, version) << engines;
  }
  EXPECT_NE(
      refusal({{"package.json", R"({"main": "x.js", "engines": {"node": "16"}})"}}).find("22.23.3"),
      std::string::npos);
}

TEST(Detect, WhatDebianDoesNotHaveIsSaid) {
  EXPECT_TRUE(refusal({{"hello.csproj", ""}}).starts_with(".NET: there is no .NET in Debian 12"));
  EXPECT_EQ(refusal({{"go.mod", "module x\ngo 1.21\n"}}),
            "go.mod asks for Go >=1.21, and there are 1.19.8 here; change it, or build the image "
            "elsewhere (podman build) and hob deploy that");
  EXPECT_NE(refusal({{"Cargo.toml", "rust-version = \"1.80\""}}).find(">=1.80"), std::string::npos);
}

}  // namespace
}  // namespace hob::builder
