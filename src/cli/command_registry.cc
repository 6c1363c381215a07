// hob registry login|logout|list: credentials for pulling from other registries.
#include <CLI/App.hpp>
#include <boost/json.hpp>
#include <cstdio>

#include "cli/commands.h"
#include "cli/terminal.h"

namespace hob::cli {
namespace {

namespace json = boost::json;

struct LoginOptions {
  std::string registry{};
  std::string username{};
  bool password_stdin = false;
};

// Docker Hub's API is elsewhere than its name.
std::string registry_name(std::string registry) {
  if (registry == "docker.io" || registry == "index.docker.io") return "registry-1.docker.io";
  return registry;
}

Async<Result<void>> login(const Context& context, LoginOptions options) {
  HOB_CO_TRY(Api api, Api::open(context));
  HOB_CO_TRY(std::string password, read_secret("Password: ", options.password_stdin));
  const std::string registry = registry_name(options.registry);
  json::object input = {
      {"Registry", registry}, {"Username", options.username}, {"Password", password}};
  HOB_CO_CHECK(co_await api.call("hob", "Hob.PutRegistryLogin", std::move(input)));
  if (context.json)
    printf("%s\n", json::serialize(json::object{{"Registry", registry}}).c_str());
  else
    printf("images of %s are pulled as %s from now on\n", registry.c_str(),
           options.username.c_str());
  co_return Result<void>{};
}

Async<Result<void>> logout(const Context& context, std::string registry) {
  HOB_CO_TRY(Api api, Api::open(context));
  json::object input = {{"Registry", registry_name(registry)}};
  HOB_CO_CHECK(co_await api.call("hob", "Hob.DeleteRegistryLogin", std::move(input)));
  if (context.json)
    printf("{}\n");
  else
    printf("forgot the credentials for %s\n", registry.c_str());
  co_return Result<void>{};
}

Async<Result<void>> list(const Context& context) {
  HOB_CO_TRY(Api api, Api::open(context));
  HOB_CO_TRY(json::object answer,
             co_await api.call("hob", "Hob.ListRegistryLogins", json::object()));
  if (context.json) {
    printf("%s\n", json::serialize(answer).c_str());
    co_return Result<void>{};
  }
  std::vector<std::vector<std::string>> rows = {{"REGISTRY", "USER"}};
  const json::value* logins = answer.if_contains("Logins");
  if (logins != nullptr && logins->is_array()) {
    for (const json::value& entry : logins->as_array()) {
      if (entry.is_object())
        rows.push_back(
            {text_at(entry.as_object(), "Registry"), text_at(entry.as_object(), "Username")});
    }
  }
  printf("%s", table(rows).c_str());
  co_return Result<void>{};
}

}  // namespace

void add_registry(CLI::App& program, Context& context) {
  CLI::App* registry = program.add_subcommand("registry", "Credentials for other registries");
  registry->require_subcommand(1);
  registry->fallthrough();

  auto options = std::make_shared<LoginOptions>();
  CLI::App* log_in =
      registry->add_subcommand("login", "Keep a user name and password for a registry");
  log_in->add_option("registry", options->registry, "Its host: registry.example.com, docker.io")
      ->required();
  log_in->add_option("-u,--username", options->username, "The user")->required();
  log_in->add_flag("--password-stdin", options->password_stdin, "Read the password from stdin");
  on_run(*log_in, context,
         [&context, options]() -> Async<Result<void>> { return login(context, *options); });

  auto name = std::make_shared<std::string>();
  CLI::App* log_out = registry->add_subcommand("logout", "Forget them");
  log_out->add_option("registry", *name, "Its host")->required();
  on_run(*log_out, context,
         [&context, name]() -> Async<Result<void>> { return logout(context, *name); });

  CLI::App* all = registry->add_subcommand("list", "Which registries there are credentials for");
  on_run(*all, context, [&context]() -> Async<Result<void>> { return list(context); });
}

}  // namespace hob::cli
