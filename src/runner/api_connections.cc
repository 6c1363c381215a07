// Connections: who may fetch source code, by name. AWS's hand-shake is done in its console; ours by
// giving a token or a deploy key (complete_connection).
#include <algorithm>

#include "aws/apprunner/errors.h"
#include "base/log.h"
#include "base/sealed.h"
#include "runner/api.h"
#include "runner/configuration.h"
#include "runner/keys.h"
#include "runner/paging.h"

namespace hob::runner {

namespace {

using namespace aws::apprunner;
using ConnectionRecord = runner::Connection;

aws::apprunner::Connection shown_connection(const std::string& region,
                                            const ConnectionRecord& connection) {
  return {.connection_name = connection.name,
          .connection_arn = arn_of(region, connection),
          .provider_type = connection.provider,
          .status = word(connection.status),
          .created_at = connection.created_at};
}

std::unexpected<Error> invalid_arn(const std::string& arn) {
  return invalid_request_exception(
      fmt::format("The connection ARN you specified isn't valid. ARN: '{}'", arn));
}
std::unexpected<Error> no_such_connection(const std::string& arn) {
  return resource_not_found_exception(
      fmt::format("Connection with the provided ARN does not exist: {}.", arn));
}

Result<void> check_credential(const GivenCredential& given) {
  const bool token = !given.token.reveal().empty();
  const bool key = !given.ssh_key.reveal().empty();
  if (token == key) return invalid_request_exception("Give either a token or an SSH private key.");
  const std::string& secret = token ? given.token.reveal() : given.ssh_key.reveal();
  if (secret.size() > kCredentialBytesMax) {
    return invalid_request_exception(
        fmt::format("A token or key has at most {} bytes.", kCredentialBytesMax));
  }
  if (token && std::ranges::any_of(secret, [](char c) { return c <= 0x20 || c == 0x7f; }))
    return invalid_request_exception(
        "A token has no spaces, line ends or other characters like it.");
  if (key && !(secret.starts_with("-----BEGIN ") && secret.find("PRIVATE KEY-----") < 40)) {
    return invalid_request_exception(
        "That is no SSH private key in PEM or OpenSSH's form (it begins with -----BEGIN … PRIVATE "
        "KEY-----).");
  }
  if (given.user.size() > kCredentialUserBytesMax ||
      std::ranges::any_of(given.user, [](char c) { return c <= 0x20 || c == 0x7f || c == ':'; }))
    return invalid_request_exception("The user name isn't valid.");
  return {};
}

}  // namespace

Async<Result<std::vector<Api::Stored<ConnectionRecord>>>> Api::connections(std::string account) {
  HOB_CO_TRY(store::Listing listing, co_await store_.list(connections_of(account)));
  std::vector<Stored<ConnectionRecord>> all;
  for (store::Entry& entry : listing.entries) {
    auto connection = decode_connection(entry.value);
    if (connection)
      all.push_back({.value = std::move(*connection), .entry = std::move(entry)});
    else
      log::error("record unreadable", {{"key", entry.key}, {"error", connection.error().message}});
  }
  co_return all;
}

Async<Result<Api::Stored<ConnectionRecord>>> Api::find_connection(std::string arn,
                                                                  aws::Caller caller) {
  const auto parsed = parse_arn(arn);
  if (!parsed || parsed->kind != "connection") co_return invalid_arn(arn);
  if (parsed->account != caller.account || parsed->region != options_.region)
    co_return no_such_connection(arn);
  HOB_CO_TRY(auto entry, co_await store_.get(connection_key(caller.account, parsed->name)));
  if (!entry) co_return no_such_connection(arn);
  HOB_CO_TRY(ConnectionRecord connection,
             context(decode_connection(entry->value), "record {}", entry->key));
  if (connection.id != parsed->id) co_return no_such_connection(arn);
  co_return Stored<ConnectionRecord>{.value = std::move(connection), .entry = std::move(*entry)};
}

Async<Result<CreateConnectionResponse>> Api::create_connection(CreateConnectionRequest request,
                                                               aws::Caller caller) {
  ConnectionRecord connection{.account = caller.account,
                              .name = request.connection_name,
                              .id = random_hex(random_, 32),
                              .provider = request.provider_type,
                              .created_at = clock_.now()};
  HOB_CO_TRY(connection.tags,
             apply_tags({}, request.tags.value_or(std::vector<Tag>{}), TaggedKind::kConnection));
  HOB_CO_TRY(const auto others, co_await connections(caller.account));
  if (others.size() >= kConnectionsMax) {
    co_return service_quota_exceeded_exception(
        fmt::format("An account has at most {} connections.", kConnectionsMax));
  }
  const std::string path = connection_key(caller.account, connection.name);
  store::Transaction transaction;
  transaction.expect[path] = store::kAbsent;
  transaction.put[path] = encode(connection);
  const auto committed = co_await store_.commit(std::move(transaction));
  if (!committed && committed.error().code == Code::kConflict) {
    co_return invalid_request_exception(
        fmt::format("Connection with the provided name already exists: {}.", connection.name));
  }
  HOB_CO_CHECK(committed);
  co_return CreateConnectionResponse{.connection = shown_connection(options_.region, connection)};
}

Async<Result<ListConnectionsResponse>> Api::list_connections(ListConnectionsRequest request,
                                                             aws::Caller caller) {
  HOB_CO_TRY(const auto all, co_await connections(caller.account));
  std::vector<std::pair<std::string, ConnectionSummary>> items;
  for (const Stored<ConnectionRecord>& each : all) {
    if (request.connection_name && *request.connection_name != each.value.name) continue;
    const auto shown = shown_connection(options_.region, each.value);
    items.emplace_back(each.value.name, ConnectionSummary{.connection_name = shown.connection_name,
                                                          .connection_arn = shown.connection_arn,
                                                          .provider_type = shown.provider_type,
                                                          .status = shown.status,
                                                          .created_at = shown.created_at});
  }
  HOB_CO_TRY(auto page,
             page_of(std::move(items), request.next_token, request.max_results, "ListConnections"));
  co_return ListConnectionsResponse{.connection_summary_list = std::move(page.items),
                                    .next_token = std::move(page.next_token)};
}

Async<Result<DeleteConnectionResponse>> Api::delete_connection(DeleteConnectionRequest request,
                                                               aws::Caller caller) {
  for (int attempt = 0; attempt < kConflictRetriesMax; ++attempt) {
    HOB_CO_TRY(auto found, co_await find_connection(request.connection_arn, caller));
    store::Transaction transaction;
    transaction.expect[found.entry.key] = found.entry.revision;
    transaction.remove.push_back(found.entry.key);
    const auto committed = co_await store_.commit(std::move(transaction));
    if (committed) {
      found.value.status = ConnectionStatus::kDeleted;
      co_return DeleteConnectionResponse{.connection =
                                             shown_connection(options_.region, found.value)};
    }
    if (committed.error().code != Code::kConflict) co_return fail(committed.error());
  }
  co_return overtaken();
}

Async<Result<void>> Api::complete_connection(std::string name, GivenCredential given,
                                             aws::Caller caller) {
  HOB_CO_CHECK(check_credential(given));
  const std::string path = connection_key(caller.account, name);
  for (int attempt = 0; attempt < kConflictRetriesMax; ++attempt) {
    HOB_CO_TRY(const auto entry, co_await store_.get(path));
    if (!entry) {
      co_return resource_not_found_exception(
          fmt::format("There is no connection {}. Create it first.", name));
    }
    HOB_CO_TRY(ConnectionRecord connection,
               context(decode_connection(entry->value), "record {}", path));
    const bool token = !given.token.reveal().empty();
    connection.credential = token ? CredentialKind::kToken : CredentialKind::kSshKey;
    connection.user = given.user;
    connection.secret = seal(options_.sealing_key, random_, path,
                             token ? given.token.reveal() : given.ssh_key.reveal());
    connection.status = ConnectionStatus::kAvailable;
    store::Transaction transaction;
    transaction.expect[path] = entry->revision;
    transaction.put[path] = encode_over(connection, entry->value);
    const auto committed = co_await store_.commit(std::move(transaction));
    if (committed) {
      log::info("connection completed", {{"connection", name}, {"account", caller.account}});
      co_return Result<void>();
    }
    if (committed.error().code != Code::kConflict) co_return fail(committed.error());
  }
  co_return overtaken();
}

Async<Result<GivenCredential>> Api::credential_of(std::string arn, aws::Caller caller) {
  HOB_CO_TRY(const auto found, co_await find_connection(arn, caller));
  const ConnectionRecord& connection = found.value;
  if (connection.status != ConnectionStatus::kAvailable) {
    co_return invalid_request_exception(
        fmt::format("The connection {} is {}: complete it first (hob connection complete {}).",
                    connection.name, word(connection.status), connection.name));
  }
  HOB_CO_TRY(Secret<std::string> secret,
             context(open_sealed(options_.sealing_key, found.entry.key, connection.secret),
                     "connection {}", connection.name));
  GivenCredential given{.user = connection.user};
  (connection.credential == CredentialKind::kToken ? given.token : given.ssh_key) =
      std::move(secret);
  co_return given;
}

}  // namespace hob::runner
