// The registry over HTTP: the OCI distribution specification 1.1 (/v2/…), and what Docker's clients
// expect beside it.
//
// A push to a repository that does not exist makes it, with ECR's defaults (what ECR calls
// create-on-push). Callers log in by HTTP basic authentication with an ECR token; the account is
// the token's, and where the Host names one (ACCOUNT.dkr.ecr.REGION.hob.localhost) it must be the
// same. Belongs to control's loop.
#pragma once

#include <functional>
#include <string>

#include "base/async.h"
#include "base/http.h"
#include "base/result.h"
#include "image/repositories.h"

namespace hob::image {

inline constexpr size_t kUploadPieceBytes = 1024 * 1024;  // gathered before it is written
inline constexpr size_t kTagsPageMax = 1'000;             // tags or repositories in one answer
inline constexpr Duration kCollectionInterval{3'600'000};

struct RegistryCaller {
  std::string account{};
  bool may_push = false;
};
// Who logs in with this; kDenied: nobody.
using RegistryAuthentication =
    std::function<Async<Result<RegistryCaller>>(std::string user, std::string password)>;

class Registry {
 public:
  // `repositories` and `pool` must outlive it.
  Registry(Repositories& repositories, BlockingPool& pool, RegistryAuthentication authenticate,
           uint16_t api_port);

  // Whether a path is the registry's: "/v2", "/v2/…".
  static bool serves(std::string_view path);
  // Answers one request; the Registry must outlive it.
  Async<> handle(const http::Request& request, http::BodyReader& body, http::Responder& responder);
  http::Handler handler();
  // Collects garbage every kCollectionInterval; spawn it in the owner's scope.
  Async<> run();

 private:
  struct Exchange;  // one request being answered
  struct Route;
  Async<Result<void>> route(Exchange& exchange);
  Async<Result<void>> authenticate(Exchange& exchange);
  // The repository of the request; a push makes it.
  Async<Result<Repository>> repository(Exchange& exchange);

  Async<Result<void>> catalog(Exchange& exchange);
  Async<Result<void>> list_tags(Exchange& exchange);
  Async<Result<void>> manifest(Exchange& exchange);
  Async<Result<void>> put_manifest(Exchange& exchange, Repository repository);
  Async<Result<void>> referrers(Exchange& exchange);
  Async<Result<void>> blob(Exchange& exchange);
  Async<Result<void>> send_blob(Exchange& exchange, std::string digest, uint64_t size);
  Async<Result<void>> start_upload(Exchange& exchange);
  Async<Result<void>> upload(Exchange& exchange);
  Async<Result<void>> receive(Exchange& exchange, BlobStore::UploadLease& lease);
  Async<Result<void>> finish_upload(Exchange& exchange, BlobStore::UploadLease lease,
                                    std::string digest);

  Repositories& repositories_;
  BlockingPool& pool_;
  RegistryAuthentication authenticate_;
  uint16_t api_port_;
};

}  // namespace hob::image
