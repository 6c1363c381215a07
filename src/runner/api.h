// App Runner's API over the records: one commit a mutation, so that what was answered with success
// stays.
//
// Nothing here waits for anything to happen underneath: the controller does what was written.
// Belongs to control's loop. Behaviour as AWS's App Runner, word for word where its texts are
// known; what is not built is refused and says so.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "aws/apprunner/handler.h"
#include "base/certificate.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/time.h"
#include "runner/account_records.h"
#include "runner/arns.h"
#include "runner/configuration.h"
#include "runner/images.h"
#include "runner/records.h"
#include "store/store.h"

namespace hob::runner {

inline constexpr size_t kServicesMax = 1'000;  // an account's, as long as it is not raised
inline constexpr size_t kScalingConfigurationsMax = 1'000;  // active ones, an account's
inline constexpr size_t kConnectionsMax = 100;              // an account's
inline constexpr size_t kObservabilitiesMax = 100;          // active ones, an account's
inline constexpr size_t kCredentialBytesMax = 16 * 1024;    // a token, or a key of 4,096 bits
inline constexpr size_t kCredentialUserBytesMax = 255;
inline constexpr int kMaxSizeMax = 1'000;  // tasks of one service
inline constexpr int kConflictRetriesMax =
    20;  // a mutation that keeps being overtaken fails as unavailable
inline constexpr Duration kScalingKept =
    std::chrono::hours(1);  // an inactive configuration, to be described

struct ApiOptions {
  std::string region = "us-east-1";
  std::string url_suffix = "hob.localhost";  // a service's host name is SUBDOMAIN.REGION.<this>
  // What connections' credentials are sealed with (base/sealed.h).
  Secret<std::string> sealing_key{};
};

// What a connection is completed with: a token or a key, not both.
struct GivenCredential {
  std::string user{};  // that goes with a token; empty: the provider's usual one
  Secret<std::string> token{};
  Secret<std::string> ssh_key{};  // private, PEM or OpenSSH's form
};

// One of a service's revisions.
struct RevisionLine {
  Revision revision{};
  bool serves = false;  // now, or it served last
  // While it has tasks: where it alone answers, and its share of the service's requests.
  std::string host_name{};
  int percent = 0;
  bool kept = false;  // it is the way back
};

// One certificate of the account's, from whomever.
struct CertificateLine {
  std::string name{};
  std::string source{};  // "file", "ACME", "own authority"
  std::vector<std::string> host_names{};
  std::vector<std::string> shown_for{};  // host names of services
  Instant not_after{};
  std::optional<Instant> renew_at{};  // by Hob
  bool removed = false;               // shown only where there is no other yet
  std::string reason{};               // what is wrong with it, for people
};

class Api final : public aws::apprunner::Handler {
 public:
  // All must outlive it.
  Api(store::Store& store, Clock& clock, Random& random, Images& images, ApiOptions options);

  Async<Result<aws::apprunner::CreateServiceResponse>> create_service(
      aws::apprunner::CreateServiceRequest request, aws::Caller caller) override;
  Async<Result<aws::apprunner::DescribeServiceResponse>> describe_service(
      aws::apprunner::DescribeServiceRequest request, aws::Caller caller) override;
  Async<Result<aws::apprunner::ListServicesResponse>> list_services(
      aws::apprunner::ListServicesRequest request, aws::Caller caller) override;
  Async<Result<aws::apprunner::UpdateServiceResponse>> update_service(
      aws::apprunner::UpdateServiceRequest request, aws::Caller caller) override;
  Async<Result<aws::apprunner::DeleteServiceResponse>> delete_service(
      aws::apprunner::DeleteServiceRequest request, aws::Caller caller) override;
  Async<Result<aws::apprunner::PauseServiceResponse>> pause_service(
      aws::apprunner::PauseServiceRequest request, aws::Caller caller) override;
  Async<Result<aws::apprunner::ResumeServiceResponse>> resume_service(
      aws::apprunner::ResumeServiceRequest request, aws::Caller caller) override;
  Async<Result<aws::apprunner::StartDeploymentResponse>> start_deployment(
      aws::apprunner::StartDeploymentRequest request, aws::Caller caller) override;
  Async<Result<aws::apprunner::ListOperationsResponse>> list_operations(
      aws::apprunner::ListOperationsRequest request, aws::Caller caller) override;

  // In api_scaling.cc.
  Async<Result<aws::apprunner::CreateAutoScalingConfigurationResponse>>
  create_auto_scaling_configuration(aws::apprunner::CreateAutoScalingConfigurationRequest request,
                                    aws::Caller caller) override;
  Async<Result<aws::apprunner::DescribeAutoScalingConfigurationResponse>>
  describe_auto_scaling_configuration(
      aws::apprunner::DescribeAutoScalingConfigurationRequest request, aws::Caller caller) override;
  Async<Result<aws::apprunner::ListAutoScalingConfigurationsResponse>>
  list_auto_scaling_configurations(aws::apprunner::ListAutoScalingConfigurationsRequest request,
                                   aws::Caller caller) override;
  Async<Result<aws::apprunner::DeleteAutoScalingConfigurationResponse>>
  delete_auto_scaling_configuration(aws::apprunner::DeleteAutoScalingConfigurationRequest request,
                                    aws::Caller caller) override;
  Async<Result<aws::apprunner::UpdateDefaultAutoScalingConfigurationResponse>>
  update_default_auto_scaling_configuration(
      aws::apprunner::UpdateDefaultAutoScalingConfigurationRequest request,
      aws::Caller caller) override;
  Async<Result<aws::apprunner::ListServicesForAutoScalingConfigurationResponse>>
  list_services_for_auto_scaling_configuration(
      aws::apprunner::ListServicesForAutoScalingConfigurationRequest request,
      aws::Caller caller) override;

