// How runner has sources built: a place in our registry for the image, and a host by cluster.
//
// Belongs to control's loop.
#pragma once

#include <string>

#include "cluster/cluster.h"
#include "identity/directory.h"
#include "image/repositories.h"
#include "runner/builders.h"

namespace hob::daemon {

class RunnerBuilders final : public runner::Builders {
 public:
  // All must outlive it; they are used from the first order on.
  RunnerBuilders(image::Repositories& repositories, const identity::Directory& directory,
                 cluster::Cluster& cluster, uint16_t api_port)
      : repositories_(repositories),
        directory_(directory),
        cluster_(cluster),
        address_("127.0.0.1:" + std::to_string(api_port)) {}

  std::string image_name(const std::string& service, const std::string& build) const override;
  Async<Result<void>> order(link::BuildOrder order) override;
  void end(const std::string& build) override { cluster_.end_build(build); }

 private:
  image::Repositories& repositories_;
  const identity::Directory& directory_;
  cluster::Cluster& cluster_;
  std::string address_;
};

}  // namespace hob::daemon
