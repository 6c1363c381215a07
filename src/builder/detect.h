// What an application is, from its files alone: the runtime, its version, how it is built and
// started, each with the reason. Pure but for the port it reads by; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "builder/app_file.h"
#include "builder/runtime.h"
#include "builder/source.h"

namespace hob::builder {

// How an application becomes an image, whoever said so.
struct Recipe {
  RuntimeChoice runtime{};
  struct Install {
    std::string command{};
    std::string for_image{};  // instead, for the image, where there is a build; may be empty
    std::vector<std::string> inputs{};  // patterns of the files it sees; empty: all
  };
  std::optional<Install> install{};       // dependencies, cached by its inputs
  std::vector<std::string> build{};       // in turn, in the build image
  std::vector<std::string> post_build{};  // whether it fails is all that counts of it
  std::vector<std::string> pre_run{};     // in turn, in the image that will run
  std::string start{};
  uint16_t port = kAppPortDefault;
  std::vector<AppSecret> secrets{};
  std::map<std::string, std::string> build_environment{};
  std::map<std::string, std::string> environment{};
  std::vector<std::string> caches{};   // of package managers, from the root: "root/.npm"
  std::vector<std::string> keep{};     // of /app, what goes into the image; empty: all of it
  std::vector<std::string> drop{};     // of /app, what does not
  std::vector<std::string> reasons{};  // for people: "Node.js 22: package.json asks for >=20"
};

// A configuration that is given with the source instead of being read from it.
struct Configured {
  std::string runtime{};  // as apprunner.yaml names it
  std::string build{};    // one command; empty: none
  std::string start{};
};

// The recipe of `configured`; apprunner.yaml is not looked at. Errors as make_recipe's.
Result<Recipe> configured_recipe(const Configured& configured,
                                 const std::vector<Runtime>& runtimes);

// `source`: relative paths are from the application's own folder. What an apprunner.yaml or a
// Procfile there says is followed. kInvalid: the file is wrong (it is named, with line and column),
// no runtime fits, or none of a version that is asked for: what was looked for, and what to do.
Result<Recipe> make_recipe(const Source& source, const std::vector<Runtime>& runtimes);

// Whether all of them hold.
bool holds(const Conditions& conditions, const Source& source);

}  // namespace hob::builder
