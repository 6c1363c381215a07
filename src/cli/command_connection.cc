// hob connection create|complete|ls|rm: where source code is, and how it is fetched.
#include <CLI/App.hpp>
#include <boost/json.hpp>
#include <cstdio>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/terminal.h"

namespace hob::cli {
namespace {

namespace json = boost::json;

constexpr size_t kKeyBytesMax = 16 * 1024;

struct ConnectionOptions {
  std::string name{};
  std::string provider = "github";
  std::string username{};
  std::string ssh_key{};
  bool token_stdin = false;
};

std::string upper_case(std::string text) {
  for (char& c : text) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return text;
}

// The account's, as ListConnections answers them; with a name, that one alone.
Async<Result<json::array>> list_connections(Api api, std::string name) {
  json::object input;
  if (!name.empty()) input["ConnectionName"] = name;
  HOB_CO_TRY(json::object answer,
             co_await api.call("apprunner", "AppRunner.ListConnections", std::move(input)));
  const json::value* list = answer.if_contains("ConnectionSummaryList");
  if (list == nullptr || !list->is_array())
    co_return fail(Code::kCorrupt, "ListConnections answers nothing");
  co_return list->as_array();
}

Async<Result<void>> create(const Context& context, ConnectionOptions options) {
  HOB_CO_TRY(Api api, Api::open(context));
  json::object input = {{"ConnectionName", options.name},
                        {"ProviderType", upper_case(options.provider)}};
  HOB_CO_TRY(json::object answer,
             co_await api.call("apprunner", "AppRunner.CreateConnection", std::move(input)));
  if (context.json) {
    printf("%s\n", json::serialize(answer).c_str());
  } else {
    printf("connection %s; now give it a token or a deploy key: hob connection complete %s\n",
           options.name.c_str(), options.name.c_str());
  }
  co_return Result<void>{};
}

Async<Result<void>> complete(const Context& context, ConnectionOptions options) {
  HOB_CO_TRY(Api api, Api::open(context));
  json::object input = {{"ConnectionName", options.name}};
  if (!options.username.empty()) input["Username"] = options.username;
  if (options.ssh_key.empty()) {
    HOB_CO_TRY(input["Token"], read_secret("Token: ", options.token_stdin));
  } else {
    HOB_CO_TRY(input["SshPrivateKey"],
               hob::context(read_file(options.ssh_key, kKeyBytesMax), "reading the key"));
  }
  HOB_CO_CHECK(co_await api.call("hob", "Hob.CompleteConnection", std::move(input)));
  if (context.json)
    printf("{}\n");
  else
    printf("connection %s is available\n", options.name.c_str());
  co_return Result<void>{};
}

Async<Result<void>> list(const Context& context) {
  HOB_CO_TRY(Api api, Api::open(context));
  HOB_CO_TRY(const json::array all, co_await list_connections(api, ""));
  if (context.json) {
    printf("%s\n", json::serialize(json::object{{"Connections", all}}).c_str());
    co_return Result<void>{};
  }
  std::vector<std::vector<std::string>> rows = {{"CONNECTION", "PROVIDER", "STATUS"}};
  for (const json::value& each : all) {
    if (!each.is_object()) continue;
    rows.push_back({text_at(each.as_object(), "ConnectionName"),
                    text_at(each.as_object(), "ProviderType"),
                    text_at(each.as_object(), "Status")});
  }
  printf("%s", table(rows).c_str());
  co_return Result<void>{};
}

Async<Result<void>> remove(const Context& context, std::string name) {
  HOB_CO_TRY(Api api, Api::open(context));
  HOB_CO_TRY(const json::array found, co_await list_connections(api, name));
  if (found.empty() || !found.front().is_object())
    co_return fail(Code::kNotFound, "there is no connection {}", name);
  json::object input = {{"ConnectionArn", text_at(found.front().as_object(), "ConnectionArn")}};
  HOB_CO_CHECK(co_await api.call("apprunner", "AppRunner.DeleteConnection", std::move(input)));
  if (context.json)
    printf("{}\n");
  else
    printf("forgot the connection %s\n", name.c_str());
  co_return Result<void>{};
}

}  // namespace

void add_connection(CLI::App& program, Context& context) {
  CLI::App* connection =
      program.add_subcommand("connection", "Where source code is, and how it is fetched");
  connection->require_subcommand(1);
  connection->fallthrough();

  auto options = std::make_shared<ConnectionOptions>();
  CLI::App* make = connection->add_subcommand("create", "Name one");
  make->add_option("name", options->name, "Its name, 4 to 32 characters")->required();
  make->add_option("--provider", options->provider, "github, bitbucket, gitlab, gitea (github)")
      ->check(CLI::IsMember({"github", "bitbucket", "gitlab", "gitea"}, CLI::ignore_case));
  on_run(*make, context,
         [&context, options]() -> Async<Result<void>> { return create(context, *options); });

  CLI::App* give = connection->add_subcommand(
      "complete", "Give it an access token or a deploy key, kept encrypted");
  give->add_option("name", options->name, "Its name")->required();
  give->add_option("-u,--username", options->username, "That goes with the token");
  CLI::Option* key = give->add_option("--ssh-key", options->ssh_key, "A file with a private key")
                         ->check(CLI::ExistingFile);
  give->add_flag("--token-stdin", options->token_stdin, "Read the token from stdin")->excludes(key);
  refuse_empty_values(*give);
  on_run(*give, context,
         [&context, options]() -> Async<Result<void>> { return complete(context, *options); });

  CLI::App* all = connection->add_subcommand("ls", "Which there are");
  on_run(*all, context, [&context]() -> Async<Result<void>> { return list(context); });

  CLI::App* forget = connection->add_subcommand("rm", "Forget one");
  forget->add_option("name", options->name, "Its name")->required();
  on_run(*forget, context,
         [&context, options]() -> Async<Result<void>> { return remove(context, options->name); });
}

}  // namespace hob::cli
