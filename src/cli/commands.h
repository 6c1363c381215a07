// The commands: each adds itself to the program.
#pragma once

#include <CLI/App.hpp>

#include "cli/context.h"

namespace hob::cli {

// All of them, and the options that all have.
void add_commands(CLI::App& program, Context& context);

void add_up(CLI::App& program, Context& context);
void add_down(CLI::App& program, Context& context);
void add_status(CLI::App& program, Context& context);
void add_upgrade(CLI::App& program, Context& context);
void add_env(CLI::App& program, Context& context);
void add_doctor(CLI::App& program, Context& context);
void add_build(CLI::App& program, Context& context);
void add_deploy(CLI::App& program, Context& context);
void add_ps(CLI::App& program, Context& context);
void add_logs(CLI::App& program, Context& context);
void add_exec(CLI::App& program, Context& context);
void add_open(CLI::App& program, Context& context);
void add_pause(CLI::App& program, Context& context);
void add_resume(CLI::App& program, Context& context);
void add_scale(CLI::App& program, Context& context);
void add_cancel(CLI::App& program, Context& context);
void add_rollback(CLI::App& program, Context& context);
void add_deploys(CLI::App& program, Context& context);
void add_promote(CLI::App& program, Context& context);
void add_revisions(CLI::App& program, Context& context);
void add_restart(CLI::App& program, Context& context);
void add_describe(CLI::App& program, Context& context);
void add_rm(CLI::App& program, Context& context);
void add_aws(CLI::App& program, Context& context);
void add_domain(CLI::App& program, Context& context);
void add_certificate(CLI::App& program, Context& context);
void add_trust(CLI::App& program, Context& context);
void add_connection(CLI::App& program, Context& context);
void add_remote(CLI::App& program, Context& context);
void add_registry(CLI::App& program, Context& context);
void add_kernel(CLI::App& program, Context& context);
void add_account(CLI::App& program, Context& context);

}  // namespace hob::cli
