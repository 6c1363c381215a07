#include "builder/app_file.h"

#include <gtest/gtest.h>

namespace hob::builder {
namespace {

constexpr const char* kWhole = R"(version: 1.0
runtime: python311
build:
  commands:
    pre-build: [./tools/fetch-data.sh]
    build: [python3 -m compileall -q src]
    post-build: [python3 -m unittest]
  env: [{name: APP_STAGE, value: build}]
run:
  runtime-version: 3.10
  pre-run: [pip3 install -r requirements.txt]
  command: python3 src/main.py
  network: {port: 8000, env: LISTEN_PORT}
  env: [{name: GREETING, value: ""}, {name: FLAG, value: yes}]
  secrets: [{name: DB_PASSWORD, value-from: "arn:aws:secretsmanager:eu-west-1:1:secret:db-a:password::"}]
)";

TEST(AppFile, AWholeOneIsRead) {
  const Result<AppFile> file = parse_app_file(kWhole);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->runtime, "python311");
  EXPECT_EQ(file->pre_build, std::vector<std::string>{"./tools/fetch-data.sh"});
  EXPECT_EQ(file->build, std::vector<std::string>{"python3 -m compileall -q src"});
  EXPECT_EQ(file->post_build, std::vector<std::string>{"python3 -m unittest"});
  EXPECT_EQ(file->build_environment, (std::vector<AppVariable>{{"APP_STAGE", "build"}}));
  EXPECT_EQ(file->runtime_version, "3.10") << "text, not the number 3.1";
  EXPECT_EQ(file->pre_run, std::vector<std::string>{"pip3 install -r requirements.txt"});
  EXPECT_EQ(file->command, "python3 src/main.py");
  EXPECT_EQ(file->port, 8000);
  EXPECT_EQ(file->port_variable, "LISTEN_PORT");
  EXPECT_EQ(file->environment, (std::vector<AppVariable>{{"GREETING", ""}, {"FLAG", "yes"}}));
  ASSERT_EQ(file->secrets.size(), 1U);
  EXPECT_EQ(file->secrets[0].value_from,
            "arn:aws:secretsmanager:eu-west-1:1:secret:db-a:password::");
}

TEST(AppFile, TheLeastThereCanBe) {
  const Result<AppFile> file = parse_app_file(
      "version: 1\nruntime: nodejs22\nbuild:\n  commands:\n    build:\n      - npm ci\n"
      "run:\n  command: node server.js\n");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->port, kAppPortDefault);
}

// Those met in people's files, and those that would be silent elsewhere.
TEST(AppFile, AMistakeIsNamedWithItsPlace) {
  const std::string build = "build: {commands: {build: [make]}}\n";
  const std::string head = "version: 1.0\nruntime: go1\n";
  const std::vector<std::pair<std::string, std::string>> mistakes = {
      {"", "the file is empty"},
      {"- version: 1.0\n", "line 1, column 1: version, runtime, build and run are expected"},
      {head + build, "the file needs 'run'"},
      {"version: 2.0\nruntime: go1\n", "line 1, column 10: version '2.0'; the only one is 1.0"},
      {head + "build:\n\t- make\n", "never by tabs"},
      {head + "build: [make]\nrun: {command: ./x}\n",
       "line 3, column 8: 'build' has to be a map, this is a list"},
      {head + "build: {commands: {build: make}}\nrun: {command: ./x}\n",
       "'build' is a list of commands"},
      {head + "build: {commands: {pre-build: [x]}}\nrun: {command: ./x}\n",
       "'commands' needs 'build'"},
      {head + "build: {commands: {biuld: [x]}}\nrun: {command: ./x}\n", "did you mean 'build'?"},
      {head + build + "run: {command: [./x]}\n", "'command' is one line of text, no list"},
      {head + build + "run: {cmd: ./x}\n", "'cmd' is no key of 'run'"},
      {head + build + "run:\n  command: ./x\n  env:\n    NAME: value\n",
       "line 7, column 5: 'env' is a list"},
      {head + build + "run: {command: ./x, network: {port: 0}}\n", "'0' is no port"},
      {head + build + "run: {command: ./x, network: {port: 70000}}\n", "'70000' is no port"},
      {head + build + "run: {command: ./x, network: {env: [{name: A, value: b}]}}\n",
       "is the name of one variable that carries the port"},
      {head + build + "run: {command: ./x, env: [{name: AWSAPPRUNNER_X, value: b}]}\n",
       "App Runner's own"},
      {head + build + "run: {command: ./x, env: [{name: A, value: b}, {name: A, value: c}]}\n",
       "'A' is set twice"},
      {head + build + "run: {command: ./x, command: ./y}\n", "'command' is here twice"},
      {head + build + "run: {command: ./x, runtime-version: latest}\n", "'latest' is no version"},
      {head + build + "run: &a {command: ./x}\n", "anchors"},
      {head + build + "run: {command: *a}\n", "aliases"},
  };
  for (const auto& [text, says] : mistakes) {
    const Result<AppFile> file = parse_app_file(text);
    ASSERT_FALSE(file) << text;
    EXPECT_NE(file.error().message.find(says), std::string::npos)
        << text << "\nsaid: " << file.error().message << "\nnot: " << says;
  }
}

TEST(AppFile, WhatIsTooMuchIsRefused) {
  std::string deep = "version: 1.0\nruntime: go1\nbuild: ";
  for (int i = 0; i < 1000; ++i) deep += "[";
  EXPECT_FALSE(parse_app_file(deep));
  std::string many =
      "version: 1.0\nruntime: go1\nbuild: {commands: {build: [x]}}\nrun:\n  command: ./x\n  env:\n";
  for (int i = 0; i < 51; ++i) many += fmt::format("    - {{name: N{}, value: v}}\n", i);
  const Result<AppFile> file = parse_app_file(many);
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, Code::kLimit);
  EXPECT_FALSE(parse_app_file(std::string(1024 * 1024, ' ')));
}

}  // namespace
}  // namespace hob::builder
