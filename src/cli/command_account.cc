// hob account create|list: accounts, which see nothing of each other.
#include <CLI/App.hpp>
#include <boost/json.hpp>
#include <cstdio>

#include "cli/commands.h"
#include "cli/terminal.h"

namespace hob::cli {
namespace {

namespace json = boost::json;

Async<Result<void>> create(const Context& context, std::string name) {
  HOB_CO_TRY(Api api, Api::open(context));
  json::object input = {{"Name", name}};
  HOB_CO_TRY(json::object answer, co_await api.call("hob", "Hob.CreateAccount", std::move(input)));
  if (context.json) {
    printf("%s\n", json::serialize(answer).c_str());
    co_return Result<void>{};
  }
  // Shown once: the secret is not listed again.
  printf(
      "account %s; its keys, which are not shown again:\nexport AWS_ACCESS_KEY_ID=%s\nexport "
      "AWS_SECRET_ACCESS_KEY=%s\n",
      text_at(answer, "AccountId").c_str(), text_at(answer, "AccessKeyId").c_str(),
      shell_quoted(text_at(answer, "SecretAccessKey")).c_str());
  co_return Result<void>{};
}

Async<Result<void>> list(const Context& context) {
  HOB_CO_TRY(Api api, Api::open(context));
  HOB_CO_TRY(json::object answer, co_await api.call("hob", "Hob.ListAccounts", json::object()));
  if (context.json) {
    printf("%s\n", json::serialize(answer).c_str());
    co_return Result<void>{};
  }
  std::vector<std::vector<std::string>> rows = {{"ACCOUNT", "NAME"}};
  const json::value* accounts = answer.if_contains("Accounts");
  if (accounts != nullptr && accounts->is_array()) {
    for (const json::value& entry : accounts->as_array()) {
      if (entry.is_object())
        rows.push_back({text_at(entry.as_object(), "AccountId"),
                        printable(text_at(entry.as_object(), "Name"))});
    }
  }
  printf("%s", table(rows).c_str());
  co_return Result<void>{};
}

}  // namespace

void add_account(CLI::App& program, Context& context) {
  CLI::App* account = program.add_subcommand("account", "Accounts of this Hob");
  account->require_subcommand(1);
  account->fallthrough();
  auto name = std::make_shared<std::string>();
  CLI::App* make = account->add_subcommand("create", "Make one, and print its keys");
  make->add_option("name", *name, "A name for people")->required();
  on_run(*make, context,
         [&context, name]() -> Async<Result<void>> { return create(context, *name); });
  CLI::App* all = account->add_subcommand("list", "Which there are");
  on_run(*all, context, [&context]() -> Async<Result<void>> { return list(context); });
}

}  // namespace hob::cli
