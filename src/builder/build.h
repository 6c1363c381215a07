// A build from source tree to image: base, runtime, dependencies, application, each a layer that is
// made only if what it is made from has changed. Blocking; one thread.
//
// Two stages, as App Runner's revised build has them (docs.aws.amazon.com/apprunner, "The build
// stages of managed runtime versions"): the commands of `build` run in the runtime's build image
// with the source in /app; what they leave in /app goes into the runtime's run image, where the
// commands of `pre-run` run; post-build runs after `build`, and only its success counts.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"
#include "builder/base_image.h"
#include "builder/detect.h"
#include "builder/records.h"
#include "builder/source.h"

namespace hob::builder {

inline constexpr const char* kApplicationFolder = "/app";

struct BuildRequest {
  const Source* source = nullptr;
  Recipe recipe{};
  std::filesystem::path output{};  // an OCI layout is made here; must not be there before
  // Whose caches of package managers are used and renewed; empty: none are. Layers that were made
  // with them are that one's alone, so that nobody builds on what another put there.
  std::string cache{};
  std::string operation{};  // that asks for it: its provenance names it, and the times
  std::map<std::string, std::string> labels{};  // beside ours: "org.opencontainers.image.revision"
};

// kInvalid: a command of the application failed, ran out of time or memory: which one, how, and the
// last lines it printed. kCancelled. Others: the machine or a registry failed.
Result<BuildResult> run_build(const BaseTools& tools, const BuildRequest& request);

}  // namespace hob::builder
