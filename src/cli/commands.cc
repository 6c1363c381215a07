#include "cli/commands.h"

#include <CLI/CLI.hpp>

namespace hob::cli {

void add_commands(CLI::App& program, Context& context) {
  program.require_subcommand(1);
  program.fallthrough();  // --data and --json may stand after the command
  program.add_option("--data", context.data, "The instance's directory")
      ->envname("HOB_DATA")
      ->capture_default_str();
  program.add_flag("--json", context.json, "Print JSON");
  add_up(program, context);
  add_down(program, context);
  add_upgrade(program, context);
  add_status(program, context);
  add_env(program, context);
  add_doctor(program, context);
  add_build(program, context);
  add_deploy(program, context);
  add_ps(program, context);
  add_logs(program, context);
  add_exec(program, context);
  add_open(program, context);
  add_pause(program, context);
  add_resume(program, context);
  add_scale(program, context);
  add_cancel(program, context);
  add_rollback(program, context);
  add_promote(program, context);
  add_deploys(program, context);
  add_revisions(program, context);
  add_restart(program, context);
  add_describe(program, context);
  add_rm(program, context);
  add_domain(program, context);
  add_certificate(program, context);
  add_trust(program, context);
  add_remote(program, context);
  add_connection(program, context);
  add_registry(program, context);
  add_kernel(program, context);
  add_account(program, context);
  add_aws(program, context);
}

}  // namespace hob::cli
