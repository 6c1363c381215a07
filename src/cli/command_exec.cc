// hob exec: a command in a running task of a service.
#include <fmt/core.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <algorithm>
#include <boost/json.hpp>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/programs.h"
#include "cli/services.h"

namespace hob::cli {
namespace {

namespace fs = std::filesystem;

constexpr size_t kTaskFileBytesMax = 1 << 20;

struct ExecOptions {
  std::string service{};
  std::string task{};  // the beginning of its id; empty: any
  std::vector<std::string> words{};
};

// What the host agent keeps of its tasks, one file each; those of the service, by id.
std::vector<std::string> tasks_of(const fs::path& data, const std::string& service) {
  std::vector<std::string> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(data / "host" / "tasks", ignored)) {
    const auto text = read_file(entry.path(), kTaskFileBytesMax);
    if (!text) continue;
    boost::system::error_code error;
    const boost::json::value task = boost::json::parse(*text, error);
    const boost::json::value* of = task.find_pointer("/assignment/service", error);
    if (of == nullptr || !of->is_string() || of->as_string().c_str() != service) continue;
    const std::string id = entry.path().stem();
    if (fs::exists(data / "host" / "sandbox" / "tasks" / id / "running", ignored))
      found.push_back(id);
  }
  std::ranges::sort(found);
  return found;
}

// Replaces this process.
Result<void> execute(std::vector<std::string> words) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::fflush(nullptr);
  ::execv(argv[0], argv.data());
  return fail_errno(errno, words.front());
}

Async<Result<void>> exec(const Context& context, ExecOptions options) {
  if (::geteuid() != 0) co_return fail(Code::kDenied, "a command in a task takes root; use sudo");
  HOB_CO_TRY(Api api, Api::open(context));
  const Instance instance = api.instance();
  HOB_CO_TRY(const ServiceLine service, co_await find_service(api, options.service));
  std::vector<std::string> tasks = tasks_of(instance.data, service.id);
  std::erase_if(tasks, [&](const std::string& id) { return !id.starts_with(options.task); });
  if (tasks.empty()) {
    co_return fail(Code::kNotFound, "{} has no task{} that runs on this host", service.name,
                   options.task.empty() ? "" : " " + options.task);
  }
  const fs::path bundle = instance.data / "host" / "sandbox" / "tasks" / tasks.front();
  std::error_code ignored;
  if (!fs::exists(bundle / "vm.json", ignored)) {
    co_return fail(Code::kInvalid,
                   "task {} runs in a container, not in a microVM; there it is crun that does it: "
                   "crun --root /run/hob-{}/crun exec --tty {} COMMAND",
                   tasks.front(), instance.id, tasks.front());
  }
  const bool terminal = ::isatty(STDIN_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0;
  HOB_CO_TRY(const fs::path program, find_own_program("hob-vm-run"));
  std::vector<std::string> words = {program, "exec", bundle, terminal ? "terminal" : "pipes"};
  words.insert(words.end(), options.words.begin(), options.words.end());
  co_return execute(std::move(words));
}

}  // namespace

void add_exec(CLI::App& program, Context& context) {
  CLI::App* command = program.add_subcommand(
      "exec", "Execute a command in a task that runs in a microVM: hob exec hello -- sh");
  auto options = std::make_shared<ExecOptions>();
  command->add_option("service", options->service, "Its name")->required();
  command->add_option("--task", options->task, "The beginning of a task's id (the first one)");
  command->add_option("command", options->words, "Behind --")->required();
  on_run(*command, context, [&context, options] { return exec(context, *options); });
}

}  // namespace hob::cli
