// hob env: what a shell needs so that stock AWS tools speak to this instance.
#include <CLI/App.hpp>
#include <boost/json.hpp>
#include <cstdio>

#include "cli/commands.h"
#include "cli/local_certificate.h"
#include "cli/terminal.h"

namespace hob::cli {

void add_env(CLI::App& program, Context& context) {
  CLI::App* command =
      program.add_subcommand("env", "Print shell settings for AWS's tools: eval \"$(hob env)\"");
  on_run(*command, context, [&context]() -> Async<Result<void>> {
    HOB_CO_TRY(Instance instance, context.instance());
    HOB_CO_TRY(Credentials credentials, load_credentials(instance));
    const std::vector<std::pair<std::string, std::string>> variables = {
        {"AWS_ACCESS_KEY_ID", credentials.access_key},
        {"AWS_SECRET_ACCESS_KEY", credentials.secret_key},
        {"AWS_REGION", instance.region},
        {"AWS_DEFAULT_REGION", instance.region},
        {"AWS_ENDPOINT_URL", instance.endpoint()},
        {"HOB_CA_FILE", authority_path(instance).string()},
    };
    if (context.json) {
      boost::json::object object;
      for (const auto& [name, value] : variables) object[name] = value;
      printf("%s\n", boost::json::serialize(object).c_str());
      co_return Result<void>{};
    }
    for (const auto& [name, value] : variables)
      printf("export %s=%s\n", name.c_str(), shell_quoted(value).c_str());
    printf("# services: https://SUBDOMAIN.%s.%s%s (hob ps), vouched for by HOB_CA_FILE\n",
           instance.region.c_str(), kLocalDomain,
           instance.https_port == 443 ? "" : fmt::format(":{}", instance.https_port).c_str());
    // A token of another session would be sent along with our keys.
    printf("unset AWS_SESSION_TOKEN AWS_PROFILE\n");
    printf("aws() { command aws --endpoint-url \"$AWS_ENDPOINT_URL\" \"$@\"; }\n");
    co_return Result<void>{};
  });
}

}  // namespace hob::cli
