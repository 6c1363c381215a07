// hob aws …: the stock CLI, pointed at this instance.
#include <unistd.h>

#include <CLI/App.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "cli/commands.h"

namespace hob::cli {
namespace {

Result<void> exec_aws(const Context& context, const std::vector<std::string>& arguments) {
  HOB_TRY(const Instance instance, context.instance());
  HOB_TRY(const Credentials credentials, load_credentials(instance));
  setenv("AWS_ACCESS_KEY_ID", credentials.access_key.c_str(), 1);
  setenv("AWS_SECRET_ACCESS_KEY", credentials.secret_key.c_str(), 1);
  setenv("AWS_REGION", instance.region.c_str(), 1);
  setenv("AWS_DEFAULT_REGION", instance.region.c_str(), 1);
  setenv("AWS_ENDPOINT_URL", instance.endpoint().c_str(), 1);
  setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
  for (const char* name : {"AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"})
    unsetenv(name);
  const std::string endpoint = instance.endpoint();
  std::vector<std::string> words = {"aws", "--endpoint-url", endpoint};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  execvp("aws", argv.data());
  if (errno == ENOENT)
    return fail(Code::kNotFound, "the AWS CLI is not installed: apt-get install awscli");
  return fail_errno(errno, "running aws");
}

}  // namespace

void add_aws(CLI::App& program, Context& context) {
  CLI::App* command = program.add_subcommand(
      "aws", "The stock AWS CLI, pointed here: hob aws apprunner list-services");
  // All that follows is for aws, its own options too.
  command->prefix_command();
  command->fallthrough(false);
  command->callback([&context, command] {
    const Result<void> done = exec_aws(context, command->remaining());
    if (done) return;
    fprintf(stderr, "hob aws: %s\n", done.error().message.c_str());
    context.exit_code = 1;
  });
}

}  // namespace hob::cli
