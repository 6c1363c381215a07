// What the agent needs of the outside, so that a test can give it small simulated ones (testing/).
// The sandbox's port is sandbox::Sandbox itself.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/async.h"
#include "base/result.h"
#include "base/time.h"
#include "host/listening.h"
#include "image/image_store.h"
#include "link/messages.h"
#include "network/vpc.h"
#include "sandbox/sandbox.h"

namespace hob::host {

// Where images come from. Errors as image::ImageStore::pull's.
class ImagePort {
 public:
  virtual ~ImagePort() = default;
  virtual Async<Result<image::LocalImage>> pull(image::PullRequest request) = 0;
};

// The tasks' network. As network::Vpc, off the loop.
class NetworkPort {
 public:
  virtual ~NetworkPort() = default;
  // Answers the handle of the task's namespace. Idempotent.
  virtual Async<Result<std::filesystem::path>> attach(network::TaskAddress address) = 0;
  virtual Async<Result<void>> detach(std::string task) = 0;
  virtual Async<Result<std::vector<std::string>>> attached() = 0;
};

class ProbePort {
 public:
  virtual ~ProbePort() = default;
  // Asks the task once, for at most probe.timeout. The error says what was tried and what came of
  // it.
  virtual Async<Result<void>> probe(link::Probe probe, std::string address) = 0;
  // The TCP ports on which something listens in the namespace at `handle`.
  virtual ListeningPorts listening(const std::filesystem::path& handle) = 0;
};

// What they are must outlive who holds them.
struct TaskPorts {
  ImagePort& image;
  NetworkPort& network;
  ProbePort& probe;
  sandbox::Sandbox& sandbox;
  const Clock& clock;
  BlockingPool& pool;
};

// The real ones. What they are given must outlive them.
std::unique_ptr<ImagePort> make_image_port(image::ImageStore& store);
std::unique_ptr<NetworkPort> make_network_port(network::Vpc& vpc, BlockingPool& pool);
// `vpc`: the handle of the VPC's own namespace, where probes come from.
std::unique_ptr<ProbePort> make_probe_port(std::filesystem::path vpc);

}  // namespace hob::host
