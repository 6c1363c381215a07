#include <CLI/CLI.hpp>
#include <csignal>

#include "base/log.h"
#include "base/version.h"
#include "cli/commands.h"
#include "cli/context.h"

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
  hob::cli::add_status(program, context);
  hob::cli::add_env(program, context);
  hob::cli::add_doctor(program, context);
  hob::cli::add_deploy(program, context);
  hob::cli::add_ps(program, context);
  hob::cli::add_logs(program, context);
  hob::cli::add_open(program, context);
  hob::cli::add_pause(program, context);
  hob::cli::add_resume(program, context);
  hob::cli::add_rm(program, context);
  hob::cli::add_trust(program, context);
  hob::cli::add_registry(program, context);
  hob::cli::add_account(program, context);
  hob::cli::add_aws(program, context);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return program.exit(error) == 0 ? 0 : 2;  // 0: --help, --version
  }
  return context.exit_code;
}
