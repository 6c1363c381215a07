// What is on disk about one Hob instance: where everything is, its ports, its first account's keys.
//
//   DATA/               0711 root
//     instance.json     0644  Instance
//     credentials.json  0600  Credentials
//     control/          0700 kControlUid   the store, the registry's blobs
//     edge/             0700 kEdgeUid      the last route table
//     host/             0700 root          images, sandboxes
//     log/              0700 root          ROLE.log and the edge's access.log, rotated
//     tls/, certificates/                  local_certificate.h
//     run/              0755 root          sockets, the lock, namespaces' handles
// All of this blocks; it is for `hob`, which is one thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/file.h"
#include "base/result.h"

namespace hob::cli {

// Users of their own without names: nothing on the machine knows these numbers, and files of theirs
// are nobody else's.
inline constexpr uid_t kControlUid = 64901;
inline constexpr uid_t kEdgeUid = 64902;

inline constexpr const char* kDefaultData = "/var/lib/hob";
inline constexpr const char* kFirstAccount = "000000000001";

struct Instance {
  std::filesystem::path data{};  // absolute; not in the file
  std::string id{};              // 6 hex, names all it makes on the machine ("hob-<id>")
  std::string region = "us-east-1";
  uint16_t api_port = 4566;
  uint16_t http_port = 8080;
  uint16_t https_port = 8443;
  bool is_public = false;  // services listen on all addresses; the API never does
  std::string store = "sqlite";
  std::string isolation{};    // "container", "microvm"; empty: microvm where it can be
  double cpu_overcommit = 0;  // 0: the host's default
  double memory_overcommit = 0;
  // Who issues certificates for custom domains (ACME); empty: each gets an authority of its own.
  std::string acme_directory{};  // URL
  std::string acme_contact{};    // mail address
  bool acme_ca = false;          // tls/acme-ca.pem vouches for the server, not the system's
  // Of an account that the authority made (EAB); empty: none. Its key is acme_eab_key_file().
  std::string acme_eab_kid{};
  std::string acme_challenge{};  // http-01 (empty, too), tls-alpn-01
  std::string resolver{};         // whom to ask about domains; empty: /etc/resolv.conf's
  std::string ocsp_responders{};  // public (empty, too), any

  std::filesystem::path acme_ca_file() const { return data / "tls" / "acme-ca.pem"; }
  std::filesystem::path acme_eab_key_file() const { return data / "control" / "acme-eab.key"; }
  // As `hob kernel install` leaves it.
  std::filesystem::path kernel() const { return data / "kernel" / "vmlinuz"; }
  std::filesystem::path run() const { return data / "run"; }
  std::filesystem::path log(const std::string& role) const {
    return data / "log" / (role + ".log");
  }
  std::string api_address() const { return "127.0.0.1:" + std::to_string(api_port); }
  std::string endpoint() const { return "http://" + api_address(); }
};

struct Credentials {
  std::string account{};
  std::string access_key{};
  std::string secret_key{};
};

// kNotFound: no instance was ever started there.
Result<Instance> load_instance(const std::filesystem::path& data);
Result<void> save_instance(const Instance& instance);
// kDenied: only root may read them.
Result<Credentials> load_credentials(const Instance& instance);
// Durably, readable by `owner` alone; in one step for who looks at any moment.
Result<void> write_owned(const std::filesystem::path& path, std::string_view text, uid_t owner);
// Makes the directories and the first account's keys if they are missing. Idempotent.
Result<void> prepare_data(const Instance& instance);
// A fresh id.
std::string new_instance_id();

// Held by the supervisor for its life. kExists: another one runs.
Result<Fd> lock_instance(const Instance& instance);
bool is_running(const Instance& instance);

}  // namespace hob::cli
