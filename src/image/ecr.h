// ECR's API over the registry's records. Belongs to control's loop.
#pragma once

#include <string>

#include "aws/ecr/handler.h"
#include "identity/directory.h"
#include "image/repositories.h"

namespace hob::image {

inline constexpr size_t kEcrPageDefault = 100;

class Ecr final : public aws::ecr::Handler {
 public:
  // `registry_host`: what image URIs begin with, "127.0.0.1:4566". All must outlive it.
  Ecr(Repositories& repositories, BlobStore& blobs, identity::Directory& directory,
      std::string registry_host)
      : repositories_(repositories),
        blobs_(blobs),
        directory_(directory),
        registry_host_(std::move(registry_host)) {}

  template <class Response>
  using Answer = Async<Result<Response>>;

  Answer<aws::ecr::CreateRepositoryResponse> create_repository(
      aws::ecr::CreateRepositoryRequest request, aws::Caller caller) override;
  Answer<aws::ecr::DeleteRepositoryResponse> delete_repository(
      aws::ecr::DeleteRepositoryRequest request, aws::Caller caller) override;
  Answer<aws::ecr::DescribeRepositoriesResponse> describe_repositories(
      aws::ecr::DescribeRepositoriesRequest request, aws::Caller caller) override;
  Answer<aws::ecr::DescribeRegistryResponse> describe_registry(
      aws::ecr::DescribeRegistryRequest request, aws::Caller caller) override;
  Answer<aws::ecr::GetAuthorizationTokenResponse> get_authorization_token(
      aws::ecr::GetAuthorizationTokenRequest request, aws::Caller caller) override;
  Answer<aws::ecr::DescribeImagesResponse> describe_images(aws::ecr::DescribeImagesRequest request,
                                                           aws::Caller caller) override;
  Answer<aws::ecr::ListImagesResponse> list_images(aws::ecr::ListImagesRequest request,
                                                   aws::Caller caller) override;
  Answer<aws::ecr::BatchGetImageResponse> batch_get_image(aws::ecr::BatchGetImageRequest request,
                                                          aws::Caller caller) override;
  Answer<aws::ecr::BatchDeleteImageResponse> batch_delete_image(
      aws::ecr::BatchDeleteImageRequest request, aws::Caller caller) override;
  Answer<aws::ecr::PutImageResponse> put_image(aws::ecr::PutImageRequest request,
                                               aws::Caller caller) override;
  Answer<aws::ecr::PutImageTagMutabilityResponse> put_image_tag_mutability(
      aws::ecr::PutImageTagMutabilityRequest request, aws::Caller caller) override;
  Answer<aws::ecr::PutImageScanningConfigurationResponse> put_image_scanning_configuration(
      aws::ecr::PutImageScanningConfigurationRequest request, aws::Caller caller) override;
  Answer<aws::ecr::ListTagsForResourceResponse> list_tags_for_resource(
      aws::ecr::ListTagsForResourceRequest request, aws::Caller caller) override;
  Answer<aws::ecr::TagResourceResponse> tag_resource(aws::ecr::TagResourceRequest request,
                                                     aws::Caller caller) override;
  Answer<aws::ecr::UntagResourceResponse> untag_resource(aws::ecr::UntagResourceRequest request,
                                                         aws::Caller caller) override;

 private:
  // The repository, with ECR's errors. `registry_id` names another account's: not found, as nothing
  // is shared.
  Answer<Repository> find(std::optional<std::string> registry_id, std::string name,
                          aws::Caller caller);
  Answer<Repository> find_by_arn(std::string arn, aws::Caller caller);
  aws::ecr::Repository describe(const Repository& record, const std::string& region) const;
  Answer<aws::ecr::Image> read_image(Repository repository, aws::ecr::ImageIdentifier id);

  Repositories& repositories_;
  BlobStore& blobs_;
  identity::Directory& directory_;
  std::string registry_host_;
};

}  // namespace hob::image
