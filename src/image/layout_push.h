// Brings an image from an OCI layout's folder to a registry of this machine, by the distribution
// API. Blocking reads of the folder's files, in pieces.
#pragma once

#include <filesystem>
#include <string>

#include "base/async.h"
#include "base/result.h"

namespace hob::image {

struct PushTarget {
  std::string registry{};  // "127.0.0.1:4566", plain HTTP
  std::string repository{};
  std::string tag{};
  std::string username{};
  std::string password{};  // secret
};

// The image of that digest, "sha256:…", which this machine made. kInvalid: the folder holds no
// such. kUnavailable: the registry refuses it, or is not there.
Async<Result<void>> push_layout(PushTarget target, std::filesystem::path layout,
                                std::string digest);

}  // namespace hob::image
