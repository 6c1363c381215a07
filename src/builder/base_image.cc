#include "builder/base_image.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <cerrno>
#include <deque>

#include "base/async.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "builder/npm_registry.h"
#include "builder/parts.h"
#include "image/byte_source.h"
#include "image/unpack.h"
#include "sandbox/task_files.h"

namespace hob::builder {

namespace {

namespace fs = std::filesystem;

constexpr const char* kSuite = "bookworm";
constexpr Duration kBaseWithin{15 * 60 * 1000};
constexpr Duration kCancelledEvery{100};
constexpr int kNoSuchProgram = 127;  // as unshare says it
constexpr const char* kBaseKey = "base bookworm minbase 1";
constexpr size_t kLastLines = 20;

// Documentation and translations; /usr/share/man's folders stay, since Java's packages make links
// there.
const std::vector<std::string> kWithout = {
    "path-exclude=/usr/share/man/*/*", "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright", "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*", "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
    // pip3 installs into the system, as App Runner's own guide has it (PEP 668 would refuse).
    "path-exclude=/usr/lib/python3*/EXTERNALLY-MANAGED"};

// What a package's installation leaves that says when it was, or that only the next one needs.
const std::vector<std::string> kLeaveOut = {"dev",
                                            "proc",
                                            "sys",
                                            "etc/resolv.conf",
                                            "etc/hosts",
                                            "etc/hostname",
                                            "etc/machine-id",
                                            "var/lib/systemd",
                                            "var/lib/dpkg/status-old",
                                            "var/lib/dpkg/lock",
                                            "var/lib/dpkg/lock-frontend",
                                            "var/lib/dpkg/triggers/Lock",
                                            "var/cache/debconf/config.dat-old",
                                            "var/cache/debconf/templates.dat-old",
                                            "var/cache/ldconfig/aux-cache",
                                            "root/.npm",
                                            "root/.cache"};
const std::vector<std::string> kEmptyOut = {
    "tmp", "var/tmp", "var/log", "var/log/apt", "run", "var/lib/apt/lists", "var/cache/apt"};

// kCancelled, soon after `cancelled` is true; the command is killed.
Result<Exit> run_until_cancelled(Command command, const std::atomic<bool>& cancelled) {
  boost::asio::io_context loop;
  Result<Exit> exit = fail(Code::kCancelled, "cancelled");
  AsyncScope scope(loop.get_executor());
  scope.spawn("command", [&]() -> Async<> {
    exit = co_await run(std::move(command), kBaseWithin);
    scope.cancel();
  });
  scope.spawn("cancellation", [&]() -> Async<> {
    while (!cancelled.load()) co_await sleep_for(kCancelledEvery);
    scope.cancel();
  });
  loop.run();
  if (cancelled.load()) return fail(Code::kCancelled, "cancelled");
  return exit;
}

}  // namespace

const std::vector<std::string>& left_out_of_layers() { return kLeaveOut; }
const std::vector<std::string>& emptied_in_layers() { return kEmptyOut; }

Result<Layer> base_layer(const BaseTools& tools) {
  if (const std::optional<Layer> made = tools.store->find(kBaseKey)) return *made;
  tools.stage("making the base image (Debian 12), once");
  const fs::path archive = tools.store->temporary("base.tar");
  const fs::path unpacked = tools.store->temporary("base");
  // In namespaces of its own: when it is killed, all it started is, and its mounts are gone.
  std::vector<std::string> argv = {"unshare",
                                   "--mount",
                                   "--pid",
                                   "--fork",
                                   "--kill-child",
                                   "mmdebstrap",
                                   "--quiet",
                                   "--variant=minbase",
                                   "--mode=root",
                                   "--include=ca-certificates",
                                   "--skip=output/dev",
                                   "--skip=output/mknod"};
  for (const std::string& each : kWithout) argv.push_back("--dpkgopt=" + each);
  argv.insert(argv.end(), {kSuite, unpacked.string()});
  Command command{.argv = std::move(argv)};
  command.environment = {{"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
                         {"SOURCE_DATE_EPOCH", std::to_string(kLayerTime)}};
  const Result<Exit> exit = run_until_cancelled(std::move(command), *tools.cancelled);
  if (!exit) return fail(exit.error());
  if (exit->status == kNoSuchProgram) {
    return fail(Code::kNotFound,
                "the program mmdebstrap is needed to make base images: apt-get "
                "install mmdebstrap");
  }
  if (exit->status != 0) {
    return fail(
        Code::kUnavailable, "mmdebstrap could not make the base image: {}",
        exit->errors.substr(exit->errors.size() - std::min<size_t>(exit->errors.size(), 500)));
  }
  HOB_TRY(LayerWriter writer, LayerWriter::open(archive, LayerWriter::Effort::kOnce));
  HOB_CHECK(
      add_upper(writer, {.directory = unpacked, .leave_out = kLeaveOut, .empty_out = kEmptyOut}));
  HOB_TRY(const Layer layer, writer.finish());
  HOB_CHECK(remove_tree(unpacked));
  HOB_CHECK(tools.store->put(kBaseKey, layer, archive));
  return layer;
}

namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string all;
  for (const std::string& word : words) all += " " + word;
  return all;
}

std::string key_of(const Layer& base, const Packages& packages) {
  std::string key = "packages 1 " + base.diff_id + joined(packages.debian);
  for (const NpmFiles& each : packages.npm) {
    key += fmt::format("\nnpm {} {} {} {}", each.package, each.version, each.from, each.to);
  }
  for (const auto& [name, target] : packages.links) key += "\nlink " + name + " " + target;
  for (const std::string& each : packages.commands) key += "\nrun " + each;
  return key;
}

// npm's files and the links, as a layer of their own below what the packages' step writes.
Result<std::optional<Layer>> files_layer(const BaseTools& tools, const std::string& key,
                                         const Packages& packages) {
  if (packages.npm.empty() && packages.links.empty()) return std::optional<Layer>();
  const std::string own_key = key + "\nfiles 2";
  if (std::optional<Layer> made = tools.store->find(own_key)) return made;
  const fs::path root = tools.store->temporary("files");
  HOB_CHECK(remove_tree(root));
  HOB_CHECK(make_directories(root, 0755));
  std::string list;
  for (const NpmFiles& each : packages.npm) {
    tools.stage(fmt::format("fetching {} {}", each.package, each.version));
    HOB_TRY(const std::string version, unpack_npm(kNpmRegistry, each, root, *tools.cancelled));
    tools.line(fmt::format("{} {}", each.package, version));
    list += fmt::format("{} {}\n", each.package, version);
  }
  if (!list.empty()) {
    HOB_CHECK(make_directories((root / kNpmFilesList).parent_path(), 0755));
    HOB_CHECK(sandbox::write_task_file(root / kNpmFilesList, list, 0));
  }
  for (const auto& [name, target] : packages.links) {
    std::error_code error;
    fs::create_directories((root / name).parent_path(), error);
    fs::create_symlink(target, root / name, error);
    if (error) return fail(Code::kUnavailable, "linking {}: {}", name, error.message());
  }
  const fs::path file = tools.store->temporary("files.tar");
  HOB_TRY(LayerWriter writer, LayerWriter::open(file, LayerWriter::Effort::kOnce));
  HOB_CHECK(add_upper(writer, {.directory = root}));
  HOB_TRY(const Layer layer, writer.finish());
  HOB_CHECK(remove_tree(root));
  HOB_CHECK(tools.store->put(own_key, layer, file));
  return std::optional<Layer>(layer);
}

}  // namespace

