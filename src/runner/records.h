// What runner stores. Keys are in runner/keys.h. Encoded in records.cc.
//
// The API writes a Service together with the Operation that is to make it so; the controller
// (decide.h) moves both on.
#pragma once

#include <boost/describe.hpp>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "link/messages.h"

namespace hob::runner {

enum class ServiceStatus {
  kOperationInProgress,
  kRunning,
  kCreateFailed,
  kPaused,
  kDeleted,
  kDeleteFailed
};
BOOST_DESCRIBE_ENUM(ServiceStatus, kOperationInProgress, kRunning, kCreateFailed, kPaused, kDeleted,
                    kDeleteFailed)

enum class OperationType {
  kCreateService,
  kStartDeployment,
  kUpdateService,
  kPauseService,
  kResumeService,
  kDeleteService
};
BOOST_DESCRIBE_ENUM(OperationType, kCreateService, kStartDeployment, kUpdateService, kPauseService,
                    kResumeService, kDeleteService)

enum class OperationStatus {
  kPending,
  kInProgress,
  kSucceeded,
  kFailed,
  kRollbackInProgress,
  kRollbackFailed,
  kRollbackSucceeded
};
BOOST_DESCRIBE_ENUM(OperationStatus, kPending, kInProgress, kSucceeded, kFailed,
                    kRollbackInProgress, kRollbackFailed, kRollbackSucceeded)

// Which auto scaling configuration a service uses: one revision, by its id.
struct ScalingReference {
  std::string name{};
  int revision = 1;
  std::string id{};
  bool operator==(const ScalingReference&) const = default;
};
BOOST_DESCRIBE_STRUCT(ScalingReference, (), (name, revision, id))

// A service's CodeRepository, as it was given.
struct CodeSource {
  std::string repository_url{};
  std::string branch{};
  std::optional<std::string> source_directory{};
  bool from_file = true;  // apprunner.yaml alone says the rest; else the members below, never it
  std::string runtime{};  // NODEJS_22
  std::optional<std::string> build_command{};
  std::optional<std::string> start_command{};
  std::optional<std::string> port{};
  bool operator==(const CodeSource&) const = default;
};
BOOST_DESCRIBE_STRUCT(CodeSource, (),
                      (repository_url, branch, source_directory, from_file, runtime, build_command,
                       start_command, port))

// What UpdateService can change, and so what a failed update goes back to. `optional` where AWS
// answers a member only once it was given.
struct Configuration {
  std::string image{};       // ImageIdentifier as given, or what was built of `code` last
  std::string image_type{};  // ECR, ECR_PUBLIC
  bool has_image_configuration = false;
  std::optional<std::string> port{};
  std::map<std::string, std::string> environment{};
  std::optional<std::string> start_command{};
  std::optional<std::string> access_role_arn{};
  std::optional<bool> auto_deployments{};  // as answered; absent: never said and not on by itself
  int cpu = 1024;
  int memory_mib = 2048;
  std::optional<std::string> instance_role_arn{};
  link::ProbeProtocol health_protocol = link::ProbeProtocol::kTcp;
  std::string health_path = "/";
  int health_interval = 5;  // seconds, as the next
  int health_timeout = 2;
  int healthy_threshold = 1;
  int unhealthy_threshold = 5;
  ScalingReference scaling{};
  std::optional<bool> observability{};  // ObservabilityEnabled, once it was set
  std::string observability_arn{};      // of the revision that goes with it; empty: not enabled
  std::optional<CodeSource> code{};     // then the image is made of it
  bool operator==(const Configuration&) const = default;
};
BOOST_DESCRIBE_STRUCT(Configuration, (),
                      (image, image_type, has_image_configuration, port, environment, start_command,
                       access_role_arn, auto_deployments, cpu, memory_mib, instance_role_arn,
                       health_protocol, health_path, health_interval, health_timeout,
                       healthy_threshold, unhealthy_threshold, scaling, observability,
                       observability_arn, code))

struct Service {
  std::string account{};
  std::string region{};
  std::string id{};  // 32 hex; the cluster service's name, too
  std::string name{};
  std::string subdomain{};
  std::string url{};  // a bare host name
  ServiceStatus status = ServiceStatus::kOperationInProgress;
  Configuration configuration{};
  std::optional<Configuration> previous{};  // what a failed update goes back to; only while it runs
  std::string operation{};                  // the one in progress; empty: none
  // The digest the image's tag had when it was last deployed or tried: only another one deploys by
  // itself, so an image that fails is tried once.
  std::string digest_tried{};
  std::string digest_tried_previous{};  // this and the next go with `previous`
  // The tags that belong to a version (extensions.h), of the one before; absent: they have not been
  // changed with it.
  std::optional<std::map<std::string, std::string>> version_tags_previous{};
  bool ever_ran = false;   // false: a failed update has nothing to go back to
  int revision = 0;        // the one that serves, or served last; 0: none yet
  int revisions_made = 0;  // the highest number given
  // Custom domains' host names that lead here, each with the id of the certificate shown for it.
  std::map<std::string, std::string> custom_hosts{};
  std::map<std::string, std::string> tags{};
  Duration start_time{0};       // of its tasks, from ordered to healthy, as last seen; 0: never
  bool starts_failing = false;  // the event log says so; what works again says that
  int64_t events_logged =
      0;  // lines of the event log so far: their position, so that none is written twice
  Instant created_at{};
  Instant updated_at{};
  std::optional<Instant> deleted_at{};
};
BOOST_DESCRIBE_STRUCT(Service, (),
                      (account, region, id, name, subdomain, url, status, configuration, previous,
                       operation, digest_tried, digest_tried_previous, ever_ran, tags, start_time,
                       starts_failing, events_logged, created_at, updated_at, deleted_at, revision,
                       revisions_made, custom_hosts, version_tags_previous))

// What an operation did, or does.
struct OperationStep {
  std::string name{};    // "SCALE_UP", "PRODUCTION_TRAFFIC_SHIFT 10%", "BAKE_TIME"
  std::string result{};  // as the operation's status was when it ended; empty: it goes on
  Instant started_at{};
  std::optional<Instant> ended_at{};
  bool operator==(const OperationStep&) const = default;
};
BOOST_DESCRIBE_STRUCT(OperationStep, (), (name, result, started_at, ended_at))

struct Operation {
  std::string id{};  // a UUID with dashes; without them, the id of the cluster deployment it makes
  std::string account{};
  std::string service{};
  OperationType type = OperationType::kCreateService;
  OperationStatus status = OperationStatus::kPending;
  bool applied = false;  // the cluster service was written: from here on its rollout decides
  // Somebody wants it to end without effect; what it did is undone.
  std::optional<Instant> cancel_requested_at{};
  // A roll-back: the revision whose image and configuration come back. 0: none.
  int rolls_back_to = 0;
  std::string digest{};      // of that revision's image, or the one built; empty: its tag says
  int build_attempts = 0;    // builds that were ordered; the last one may go on
  int64_t build_lines = 0;   // of that one's, in the deployment log
  std::string commit{};      // that it builds, once known
  std::string deployment{};  // cluster's, if it is another than its own: one that was kept
  int revision = 0;          // that it makes or brings back; 0: none, or not known yet
  std::string strategy{};    // of its deployment, as the tag says it
  std::optional<Instant> promote_requested_at{};  // somebody wants the rest of its steps left out
  std::vector<OperationStep> steps{};
  std::string reason{};      // why it failed, for people
  int64_t lines_logged = 0;  // of its deployment log, likewise
  Instant started_at{};
  Instant updated_at{};
  std::optional<Instant> ended_at{};
};
BOOST_DESCRIBE_STRUCT(Operation, (),
                      (id, account, service, type, status, applied, reason, lines_logged,
                       started_at, updated_at, ended_at, cancel_requested_at, rolls_back_to, digest,
                       deployment, revision, strategy, promote_requested_at, steps, build_attempts,
                       build_lines, commit))

enum class RevisionState { kSucceeded, kInProgress, kFailed };
BOOST_DESCRIBE_ENUM(RevisionState, kSucceeded, kInProgress, kFailed)

// What a service runs after a deployment, so that it can be had again. Its number is given when the
// deployment begins, and never again.
struct Revision {
  int number = 0;  // 1, 2, … within a service
  std::string account{};
  std::string service{};
  Configuration configuration{};
  std::string digest{};     // of its image; empty: not known, its tag says
  std::string operation{};  // that made it
  Instant created_at{};
  RevisionState state = RevisionState::kSucceeded;
  std::optional<link::RequestSettings> settings{};  // absent: an older version's, not known
  bool cancelled = false;  // kFailed, and because somebody wanted it to end
};
BOOST_DESCRIBE_STRUCT(Revision, (),
                      (number, account, service, configuration, digest, operation, created_at,
                       state, settings, cancelled))

enum class DomainStatus {
  kCreating,
  kCreateFailed,
  kActive,
  kDeleting,
  kDeleteFailed,
  kPendingCertificateDnsValidation,
  kBindingCertificate
};
BOOST_DESCRIBE_ENUM(DomainStatus, kCreating, kCreateFailed, kActive, kDeleting, kDeleteFailed,
                    kPendingCertificateDnsValidation, kBindingCertificate)

// An alias that proves, once it is in the DNS, that a host name is its owner's.
struct DomainProof {
  std::string name{};   // "_0a1b….shop.example.com", without a last dot, as the next
  std::string value{};  // what it is to be an alias for
  bool seen = false;
};
BOOST_DESCRIBE_STRUCT(DomainProof, (), (name, value, seen))

// A domain of people's own that leads to a service.
struct Domain {
  std::string account{};
  std::string service{};
  std::string name{};  // lower case; may begin with "*."
  bool www = true;     // "www." before it, too
  DomainStatus status = DomainStatus::kCreating;
  std::string reason{};  // why it is not further, for people
  std::vector<DomainProof> proofs{};
  bool proven = false;          // it is the owner's, by one way or another
  std::string certificate{};    // its own one's id in cluster; empty: none yet
  Instant renew_at{};           // of that
  std::string order_url{};      // ACME's, under way; empty: none
  std::string order_key{};      // PEM, goes with it: secret
  std::string authority{};      // of its own, where there is no ACME: PEM
  std::string authority_key{};  // secret
  int attempts = 0;             // to get a certificate that failed, in a row
  std::optional<Instant> next_attempt_at{};
  std::optional<Instant> next_look_at{};  // into the DNS
  std::optional<Instant> bound_at{};
  Instant created_at{};
};
BOOST_DESCRIBE_STRUCT(Domain, (),
                      (account, service, name, www, status, reason, proofs, proven, certificate,
                       renew_at, order_url, order_key, authority, authority_key, attempts,
                       next_attempt_at, next_look_at, bound_at, created_at))

// A certificate that its owner brought, for the account's domains that it covers. What edges show,
// with its key, is cluster's record of the same id.
struct GivenCertificate {
  std::string account{};
  std::string name{};  // within the account; replaced under it
  std::string id{};    // of cluster's record: the same whatever replaces it
  std::vector<std::string> host_names{};
  Instant not_before{};
  Instant not_after{};
  Instant added_at{};
  // Its owner wants it gone: shown only where there is no other yet.
  std::optional<Instant> removed_at{};
};
BOOST_DESCRIBE_STRUCT(GivenCertificate, (),
                      (account, name, id, host_names, not_before, not_after, added_at, removed_at))

struct AutoScalingConfiguration {
  std::string account{};
  std::string name{};
  int revision = 1;
  std::string id{};  // 32 hex
  int max_concurrency = 100;
  int min_size = 1;
  int max_size = 25;
  std::map<std::string, std::string> tags{};
  Instant created_at{};
  std::optional<Instant> deleted_at{};  // inactive since
};
BOOST_DESCRIBE_STRUCT(AutoScalingConfiguration, (),
                      (account, name, revision, id, max_concurrency, min_size, max_size, tags,
                       created_at, deleted_at))

// Names one configuration: the account's default, or (under a name) the revision made last.
struct ScalingPointer {
  ScalingReference scaling{};
};
BOOST_DESCRIBE_STRUCT(ScalingPointer, (), (scaling))

std::string word(ServiceStatus status);
std::string word(OperationType type);
std::string word(OperationStatus status);
std::string word(RevisionState state);
std::string word(DomainStatus status);

std::string encode(const Service& service);
std::string encode(const Operation& operation);
std::string encode(const Revision& revision);
std::string encode(const AutoScalingConfiguration& configuration);
std::string encode(const ScalingPointer& pointer);
std::string encode(const Domain& domain);
std::string encode(const GivenCertificate& certificate);
// Over what was read, so that fields a newer version wrote are kept.
std::string encode_over(const Service& service, std::string_view previous);
std::string encode_over(const Operation& operation, std::string_view previous);
std::string encode_over(const Revision& revision, std::string_view previous);
std::string encode_over(const AutoScalingConfiguration& configuration, std::string_view previous);
std::string encode_over(const Domain& domain, std::string_view previous);
std::string encode_over(const GivenCertificate& certificate, std::string_view previous);
Result<Service> decode_service(std::string_view json);
Result<Operation> decode_operation(std::string_view json);
Result<Revision> decode_revision(std::string_view json);
Result<AutoScalingConfiguration> decode_scaling(std::string_view json);
Result<ScalingPointer> decode_pointer(std::string_view json);
Result<Domain> decode_domain(std::string_view json);
Result<GivenCertificate> decode_given_certificate(std::string_view json);

}  // namespace hob::runner
