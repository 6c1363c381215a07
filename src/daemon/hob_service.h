// What AWS has no API for and `hob` needs, as one more JSON service beside AWS's, signed and
// authorized alike: signing name and target prefix "hob".
//
// - CreateAccount {Name} -> {AccountId, AccessKeyId, SecretAccessKey}: the first account alone.
// - ListAccounts {} -> {Accounts: [{AccountId, Name}]}: the first account alone.
// - PutRegistryLogin {Registry, Username, Password}, DeleteRegistryLogin {Registry}.
// - ListRegistryLogins {} -> {Logins: [{Registry, Username}]}.
// - CancelOperation {ServiceArn} -> {OperationId}.
// - PromoteOperation {ServiceArn} -> {OperationId}.
// - RollBack {ServiceArn, Revision?} -> {OperationId, Revision}.
// - ListRevisions {ServiceArn} -> {Revisions: [{Revision, ImageIdentifier, Digest, CreatedAt,
// State,
//   HostName, Percent, Kept, Serves}]}, oldest first. HostName is empty, and Percent 0, where no
//   instance of it runs.
// - ListOperations {ServiceArn} -> {Operations: [{Id, Type, Status, Reason, Strategy, Revision,
//   RollsBackTo, Cancelled, StartedAt, EndedAt?, Steps: [{Name, Result, StartedAt, EndedAt?}]}]},
//   newest first.
// - CheckSettings {Tags: [{Key, Value}]} -> {}: whether a service may have these hob: tags.
// - CompleteConnection {ConnectionName, Username?, Token or SshPrivateKey} -> {}: the hand-shake of
//   a connection; again replaces what was given.
// - PutCertificate {Name?, Certificate, PrivateKey} -> {Name, HostNames, NotAfter}: PEM, the
// server's
//   own first; in the place of the one of that name.
// - DeleteCertificate {Name}: shown on where a domain has no other yet.
// - ListCertificates {} -> {Certificates: [{Name, Source, HostNames, ShownFor, NotAfter, RenewAt?,
//   Removed, Reason}]}: those added and those that Hob got for domains.
// - ListDomains {ServiceArn} -> {Domains: [{Name, Status, Proven, NeedsProof, Reason}]}: what
//   DescribeCustomDomains does not say.
// - ListServiceCapacity {} -> {Services: [{ServiceId, Desired, Awake, Asleep, Starting}]}: tasks of
//   the account's App Runner services, without those of versions that are only kept.
//
// Belongs to control's loop.
#pragma once

#include <memory>

#include "aws/service.h"
#include "identity/directory.h"
#include "image/catalog.h"
#include "runner/api.h"
#include "store/store.h"

namespace hob::daemon {

inline constexpr size_t kRegistryLoginBytesMax =
    16 * 1024;  // of a registry's name, a user's, a password

// All must outlive it.
std::unique_ptr<aws::Service> make_hob_service(identity::Directory& directory,
                                               image::Catalog& catalog, runner::Api& runner,
                                               store::Store& store);

}  // namespace hob::daemon