Result<std::vector<Layer>> packages_layers(const BaseTools& tools, const Layer& base,
                                           const std::string& title, const Packages& packages) {
  const std::string key = key_of(base, packages);
  std::vector<Layer> layers;
  HOB_TRY(const std::optional<Layer> files, files_layer(tools, key, packages));
  if (files) layers.push_back(*files);
  StepSpec step;
  if (!packages.debian.empty()) {
    step.commands.push_back("apt-get -qq -o Acquire::Retries=3 update");
    step.commands.push_back("apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install" +
                            joined(packages.debian));
    step.commands.push_back("apt-get clean");
  }
  step.commands.insert(step.commands.end(), packages.commands.begin(), packages.commands.end());
  if (step.commands.empty()) return layers;
  if (const std::optional<Layer> made = tools.store->find(key)) {
    layers.push_back(*made);
    return layers;
  }
  tools.stage(fmt::format("installing {}, once", title));
  for (auto each = layers.rbegin(); each != layers.rend(); ++each) {
    step.layers.push_back(tools.store->tree(*each));
  }
  step.layers.push_back(tools.store->tree(base));
  step.environment = {{"DEBIAN_FRONTEND", "noninteractive"}};
  const fs::path file = tools.store->temporary("packages.tar");
  Layer layer;
  std::deque<std::string> last;
  const auto line = [&](std::string_view text) {
    last.emplace_back(text);
    if (last.size() > kLastLines) last.pop_front();
    tools.line(text);
  };
  HOB_TRY(BuildSandbox* const sandbox, tools.workshop->sandbox());
  HOB_TRY(const StepEnd end, sandbox->run(step, line, [&](const StepFiles& files) -> Result<void> {
    HOB_TRY(LayerWriter writer, LayerWriter::open(file, LayerWriter::Effort::kOnce));
    HOB_CHECK(add_upper(writer, {.directory = files.upper,
                                 .first_id = files.first_id,
                                 .leave_out = kLeaveOut,
                                 .empty_out = kEmptyOut}));
    HOB_TRY(layer, writer.finish());
    return {};
  }));
  if (end.exit_code != 0) {
    std::string text;
    for (const std::string& each : last) text += "\n" + each;
    return fail(Code::kUnavailable, "installing {} failed:{}", title, text);
  }
  HOB_CHECK(tools.store->put(key, layer, file));
  layers.push_back(layer);
  return layers;
}

}  // namespace hob::builder
