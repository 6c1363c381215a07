// hob remote add|show: the git remote that deploys what is pushed to it.
#include <CLI/App.hpp>
#include <boost/json.hpp>
#include <cstdio>
#include <iostream>

#include "base/process.h"
#include "cli/commands.h"
#include "cli/deploy_options.h"
#include "cli/terminal.h"

namespace hob::cli {
namespace {

namespace json = boost::json;

constexpr Duration kGitWithin{20'000};
constexpr size_t kQuestionBytesMax = 64 * 1024;

struct RemoteOptions {
  std::string service{};
  std::string remote = "hob";
};

Async<Result<std::string>> git(std::vector<std::string> arguments) {
  Command command{.argv = {"git"}};
  command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
  HOB_CO_TRY(std::string output, co_await run_ok(std::move(command), kGitWithin));
  while (output.ends_with('\n')) output.pop_back();
  co_return output;
}

// As given, or after the repository's folder.
Async<Result<std::string>> service_of(std::string given) {
  std::string name = std::move(given);
  if (name.empty()) {
    std::vector<std::string> arguments = {"rev-parse", "--show-toplevel"};
    HOB_CO_TRY(const std::string folder,
               hob::context(co_await git(std::move(arguments)),
                            "this is no git repository; make one with git init"));
    name = service_name_for(std::filesystem::path(folder).filename().string());
  }
  HOB_CO_CHECK(check_service_name(name));
  co_return name;
}

std::string url_of_remote(const Instance& instance, const std::string& service) {
  return instance.endpoint() + "/git/" + service + ".git";
}

Async<Result<void>> add(const Context& context, RemoteOptions options) {
  HOB_CO_TRY(Api api, Api::open(context));
  HOB_CO_TRY(const std::string service, co_await service_of(options.service));
  const std::string url = url_of_remote(api.instance(), service);
  std::vector<std::string> get_url = {"remote", "get-url", options.remote};
  const bool known = (co_await git(std::move(get_url))).has_value();
  std::vector<std::string> set = {"remote", known ? "set-url" : "add", options.remote, url};
  HOB_CO_CHECK(co_await git(std::move(set)));
  // git asks us each time: no secret is written into the repository's configuration.
  std::error_code error;
  const std::string own = std::filesystem::read_symlink("/proc/self/exe", error).string();
  std::vector<std::string> helper = {
      "config", "credential." + api.instance().endpoint() + ".helper",
      fmt::format("!{} remote credential --data {}", shell_quoted(own),
                  shell_quoted(context.data.string()))};
  HOB_CO_CHECK(co_await git(std::move(helper)));
  if (context.json) {
    printf("%s\n", json::serialize(json::object{{"Remote", options.remote}, {"Url", url}}).c_str());
  } else {
    printf("%s is %s\ndeploy with: git push %s main\n", options.remote.c_str(), url.c_str(),
           options.remote.c_str());
  }
  co_return Result<void>{};
}

Async<Result<void>> show(const Context& context, RemoteOptions options) {
  HOB_CO_TRY(const Instance instance, context.instance());
  HOB_CO_TRY(const std::string service, co_await service_of(options.service));
  const std::string url = url_of_remote(instance, service);
  if (context.json)
    printf("%s\n", json::serialize(json::object{{"Url", url}}).c_str());
  else
    printf("%s\n", url.c_str());
  co_return Result<void>{};
}

// What git asks a credential helper (gitcredentials(7)): lines of NAME=VALUE on stdin.
Async<Result<void>> answer_credential(const Context& context, std::string operation) {
  std::string question;
  for (std::string line; question.size() < kQuestionBytesMax && std::getline(std::cin, line);)
    question += line + "\n";
  if (operation != "get") co_return Result<void>{};  // there is nothing to store or to forget
  HOB_CO_TRY(const Api api, Api::open(context));
  const std::string host = "host=" + api.instance().api_address() + "\n";
  if (question.find(host) == std::string::npos) co_return Result<void>{};  // somebody else's
  printf("username=%s\npassword=%s\n", api.credentials().access_key.c_str(),
         api.credentials().secret_key.c_str());
  co_return Result<void>{};
}

}  // namespace

void add_remote(CLI::App& program, Context& context) {
  CLI::App* remote =
      program.add_subcommand("remote", "The git remote that deploys what is pushed to it");
  remote->require_subcommand(1);
  remote->fallthrough();

  auto options = std::make_shared<RemoteOptions>();
  CLI::App* make = remote->add_subcommand("add", "Add it to the git repository here");
  make->add_option("service", options->service, "The service's name (the folder's)");
  make->add_option("--remote", options->remote, "What git shall call it (hob)");
  refuse_empty_values(*make);
  on_run(*make, context,
         [&context, options]() -> Async<Result<void>> { return add(context, *options); });

  CLI::App* tell = remote->add_subcommand("show", "Its address");
  tell->add_option("service", options->service, "The service's name (the folder's)");
  refuse_empty_values(*tell);
  on_run(*tell, context,
         [&context, options]() -> Async<Result<void>> { return show(context, *options); });

  auto operation = std::make_shared<std::string>();
  CLI::App* credential = remote->add_subcommand("credential", "For git, which asks it");
  credential->group("");  // git's, not people's
  credential->add_option("operation", *operation)->required();
  on_run(*credential, context, [&context, operation]() -> Async<Result<void>> {
    return answer_credential(context, *operation);
  });
}

}  // namespace hob::cli
