#include <CLI/CLI.hpp>
#include <csignal>

#include "base/log.h"
#include "base/nearest_word.h"
#include "base/version.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/terminal.h"

namespace {

// The first word that is no option: the command, if it were one.
std::string command_word(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--data") ++i;
    if (!word.starts_with("-")) return word;
  }
  return {};
}

// Answers whether the command line names a command that there is not, having said so.
bool refuse_unknown(const CLI::App& program, const std::string& word) {
  if (word.empty()) return false;
  std::vector<std::string> known;
  for (const CLI::App* command : program.get_subcommands(nullptr)) {
    if (command->get_name() == word) return false;
    known.push_back(command->get_name());
  }
  const std::string meant = hob::nearest_word(word, known);
  fprintf(stderr, "hob: there is no command '%s'%s; hob --help lists them\n",
          hob::cli::printable(word).c_str(),
          meant.empty() ? "" : (", did you mean 'hob " + meant + "'?").c_str());
  return true;
}

// `hob help`, `hob help COMMAND…`: as --help after it.
int print_help(const CLI::App& program, int argc, char** argv) {
  const CLI::App* at = &program;
  std::string above;  // what stands before its name
  for (int i = 2; i < argc && argv[i][0] != '-'; ++i) {
    const auto below =
        at->get_subcommands([word = std::string_view(argv[i])](const CLI::App* each) {
          return each->get_name() == word;
        });
    if (below.empty()) return refuse_unknown(program, argv[i]) ? 2 : 0;
    above += (above.empty() ? "" : " ") + at->get_name();
    at = below.front();
  }
  printf("%s", at->help(above).c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  hob::log::set_process("hob");
  hob::cli::Context context;
  CLI::App program("Hob runs container images as web services, through the tools of AWS.", "hob");
  program.require_subcommand(1);
  program.fallthrough();  // --data and --json may stand after the command
  program.add_option("--data", context.data, "The instance's directory")
      ->envname("HOB_DATA")
      ->capture_default_str();
  program.add_flag("--json", context.json, "Print JSON");
  program.set_version_flag("--version", std::string("hob ") + hob::kVersion);
  hob::cli::add_up(program, context);
  hob::cli::add_down(program, context);
  hob::cli::add_upgrade(program, context);
  hob::cli::add_status(program, context);
  hob::cli::add_env(program, context);
  hob::cli::add_doctor(program, context);
  hob::cli::add_build(program, context);
  hob::cli::add_deploy(program, context);
  hob::cli::add_ps(program, context);
  hob::cli::add_logs(program, context);
  hob::cli::add_open(program, context);
  hob::cli::add_pause(program, context);
  hob::cli::add_resume(program, context);
  hob::cli::add_scale(program, context);
  hob::cli::add_cancel(program, context);
  hob::cli::add_rollback(program, context);
  hob::cli::add_promote(program, context);
  hob::cli::add_deploys(program, context);
  hob::cli::add_revisions(program, context);
  hob::cli::add_restart(program, context);
  hob::cli::add_describe(program, context);
  hob::cli::add_rm(program, context);
  hob::cli::add_domain(program, context);
  hob::cli::add_certificate(program, context);
  hob::cli::add_trust(program, context);
  hob::cli::add_connection(program, context);
  hob::cli::add_remote(program, context);
  hob::cli::add_registry(program, context);
  hob::cli::add_kernel(program, context);
  hob::cli::add_account(program, context);
  hob::cli::add_aws(program, context);
  if (argc >= 2 && std::string_view(argv[1]) == "help") return print_help(program, argc, argv);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0 && refuse_unknown(program, command_word(argc, argv))) return 2;
    return program.exit(error) == 0 ? 0 : 2;  // 0: --help, --version
  }
  return context.exit_code;
}
