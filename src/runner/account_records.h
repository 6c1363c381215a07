// What an account keeps beside its services: connections to where source code is, and
// observability configurations. Keys are in runner/keys.h.
#pragma once

#include <boost/describe.hpp>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"

namespace hob::runner {

enum class ConnectionStatus { kPendingHandshake, kAvailable, kError, kDeleted };
BOOST_DESCRIBE_ENUM(ConnectionStatus, kPendingHandshake, kAvailable, kError, kDeleted)

// How a repository is fetched; opened only for the fetch.
enum class CredentialKind { kNone, kToken, kSshKey };
BOOST_DESCRIBE_ENUM(CredentialKind, kNone, kToken, kSshKey)

struct Connection {
  std::string account{};
  std::string name{};
  std::string id{};        // 32 hex
  std::string provider{};  // AWS's word: GITHUB, BITBUCKET; ours: GITLAB, GITEA
  ConnectionStatus status = ConnectionStatus::kPendingHandshake;
  CredentialKind credential = CredentialKind::kNone;
  std::string user{};    // that goes with a token
  std::string secret{};  // the token or the key, sealed (base/sealed.h) for this record's key
  std::map<std::string, std::string> tags{};
  Instant created_at{};
};
BOOST_DESCRIBE_STRUCT(Connection, (),
                      (account, name, id, provider, status, credential, user, secret, tags,
                       created_at))

struct ObservabilityConfiguration {
  std::string account{};
  std::string name{};
  int revision = 1;
  std::string id{};                     // 32 hex
  std::optional<std::string> vendor{};  // of traces; absent: none
  std::map<std::string, std::string> tags{};
  Instant created_at{};
  std::optional<Instant> deleted_at{};  // inactive since
};
BOOST_DESCRIBE_STRUCT(ObservabilityConfiguration, (),
                      (account, name, revision, id, vendor, tags, created_at, deleted_at))

std::string word(ConnectionStatus status);
std::string encode(const Connection& connection);
std::string encode(const ObservabilityConfiguration& configuration);
std::string encode_over(const Connection& connection, std::string_view previous);
std::string encode_over(const ObservabilityConfiguration& configuration, std::string_view previous);
Result<Connection> decode_connection(std::string_view json);
Result<ObservabilityConfiguration> decode_observability(std::string_view json);

}  // namespace hob::runner
