// Managed runtimes as their files in runtimes/ describe them (runtimes/README.md has the grammar):
// how one is recognised, what it is made of, how an application of it is built and started. Pure;
// any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hob::builder {

// One thing to ask of a source tree.
struct Condition {
  enum class Kind {
    kExists,    // "exists PATTERN": a file fits it
    kJson,      // "json FILE POINTER": the JSON file has a value there
    kContains,  // "contains FILE TEXT"
  };
  Kind kind = Kind::kExists;
  bool inverted = false;  // "not …"
  std::string file{};
  std::string argument{};
};

// All of them; none at all holds always.
using Conditions = std::vector<Condition>;

// A command, for sh, that is right under some conditions. "${json FILE POINTER}" and "${first
// PATTERN}" in it are filled in from the source tree.
struct RuntimeCommand {
  Conditions when{};
  std::string run{};
  std::string for_image{};  // of an install: what the image gets instead, where there is a build
  std::vector<std::string> inputs{};   // patterns; an install command sees no other files
  std::vector<Conditions> whole_if{};  // if any holds, it needs the whole tree after all
};

// A file or folder of a package of npm's registry.
struct NpmFiles {
  std::string package{};
  std::string version{};  // "22": the newest that begins so
  std::string from{};     // "package/bin/node" or "package"
  std::string to{};       // "usr/local/bin/node"
};

// What is put on the base image.
struct Packages {
  std::vector<std::string> debian{};
  std::vector<NpmFiles> npm{};
  std::map<std::string, std::string> links{};  // name → target
  std::vector<std::string> commands{};         // run after all of it
};

struct RuntimeVersion {
  std::string name{};                // "22"
  std::string known{};               // "22.23.3": to match ranges against
  std::vector<std::string> names{};  // App Runner's: "NODEJS_22", "nodejs22"
  std::string note{};                // what is told to whoever uses it; empty: nothing
  std::string refused{};             // it cannot be had, and what to do; empty: it can
  Packages build{};
  Packages run{};
  std::string run_like{};  // the runtime whose first version's `run` it has; empty: its own
};

// Where an application says which version it wants: the first that answers decides.
struct VersionSource {
  enum class Kind {
    kJson,  // "json FILE POINTER"
    kLine,  // "line FILE PREFIX": the first line that starts so, without it; PREFIX may be nothing
    kAtLeast,  // "at-least FILE PREFIX": so found, and it or any newer is right
  };
  Kind kind = Kind::kLine;
  std::string file{};
  std::string argument{};
};

struct Runtime {
  std::string name{};
  std::string title{};
  int order = 0;  // the lower is asked first
  std::vector<Conditions> detect{};
  std::vector<std::string> ignore{};       // patterns of .gitignore: what a build makes anew
  std::vector<RuntimeVersion> versions{};  // the first is the default
  std::vector<VersionSource> version_from{};
  std::vector<RuntimeCommand> install{};  // the first that fits, as start
  std::vector<RuntimeCommand> build{};    // all that fit, in turn
  std::vector<RuntimeCommand> start{};
  // What of /app goes into the image; the first that fits, none: all of it.
  struct Keep {
    Conditions when{};
    std::vector<std::string> paths{};
  };
  std::vector<Keep> keep{};
  std::vector<std::string> drop{};  // paths in /app that a build makes and the image does not need
  std::vector<std::string> caches{};  // what package managers keep, from the root: "root/.npm"
  std::map<std::string, std::string> build_environment{};
  std::map<std::string, std::string> environment{};
  std::string no_start{};  // what to say if no start command fits
};

inline constexpr size_t kRuntimesMax = 100;

// kInvalid: "line 3, column 5: …".
Result<Runtime> parse_runtime(std::string_view text);

// All *.yaml of a folder, in order. Blocking. kInvalid: a file is wrong (named), or two claim one
// name.
Result<std::vector<Runtime>> load_runtimes(const std::filesystem::path& folder);

struct RuntimeChoice {
  const Runtime* runtime = nullptr;
  const RuntimeVersion* version = nullptr;
};
// By App Runner's name, as its API or file has it ("NODEJS_22", "nodejs22"). kInvalid: none, with
// those there are; or one that cannot be had here, with what to do.
Result<RuntimeChoice> runtime_named(const std::vector<Runtime>& runtimes, std::string_view name);

}  // namespace hob::builder
