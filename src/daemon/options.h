// What the supervisor tells a daemon on its command line. Descriptors are inherited; -1: not given.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/async.h"
#include "base/result.h"

namespace hob::daemon {

struct Options {
  std::string role{};            // control, host, edge
  std::filesystem::path data{};  // the instance's directory
  std::string instance{};        // 6 hex
  std::string region = "us-east-1";
  std::string zone = "us-east-1a";
  std::filesystem::path link{};  // path of control's socket for hosts and edges
  int ready_fd = -1;             // "version V", "prepared", "ready" are written here, a line each
  int metrics_fd = -1;           // listening: GET /metrics (host, edge)
  int own_metrics_fd = -1;       // the same of this process alone, while it drains (edge)
  int api_fd = -1;               // listening (control)
  int link_fd = -1;              // listening (control)
  int credentials_fd = -1;       // the first account's keys, JSON (control)
  int http_fd = -1;              // listening (edge)
  int https_fd = -1;             // listening (edge)
  int access_log_fd = -1;        // for reading and appending (edge)
  int access_log_previous_fd = -1;  // for writing (edge)
  int hold_fd = -1;              // listening: where edges hold tasks awake (host)
  std::filesystem::path host_socket{};  // path of that socket (edge)
  uint16_t api_port = 4566;
  uint16_t http_port = 8080;
  std::string store = "sqlite";
  bool takes_over = false;  // from an edge that still serves (edge)
  std::string acme_directory{};  // URL (control); empty: domains get authorities of their own
  std::string acme_contact{};
  std::string acme_ca_file{};
  // Of an account that the authority made; empty: none. Its key is control/acme-eab.key.
  std::string acme_eab_kid{};
  std::string acme_way = "http-01";  // or tls-alpn-01
  std::string resolver{};            // "127.0.0.1:8053"; empty: /etc/resolv.conf's (control)
  std::string ocsp_responders = "public";  // or any (control)
  uid_t edge_uid = 0;  // whose links are an edge's (control, host)
  double cpu_overcommit = 0;  // 0: the default
  double memory_overcommit = 0;
  bool microvms = false;  // tasks start in them (host)
  bool can_microvm = false;  // those that ask for it do (host)
  bool tear_down = false;  // host: remove all of the instance from this machine, then end
};

// Each builds its role, runs until it is cancelled (the root scope of main), and has ended
// everything when it returns.
Async<Result<void>> run_control(Options options);
Async<Result<void>> run_host(Options options);
Async<Result<void>> run_edge(Options options);
// For an instance without daemons: stops its tasks and removes what they left on this machine.
// Idempotent.
Async<Result<void>> run_tear_down(Options options);

}  // namespace hob::daemon