  // In api_connections.cc.
  Async<Result<aws::apprunner::CreateConnectionResponse>> create_connection(
      aws::apprunner::CreateConnectionRequest request, aws::Caller caller) override;
  Async<Result<aws::apprunner::ListConnectionsResponse>> list_connections(
      aws::apprunner::ListConnectionsRequest request, aws::Caller caller) override;
  Async<Result<aws::apprunner::DeleteConnectionResponse>> delete_connection(
      aws::apprunner::DeleteConnectionRequest request, aws::Caller caller) override;
  // Not AWS's: the hand-shake. Sealed before it is kept; completing again replaces it.
  // InvalidRequestException: says what is wrong with it. ResourceNotFoundException.
  Async<Result<void>> complete_connection(std::string name, GivenCredential given,
                                          aws::Caller caller);
  // Opened, for a fetch alone. InvalidRequestException: not completed yet.
  Async<Result<GivenCredential>> credential_of(std::string arn, aws::Caller caller);

  // In api_observability.cc.
  Async<Result<aws::apprunner::CreateObservabilityConfigurationResponse>>
  create_observability_configuration(
      aws::apprunner::CreateObservabilityConfigurationRequest request, aws::Caller caller) override;
  Async<Result<aws::apprunner::DescribeObservabilityConfigurationResponse>>
  describe_observability_configuration(
      aws::apprunner::DescribeObservabilityConfigurationRequest request,
      aws::Caller caller) override;
  Async<Result<aws::apprunner::ListObservabilityConfigurationsResponse>>
  list_observability_configurations(aws::apprunner::ListObservabilityConfigurationsRequest request,
                                    aws::Caller caller) override;
  Async<Result<aws::apprunner::DeleteObservabilityConfigurationResponse>>
  delete_observability_configuration(
      aws::apprunner::DeleteObservabilityConfigurationRequest request, aws::Caller caller) override;

  // In api_tags.cc.
  Async<Result<aws::apprunner::TagResourceResponse>> tag_resource(
      aws::apprunner::TagResourceRequest request, aws::Caller caller) override;
  Async<Result<aws::apprunner::UntagResourceResponse>> untag_resource(
      aws::apprunner::UntagResourceRequest request, aws::Caller caller) override;
  Async<Result<aws::apprunner::ListTagsForResourceResponse>> list_tags_for_resource(
      aws::apprunner::ListTagsForResourceRequest request, aws::Caller caller) override;

  // In api_domains.cc.
  Async<Result<aws::apprunner::AssociateCustomDomainResponse>> associate_custom_domain(
      aws::apprunner::AssociateCustomDomainRequest request, aws::Caller caller) override;
  Async<Result<aws::apprunner::DescribeCustomDomainsResponse>> describe_custom_domains(
      aws::apprunner::DescribeCustomDomainsRequest request, aws::Caller caller) override;
  Async<Result<aws::apprunner::DisassociateCustomDomainResponse>> disassociate_custom_domain(
      aws::apprunner::DisassociateCustomDomainRequest request, aws::Caller caller) override;

  // Whether create_service or update_service would take the request now, for all that can be known
  // before an image is there. Nothing is changed. Errors as theirs.
  Result<void> check_creation(const aws::apprunner::CreateServiceRequest& request) const;
  Async<Result<void>> check_update(aws::apprunner::UpdateServiceRequest request,
                                   aws::Caller caller);

  // Not AWS's; in api_revisions.cc. Errors are App Runner's shapes.

  // Asks the operation in progress to end without effect; the answer is its record. It may still
  // complete if it was about to. InvalidStateException: there is none, or it is a deletion.
  Async<Result<Operation>> cancel_operation(std::string arn, aws::Caller caller);
  // Asks the deployment in progress to leave out the rest of its steps; the answer is the
  // operation's record. InvalidStateException: there is none, or it has no steps.
  Async<Result<Operation>> promote_operation(std::string arn, aws::Caller caller);
  // The last kOperationsKept, newest first.
  Async<Result<std::vector<Operation>>> operations(std::string arn, aws::Caller caller);
  // Of the account's services whose last deployment failed, by the service's id: that deployment.
  Async<Result<std::map<std::string, Operation>>> failed_deployments(aws::Caller caller);
  // What each deployment made, oldest first; the last kRevisionsKept.
  Async<Result<std::vector<RevisionLine>>> list_revisions(std::string arn, aws::Caller caller);
  // Begins a deployment of an earlier revision, its image by digest; nullopt: the one before that
  // which serves. The next deployment or update takes what the image's tag names then.
  // InvalidStateException: not RUNNING. ResourceNotFoundException: no such revision.
  Async<Result<Operation>> roll_back(std::string arn, std::optional<int> to, aws::Caller caller);

