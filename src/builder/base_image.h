// What every built image stands on: Debian 12 without documentation, made by mmdebstrap at first
// use, and a runtime's packages as one layer over it. Blocking; one thread.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "base/result.h"
#include "builder/build_sandbox.h"
#include "builder/build_store.h"
#include "builder/runtime.h"
#include "builder/workshop.h"

namespace hob::builder {

// What a build is doing now, for people: "making the base image (Debian 12)".
using StageSink = std::function<void(std::string_view stage)>;

struct BaseTools {
  const BuildStore* store = nullptr;
  Workshop* workshop = nullptr;
  const std::atomic<bool>* cancelled = nullptr;
  StageSink stage{};
  LineSink line{};
};

// kNotFound: mmdebstrap is not installed. kUnavailable: Debian's archive is not reached, or a
// package cannot be had; with the last lines of what was printed.
Result<Layer> base_layer(const BaseTools& tools);

// The packages of a runtime over the base: layers, bottom first; none: it has none of its own.
// `title`: for people. Errors as above.
Result<std::vector<Layer>> packages_layers(const BaseTools& tools, const Layer& base,
                                           const std::string& title, const Packages& packages);

// What does not belong in a layer, whoever made it: what says when, or is the container's own.
const std::vector<std::string>& left_out_of_layers();
const std::vector<std::string>& emptied_in_layers();

}  // namespace hob::builder
