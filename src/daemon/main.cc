#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <csignal>
#include <cstdlib>
#include <exception>

#include "base/log.h"
#include "base/version.h"
#include "daemon/options.h"
#include "daemon/process.h"

namespace {

using hob::Async;
using hob::Result;
using hob::daemon::Options;

Async<Result<void>> run_role(Options options) {
  if (options.tear_down) return hob::daemon::run_tear_down(options);
  hob::daemon::tell_supervisor(options, std::string("version ") + hob::kVersion);
  if (options.role == "control") return hob::daemon::run_control(options);
  if (options.role == "host") return hob::daemon::run_host(options);
  return hob::daemon::run_edge(options);
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  if (const char* level = std::getenv("HOB_LOG");
      level != nullptr && std::string_view(level) == "debug") {
    hob::log::set_level(hob::log::Level::kDebug);
  }
  Options options;
  CLI::App program("Hob's daemon; hob up starts one for each role.", "hobd");
  program.set_version_flag("--version", std::string("hobd ") + hob::kVersion);
  program.add_option("--role", options.role)
      ->required()
      ->check(CLI::IsMember({"control", "host", "edge"}));
  program.add_option("--data", options.data)->required();
  program.add_option("--instance", options.instance)->required();
  program.add_option("--region", options.region);
  program.add_option("--zone", options.zone);
  program.add_option("--link", options.link);
  program.add_option("--ready-fd", options.ready_fd);
  program.add_option("--metrics-fd", options.metrics_fd);
  program.add_option("--own-metrics-fd", options.own_metrics_fd);
  program.add_option("--api-fd", options.api_fd);
  program.add_option("--link-fd", options.link_fd);
  program.add_option("--credentials-fd", options.credentials_fd);
  program.add_option("--http-fd", options.http_fd);
  program.add_option("--https-fd", options.https_fd);
  program.add_option("--access-log-fd", options.access_log_fd);
  program.add_option("--access-log-previous-fd", options.access_log_previous_fd);
  program.add_option("--hold-fd", options.hold_fd);
  program.add_option("--host-socket", options.host_socket);
  program.add_option("--api-port", options.api_port);
  program.add_option("--http-port", options.http_port);
  program.add_option("--store", options.store);
  program.add_option("--acme-directory", options.acme_directory);
  program.add_option("--acme-contact", options.acme_contact);
  program.add_option("--acme-ca-file", options.acme_ca_file);
  program.add_option("--acme-eab-kid", options.acme_eab_kid);
  program.add_option("--acme-challenge", options.acme_way);
  program.add_option("--resolver", options.resolver);
  program.add_option("--ocsp-responders", options.ocsp_responders);
  program.add_option("--edge-uid", options.edge_uid);
  program.add_option("--cpu-overcommit", options.cpu_overcommit);
  program.add_option("--memory-overcommit", options.memory_overcommit);
  program.add_flag("--takes-over", options.takes_over);
  program.add_flag("--microvms", options.microvms);
  program.add_flag("--can-microvm", options.can_microvm);
  program.add_flag("--tear-down", options.tear_down);
  CLI11_PARSE(program, argc, argv);
  hob::log::set_process(options.role);

  boost::asio::io_context loop(1);
  Result<void> outcome;
  boost::asio::co_spawn(loop, run_role(options),
                        [&](std::exception_ptr exception, Result<void> result) {
                          if (exception) std::rethrow_exception(exception);
                          outcome = std::move(result);
                          loop.stop();
                        });
  loop.run();
  if (!outcome) {
    hob::log::error("cannot go on", {{"error", outcome.error().message}});
    return 1;
  }
  return 0;
}
