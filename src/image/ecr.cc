#include "image/ecr.h"

#include "base/digest.h"
#include "image/content_digest.h"
#include "image/ecr_page.h"
#include "image/reference.h"

namespace hob::image {

namespace ecr = aws::ecr;

namespace {

std::unexpected<Error> no_repository(const std::string& name, const std::string& registry) {
  return ecr::repository_not_found_exception(fmt::format(
      "The repository with name '{}' does not exist in the registry with id '{}'", name, registry));
}

Result<std::map<std::string, std::string>> tags_of(const std::optional<std::vector<ecr::Tag>>& tags,
                                                   std::map<std::string, std::string> known) {
  for (const ecr::Tag& tag : tags.value_or(std::vector<ecr::Tag>{})) {
    const std::string key = tag.key.value_or("");
    if (key.empty() || key.size() > 128 || key.starts_with("aws:")) {
      return ecr::invalid_tag_parameter_exception(
          "A tag's key has 1 to 128 characters and does not begin with 'aws:'");
    }
    known[key] = tag.value.value_or("");
  }
  if (known.size() > kResourceTagsMax) {
    return ecr::too_many_tags_exception(
        fmt::format("A repository may have {} tags", kResourceTagsMax));
  }
  return known;
}

std::vector<ecr::Tag> wire_tags(const std::map<std::string, std::string>& tags) {
  std::vector<ecr::Tag> wire;
  for (const auto& [key, value] : tags) wire.push_back({.key = key, .value = value});
  return wire;
}

// "{imageDigest:'null', imageTag:'1'}", as ECR writes an identifier.
std::string text_of(const ecr::ImageIdentifier& id) {
  return fmt::format("{{imageDigest:'{}', imageTag:'{}'}}", id.image_digest.value_or("null"),
                     id.image_tag.value_or("null"));
}

ecr::ImageFailure failure_of(const ecr::ImageIdentifier& id, std::string code, std::string reason) {
  return {.image_id = id, .failure_code = std::move(code), .failure_reason = std::move(reason)};
}

// What is wrong with an identifier by itself.
std::optional<ecr::ImageFailure> malformed(const ecr::ImageIdentifier& id) {
  if (!id.image_digest && !id.image_tag) {
    return failure_of(id, "MissingDigestAndTag",
                      "Invalid request parameters: both tag and digest cannot be null");
  }
  if (id.image_digest && !is_digest(*id.image_digest)) {
    return failure_of(id, "InvalidImageDigest",
                      "Invalid request parameters: image digest should satisfy the regex "
                      "'[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'");
  }
  if (id.image_tag && !is_tag(*id.image_tag)) {
    return failure_of(
        id, "InvalidImageTag",
        "Invalid request parameters: image tag should satisfy the regex '[a-zA-Z0-9-_.]+'");
  }
  return std::nullopt;
}

bool matches(const TaggedImage& image, const ecr::ImageIdentifier& id) {
  if (id.image_digest && *id.image_digest != image.image.digest) return false;
  return !id.image_tag || std::ranges::find(image.tags, *id.image_tag) != image.tags.end();
}

bool passes(const TaggedImage& image, const std::optional<std::string>& tag_status) {
  if (!tag_status || *tag_status == "ANY") return true;
  return (*tag_status == "TAGGED") == !image.tags.empty();
}

}  // namespace

Async<Result<Repository>> Ecr::find(std::optional<std::string> registry_id, std::string name,
                                    aws::Caller caller) {
  const std::string registry = registry_id.value_or(caller.account);
  if (registry != caller.account) co_return no_repository(name, registry);
  co_return co_await repositories_.get(caller.account, name);
}

Async<Result<Repository>> Ecr::find_by_arn(std::string arn, aws::Caller caller) {
  const std::string prefix =
      fmt::format("arn:aws:ecr:{}:{}:repository/", caller.region, caller.account);
  if (!arn.starts_with(prefix)) {
    co_return ecr::invalid_parameter_exception(
        "Invalid parameter at 'resourceArn' failed to satisfy constraint: 'Invalid ARN'");
  }
  co_return co_await find(std::nullopt, arn.substr(prefix.size()), caller);
}

ecr::Repository Ecr::describe(const Repository& record, const std::string& region) const {
  return {.repository_arn =
              fmt::format("arn:aws:ecr:{}:{}:repository/{}", region, record.account, record.name),
          .registry_id = record.account,
          .repository_name = record.name,
          .repository_uri = registry_host_ + "/" + record.name,
          .created_at = record.created_at,
          .image_tag_mutability = record.immutable_tags ? "IMMUTABLE" : "MUTABLE",
          .image_scanning_configuration =
              ecr::ImageScanningConfiguration{.scan_on_push = record.scan_on_push},
          .encryption_configuration = ecr::EncryptionConfiguration{.encryption_type = "AES256"}};
}

Async<Result<ecr::CreateRepositoryResponse>> Ecr::create_repository(
    ecr::CreateRepositoryRequest request, aws::Caller caller) {
  if (request.registry_id.value_or(caller.account) != caller.account) {
    co_return ecr::invalid_parameter_exception(
        "Invalid parameter at 'registryId': repositories are made in one's own registry");
  }
  RepositorySettings settings{.immutable_tags =
                                  request.image_tag_mutability.value_or("MUTABLE") == "IMMUTABLE"};
  if (request.image_scanning_configuration) {
    settings.scan_on_push = request.image_scanning_configuration->scan_on_push.value_or(false);
  }
  HOB_CO_TRY(settings.tags, tags_of(request.tags, {}));
  const std::string name = request.repository_name;
  HOB_CO_TRY(const Repository made,
             co_await repositories_.create(caller.account, name, std::move(settings)));
  co_return ecr::CreateRepositoryResponse{.repository = describe(made, caller.region)};
}

Async<Result<ecr::DeleteRepositoryResponse>> Ecr::delete_repository(
    ecr::DeleteRepositoryRequest request, aws::Caller caller) {
  HOB_CO_TRY(const Repository record,
             co_await find(request.registry_id, request.repository_name, caller));
  const auto force =
      request.force.value_or(false) ? Repositories::Force::kYes : Repositories::Force::kNo;
  HOB_CO_TRY(const Repository removed,
             co_await repositories_.remove(record.account, record.name, force));
  ecr::Repository gone = describe(removed, caller.region);
  gone.image_scanning_configuration.reset();
  gone.encryption_configuration.reset();
  co_return ecr::DeleteRepositoryResponse{.repository = std::move(gone)};
}

Async<Result<ecr::DescribeRepositoriesResponse>> Ecr::describe_repositories(
    ecr::DescribeRepositoriesRequest request, aws::Caller caller) {
  std::vector<ecr::Repository> found;
  if (request.repository_names) {
    if (request.next_token || request.max_results) {
      co_return ecr::invalid_parameter_exception(
          "nextToken and maxResults cannot be used with repositoryNames");
    }
    for (const std::string& name : *request.repository_names) {
      HOB_CO_TRY(const Repository record, co_await find(request.registry_id, name, caller));
      found.push_back(describe(record, caller.region));
    }
    co_return ecr::DescribeRepositoriesResponse{.repositories = std::move(found)};
  }
  if (request.registry_id.value_or(caller.account) == caller.account) {
    HOB_CO_TRY(const std::vector<Repository> all, co_await repositories_.list(caller.account));
    for (const Repository& record : all) found.push_back(describe(record, caller.region));
  }
  HOB_CO_TRY(Page<ecr::Repository> page,
             page_of(std::move(found), request.next_token, request.max_results, kEcrPageDefault));
  co_return ecr::DescribeRepositoriesResponse{.repositories = std::move(page.items),
                                              .next_token = page.next_token};
}

Async<Result<ecr::DescribeRegistryResponse>> Ecr::describe_registry(ecr::DescribeRegistryRequest,
                                                                    aws::Caller caller) {
  co_return ecr::DescribeRegistryResponse{
      .registry_id = caller.account, .replication_configuration = ecr::ReplicationConfiguration{}};
}

Async<Result<ecr::GetAuthorizationTokenResponse>> Ecr::get_authorization_token(
    ecr::GetAuthorizationTokenRequest, aws::Caller caller) {
  const identity::RegistryPassword password =
      directory_.mint_registry_password(caller.account, caller.arn);
  ecr::AuthorizationData data{.authorization_token = base64("AWS:" + password.password),
                              .expires_at = password.expires_at,
                              .proxy_endpoint = "http://" + registry_host_};
  co_return ecr::GetAuthorizationTokenResponse{.authorization_data = std::vector{std::move(data)}};
}

Async<Result<ecr::DescribeImagesResponse>> Ecr::describe_images(ecr::DescribeImagesRequest request,
                                                                aws::Caller caller) {
  HOB_CO_TRY(const Repository repository,
             co_await find(request.registry_id, request.repository_name, caller));
  HOB_CO_TRY(const std::vector<TaggedImage> all, co_await repositories_.images(repository));
  std::vector<ecr::ImageDetail> details;
  const auto add = [&](const TaggedImage& image) {
    ecr::ImageDetail detail{.registry_id = repository.account,
                            .repository_name = repository.name,
                            .image_digest = image.image.digest,
                            .image_size_in_bytes = static_cast<int64_t>(image.image.bytes),
                            .image_pushed_at = image.image.pushed_at,
                            .image_manifest_media_type = image.image.media_type};
    if (!image.tags.empty()) detail.image_tags = image.tags;
    if (!image.image.artifact_type.empty()) detail.artifact_media_type = image.image.artifact_type;
    details.push_back(std::move(detail));
  };
  if (request.image_ids) {
    for (const ecr::ImageIdentifier& id : *request.image_ids) {
      const auto found =
          std::ranges::find_if(all, [&](const TaggedImage& image) { return matches(image, id); });
      if (malformed(id) || found == all.end()) {
        co_return ecr::image_not_found_exception(
            fmt::format("The image with imageId {} does not exist within the repository with name "
                        "'{}' in the registry with id '{}'",
                        text_of(id), repository.name, repository.account));
      }
      add(*found);
    }
    co_return ecr::DescribeImagesResponse{.image_details = std::move(details)};
  }
  const std::optional<std::string> status =
      request.filter ? request.filter->tag_status : std::nullopt;
  for (const TaggedImage& image : all) {
    if (passes(image, status)) add(image);
  }
  HOB_CO_TRY(Page<ecr::ImageDetail> page,
             page_of(std::move(details), request.next_token, request.max_results, kEcrPageDefault));
  co_return ecr::DescribeImagesResponse{.image_details = std::move(page.items),
                                        .next_token = page.next_token};
}

Async<Result<ecr::ListImagesResponse>> Ecr::list_images(ecr::ListImagesRequest request,
                                                        aws::Caller caller) {
  HOB_CO_TRY(const Repository repository,
             co_await find(request.registry_id, request.repository_name, caller));
  HOB_CO_TRY(const std::vector<TaggedImage> all, co_await repositories_.images(repository));
  const std::optional<std::string> status =
      request.filter ? request.filter->tag_status : std::nullopt;
  std::vector<ecr::ImageIdentifier> ids;
  for (const TaggedImage& image : all) {
    if (!passes(image, status)) continue;
    if (image.tags.empty()) ids.push_back({.image_digest = image.image.digest});
    for (const std::string& tag : image.tags)
      ids.push_back({.image_digest = image.image.digest, .image_tag = tag});
  }
  HOB_CO_TRY(Page<ecr::ImageIdentifier> page,
             page_of(std::move(ids), request.next_token, request.max_results, kEcrPageDefault));
  co_return ecr::ListImagesResponse{.image_ids = std::move(page.items),
                                    .next_token = page.next_token};
}

Async<Result<ecr::Image>> Ecr::read_image(Repository repository, ecr::ImageIdentifier id) {
  const std::string reference = id.image_digest ? *id.image_digest : *id.image_tag;
  HOB_CO_TRY(const Image image, co_await repositories_.get_image(repository, reference));
  HOB_CO_TRY(std::string text, co_await blobs_.read(image.digest, image.manifest_bytes));
  co_return ecr::Image{
      .registry_id = repository.account,
      .repository_name = repository.name,
      .image_id = ecr::ImageIdentifier{.image_digest = image.digest, .image_tag = id.image_tag},
      .image_manifest = std::move(text),
      .image_manifest_media_type = image.media_type};
}

Async<Result<ecr::BatchGetImageResponse>> Ecr::batch_get_image(ecr::BatchGetImageRequest request,
                                                               aws::Caller caller) {
  HOB_CO_TRY(const Repository repository,
             co_await find(request.registry_id, request.repository_name, caller));
  std::vector<ecr::Image> found;
  std::vector<ecr::ImageFailure> failures;
  for (const ecr::ImageIdentifier& id : request.image_ids) {
    if (std::optional<ecr::ImageFailure> wrong = malformed(id)) {
      failures.push_back(std::move(*wrong));
      continue;
    }
    Result<ecr::Image> image = co_await read_image(repository, id);
    if (image)
      found.push_back(std::move(*image));
    else if (image.error().code == Code::kNotFound)
      failures.push_back(failure_of(id, "ImageNotFound", "Requested image not found"));
    else
      co_return fail(image.error());
  }
  co_return ecr::BatchGetImageResponse{.images = std::move(found), .failures = std::move(failures)};
}

Async<Result<ecr::BatchDeleteImageResponse>> Ecr::batch_delete_image(
    ecr::BatchDeleteImageRequest request, aws::Caller caller) {
  HOB_CO_TRY(const Repository repository,
             co_await find(request.registry_id, request.repository_name, caller));
  std::vector<ecr::ImageIdentifier> gone;
  std::vector<ecr::ImageFailure> failures;
  for (const ecr::ImageIdentifier& id : request.image_ids) {
    if (std::optional<ecr::ImageFailure> wrong = malformed(id)) {
      failures.push_back(std::move(*wrong));
      continue;
    }
    HOB_CO_TRY(const std::vector<TaggedImage> all, co_await repositories_.images(repository));
    const auto found =
        std::ranges::find_if(all, [&](const TaggedImage& image) { return matches(image, id); });
    if (found == all.end()) {
      failures.push_back(failure_of(id, "ImageNotFound", "Requested image not found"));
      continue;
    }
    // By digest, or by its last tag: the image goes. By one tag of several: that tag (ECR's rule).
    const bool whole = id.image_digest.has_value() || found->tags.size() <= 1;
    const TaggedImage image = *found;
    Result<void> removed;
    if (whole) {
      removed = co_await repositories_.remove_image(repository, image.image.digest);
    } else {
      const auto untagged = co_await repositories_.remove_tag(repository, *id.image_tag,
                                                              Repositories::LastTag::kWithImage);
      if (!untagged) removed = fail(untagged.error());
    }
    if (!removed && removed.error().code == Code::kConflict) {
      failures.push_back(failure_of(id, "ImageReferencedByManifestList", removed.error().message));
      continue;
    }
    HOB_CO_CHECK(removed);
    if (!whole) {
      gone.push_back({.image_digest = image.image.digest, .image_tag = *id.image_tag});
    } else if (image.tags.empty()) {
      gone.push_back({.image_digest = image.image.digest});
    } else {
      for (const std::string& tag : image.tags)
        gone.push_back({.image_digest = image.image.digest, .image_tag = tag});
    }
  }
  co_return ecr::BatchDeleteImageResponse{.image_ids = std::move(gone),
                                          .failures = std::move(failures)};
}

Async<Result<ecr::PutImageResponse>> Ecr::put_image(ecr::PutImageRequest request,
                                                    aws::Caller caller) {
  HOB_CO_TRY(const Repository repository,
             co_await find(request.registry_id, request.repository_name, caller));
  const std::string tag = request.image_tag.value_or("");
  if (!tag.empty() && !is_tag(tag)) {
    co_return ecr::invalid_parameter_exception(
        "Invalid parameter at 'imageTag' failed to satisfy constraint: 'must satisfy regular "
        "expression "
        "'[a-zA-Z0-9_][a-zA-Z0-9._-]*''");
  }
  NewImage image{.manifest = request.image_manifest,
                 .media_type = request.image_manifest_media_type.value_or(""),
                 .tag = tag,
                 .digest = request.image_digest.value_or(""),
                 .again = NewImage::Again::kRefuse};
  HOB_CO_TRY(const Image put, co_await repositories_.put_image(repository, std::move(image)));
  ecr::ImageIdentifier id{.image_digest = put.digest, .image_tag = request.image_tag};
  co_return ecr::PutImageResponse{.image = ecr::Image{.registry_id = repository.account,
                                                      .repository_name = repository.name,
                                                      .image_id = std::move(id),
                                                      .image_manifest = request.image_manifest,
                                                      .image_manifest_media_type = put.media_type}};
}

Async<Result<ecr::PutImageTagMutabilityResponse>> Ecr::put_image_tag_mutability(
    ecr::PutImageTagMutabilityRequest request, aws::Caller caller) {
  HOB_CO_TRY(Repository repository,
             co_await find(request.registry_id, request.repository_name, caller));
  const auto change = [immutable = request.image_tag_mutability ==
                                   "IMMUTABLE"](Repository& record) -> Result<void> {
    record.immutable_tags = immutable;
    return {};
  };
  HOB_CO_TRY(repository,
             co_await repositories_.update(repository.account, repository.name, change));
  co_return ecr::PutImageTagMutabilityResponse{
      .registry_id = repository.account,
      .repository_name = repository.name,
      .image_tag_mutability = request.image_tag_mutability};
}

Async<Result<ecr::PutImageScanningConfigurationResponse>> Ecr::put_image_scanning_configuration(
    ecr::PutImageScanningConfigurationRequest request, aws::Caller caller) {
  HOB_CO_TRY(Repository repository,
             co_await find(request.registry_id, request.repository_name, caller));
  const bool scan = request.image_scanning_configuration.scan_on_push.value_or(false);
  const auto change = [scan](Repository& record) -> Result<void> {
    record.scan_on_push = scan;
    return {};
  };
  HOB_CO_TRY(repository,
             co_await repositories_.update(repository.account, repository.name, change));
  co_return ecr::PutImageScanningConfigurationResponse{
      .registry_id = repository.account,
      .repository_name = repository.name,
      .image_scanning_configuration = ecr::ImageScanningConfiguration{.scan_on_push = scan}};
}

Async<Result<ecr::ListTagsForResourceResponse>> Ecr::list_tags_for_resource(
    ecr::ListTagsForResourceRequest request, aws::Caller caller) {
  HOB_CO_TRY(const Repository repository, co_await find_by_arn(request.resource_arn, caller));
  co_return ecr::ListTagsForResourceResponse{.tags = wire_tags(repository.tags)};
}

Async<Result<ecr::TagResourceResponse>> Ecr::tag_resource(ecr::TagResourceRequest request,
                                                          aws::Caller caller) {
  HOB_CO_TRY(Repository repository, co_await find_by_arn(request.resource_arn, caller));
  const auto change = [tags = request.tags](Repository& record) -> Result<void> {
    HOB_TRY(record.tags, tags_of(tags, record.tags));
    return {};
  };
  HOB_CO_TRY(repository,
             co_await repositories_.update(repository.account, repository.name, change));
  co_return ecr::TagResourceResponse{};
}

Async<Result<ecr::UntagResourceResponse>> Ecr::untag_resource(ecr::UntagResourceRequest request,
                                                              aws::Caller caller) {
  HOB_CO_TRY(Repository repository, co_await find_by_arn(request.resource_arn, caller));
  const auto change = [keys = request.tag_keys](Repository& record) -> Result<void> {
    for (const std::string& key : keys) record.tags.erase(key);
    return {};
  };
  HOB_CO_TRY(repository,
             co_await repositories_.update(repository.account, repository.name, change));
  co_return ecr::UntagResourceResponse{};
}

}  // namespace hob::image