  // In api_certificates.cc.

  // Keeps a chain and its key (PEM) under a name, its first host name if `name` is empty; in the
  // place of the one there, without a moment without. Shown for those of the account's domains that
  // it covers. InvalidRequestException: says what is wrong with it.
  Async<Result<GivenCertificate>> put_certificate(std::string name, CertifiedKey pair,
                                                  aws::Caller caller);
  // Idempotent; it is shown on where there is no other yet. ResourceNotFoundException.
  Async<Result<void>> delete_certificate(std::string name, aws::Caller caller);
  // Those given and those of domains, in order of names.
  Async<Result<std::vector<CertificateLine>>> list_certificates(aws::Caller caller);
  // With what App Runner does not answer: why each is not further.
  Async<Result<std::vector<Domain>>> list_domains(std::string arn, aws::Caller caller);

 private:
  // A record with what was read, for expectations and encode_over.
  template <class T>
  struct Stored {
    T value{};
    store::Entry entry{};
  };
  struct Begun {
    Service service{};
    Operation operation{};
  };
  struct Scalings {
    std::vector<Stored<AutoScalingConfiguration>> all{};  // inactive ones, too
    ScalingReference preset{};                            // the account's default
    store::Entry preset_entry{};
  };
  // Changes a service before its operation begins, or says why it may not.
  using Change = std::function<Result<void>(Service&)>;
  // Says more of the operation that is about to begin.
  using Mark = std::function<void(Operation&)>;

  // InvalidRequestException: no service ARN. ResourceNotFoundException: none of this account and
  // region.
  Async<Result<Stored<Service>>> find_service(std::string arn, aws::Caller caller);
  Async<Result<std::vector<Service>>> services_of_account(std::string account);
  Async<Result<std::vector<Domain>>> domains_of_service(std::string account, std::string service);
  // Begins an operation if `check` allows it, in one commit.
  Async<Result<Begun>> begin(std::string arn, OperationType type, aws::Caller caller, Change check,
                             Mark mark = {});
  // Changes the operation in progress, in one commit; false: it is as it should be.
  using ChangeOperation = std::function<Result<bool>(const Service&, Operation&)>;
  Async<Result<Operation>> change_operation(std::string arn, aws::Caller caller,
                                            std::string_view verb, ChangeOperation change);
  // InvalidRequestException: the tags ask for microVMs, and of the hosts that are connected none
  // can run them.
  Async<Result<void>> check_isolation(std::map<std::string, std::string> tags);
  // A mutation that others kept from being written.
  static std::unexpected<Error> overtaken();
  Operation new_operation(const Service& service, OperationType type, Instant now);

  // All of the account's, making DefaultConfiguration if this is the first look at them.
  Async<Result<Scalings>> scalings(std::string account);
  // The active configuration a whole or partial ARN means; nullptr: none. `inactive_too`: also one
  // lately deleted, by its whole ARN. nullopt: no ARN of an auto scaling configuration.
  std::optional<const Stored<AutoScalingConfiguration>*> match(const Scalings& scalings,
                                                               const std::string& arn,
                                                               const std::string& account,
                                                               bool inactive_too) const;
  // What a service uses: the ARN's, or the default's. InvalidRequestException: unknown.
  Result<Stored<AutoScalingConfiguration>> choose_scaling(const Scalings& scalings,
                                                          const std::optional<std::string>& arn,
                                                          const std::string& account) const;
  aws::apprunner::AutoScalingConfiguration show(const AutoScalingConfiguration& configuration,
                                                const Scalings& scalings,
                                                const std::vector<Service>& services) const;
  Async<Result<std::vector<Stored<Connection>>>> connections(std::string account);
  // By its whole ARN.
  Async<Result<Stored<Connection>>> find_connection(std::string arn, aws::Caller caller);
  // The account's, the one that all have first.
  Async<Result<std::vector<Stored<ObservabilityConfiguration>>>> observabilities(
      std::string account);
  // The active one that a whole or partial ARN means. `inactive_too`: also one lately deleted, by
  // its whole ARN.
  Async<Result<Stored<ObservabilityConfiguration>>> find_observability(std::string arn,
                                                                       aws::Caller caller,
                                                                       bool inactive_too);
  // Puts the whole ARN in the place of a partial one. Awaited by the caller, so that the reference
  // holds.
  Async<Result<void>> complete_observability(
      std::optional<aws::apprunner::ServiceObservabilityConfiguration>& given, aws::Caller caller);
  using ChangeTags =
      std::function<Result<void>(std::map<std::string, std::string>&, TaggedKind kind)>;
  Async<Result<void>> change_tags(std::string arn, aws::Caller caller, ChangeTags change);

  store::Store& store_;
  Clock& clock_;
  Random& random_;
  Images& images_;
  ApiOptions options_;
};

}  // namespace hob::runner
