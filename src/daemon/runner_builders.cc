#include "daemon/runner_builders.h"

namespace hob::daemon {

namespace {
// One repository a service: what is built of it is its account's to pull, as any image there.
std::string repository_of(const std::string& service) { return "source/" + service; }
}  // namespace

std::string RunnerBuilders::image_name(const std::string& service, const std::string& build) const {
  return address_ + "/" + repository_of(service) + ":" + build;
}

Async<Result<void>> RunnerBuilders::order(link::BuildOrder order) {
  const std::string repository = repository_of(order.service);
  const auto made = co_await repositories_.create(order.account, repository, {});
  if (!made && made.error().aws_code != "RepositoryAlreadyExistsException")
    co_return fail(made.error());
  order.target = {
      .registry = address_,
      .plain_http = true,
      .repository = repository,
      .reference = order.build,
      .username = "AWS",
      .password =
          directory_.mint_registry_password(order.account, identity::root_arn(order.account))
              .password};
  co_return cluster_.order_build(std::move(order));
}

}  // namespace hob::daemon
