#include "host/ports.h"

namespace hob::host {

namespace {

class StoreImagePort final : public ImagePort {
 public:
  explicit StoreImagePort(image::ImageStore& store) : store_(store) {}
  Async<Result<image::LocalImage>> pull(image::PullRequest request) override {
    return store_.pull(std::move(request));
  }

 private:
  image::ImageStore& store_;
};

class VpcNetworkPort final : public NetworkPort {
 public:
  VpcNetworkPort(network::Vpc& vpc, BlockingPool& pool) : vpc_(vpc), pool_(pool) {}
  Async<Result<std::filesystem::path>> attach(network::TaskAddress address) override {
    return on_pool(pool_, [this, address = std::move(address)] { return vpc_.attach(address); });
  }
  Async<Result<void>> detach(std::string task) override {
    return on_pool(pool_, [this, task = std::move(task)] { return vpc_.detach(task); });
  }
  Async<Result<std::vector<std::string>>> attached() override {
    return on_pool(pool_, [this] { return vpc_.attached(); });
  }

 private:
  network::Vpc& vpc_;
  BlockingPool& pool_;
};

}  // namespace

std::unique_ptr<ImagePort> make_image_port(image::ImageStore& store) {
  return std::make_unique<StoreImagePort>(store);
}
std::unique_ptr<NetworkPort> make_network_port(network::Vpc& vpc, BlockingPool& pool) {
  return std::make_unique<VpcNetworkPort>(vpc, pool);
}

}  // namespace hob::host
