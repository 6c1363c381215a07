// hob-build: one build, from a source folder or a git repository to an OCI image layout. Root.
//
//   hob-build --source DIR --output DIR --state DIR --runtimes DIR [--label NAME=VALUE]…
//     [--cache NAME] [--operation ID] [--progress-fd N]
//   hob-build --git URL [--reference REF] [--source-directory DIR] …     instead of --source
//   hob-build … --by-file     apprunner.yaml is needed, without secrets: nothing is guessed
//   hob-build … --runtime NAME --start-command C [--build-command C]     and it is not looked at
//   hob-build --state DIR --clear       what killed builds left
//
// --cache: whose package caches the build uses, by a name that the caller gives to nobody else.
// --operation: what asked for the build; the image's provenance names it then, and the times.
//
// Says what it does as lines of JSON on stdout, or the descriptor it is given: {"stage": …},
// {"line": …}, {"commit": …}, and last {"result": …} (builder/records.h) or {"error": …}. SIGTERM
// and SIGINT cancel it: nothing is left then but what the next build can use. Exit codes: 0 built;
// 1 the application's fault; 2 ours or the world's.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <atomic>
#include <boost/json.hpp>
#include <cerrno>
#include <optional>

#include "aws/utf8.h"
#include "base/log.h"
#include "base/version.h"
#include "builder/build.h"
#include "builder/build_slot.h"
#include "builder/git_source.h"
#include "builder/workshop.h"

namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using hob::Result;

std::atomic<bool> cancelled = false;

void on_signal(int /*number*/) { cancelled.store(true); }

struct Options {
  fs::path source{};
  hob::builder::GitRequest git{};         // instead of `source`
  hob::builder::Configured configured{};  // its runtime is empty: the source says
  bool by_file = false;                   // by an apprunner.yaml, or not at all
  fs::path output{};
  fs::path state{};
  fs::path runtimes{};
  std::string cache{};
  std::string operation{};
  std::vector<std::string> labels{};
  int progress_fd = STDOUT_FILENO;
  bool clear = false;
};

int progress_fd = STDOUT_FILENO;

std::string is_cache_name(const std::string& name) {
  constexpr size_t kBytesMax = 1024;
  return name.size() <= kBytesMax ? "" : "is too long";
}

void say(const json::object& object) {
  const std::string line = hob::aws::to_utf8(json::serialize(object)) + "\n";
  for (size_t done = 0; done < line.size();) {
    const ssize_t wrote = ::write(progress_fd, line.data() + done, line.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {  // nobody listens any more: the build is for nobody
      cancelled.store(true);
      return;
    }
    done += static_cast<size_t>(wrote);
  }
}

Result<hob::builder::BuildResult> build(const Options& options) {
  HOB_TRY(const hob::builder::BuildStore store, hob::builder::BuildStore::open(options.state));
  fs::path folder = options.source;
  std::map<std::string, std::string> labels;
  std::optional<hob::builder::FetchFolder> place;
  if (!options.git.url.empty()) {
    HOB_TRY(hob::builder::FetchFolder made, hob::builder::FetchFolder::make());
    place.emplace(std::move(made));
    HOB_TRY(const hob::builder::GitCheckout checkout,
            hob::builder::fetch_git(options.git, *place, cancelled, [](std::string_view text) {
              say({{"stage", text}});
            }));
    folder = checkout.folder;
    say({{"commit", checkout.commit}});
    labels = {{"org.opencontainers.image.revision", checkout.commit},
              {"org.opencontainers.image.source", checkout.url}};
  }
  HOB_TRY(const std::unique_ptr<hob::builder::Source> source, hob::builder::open_folder(folder));
  HOB_TRY(const std::vector<hob::builder::Runtime> runtimes,
          hob::builder::load_runtimes(options.runtimes));
  if (options.by_file && source->find(hob::builder::kAppFileName) == nullptr) {
    return hob::fail(hob::Code::kInvalid,
                     "App Runner configuration file apprunner.yaml not found.");
  }
  HOB_TRY(hob::builder::Recipe recipe,
          options.configured.runtime.empty()
              ? hob::builder::make_recipe(*source, runtimes)
              : hob::builder::configured_recipe(options.configured, runtimes));
  if (options.by_file && !recipe.secrets.empty()) {
    return hob::fail(
        hob::Code::kInvalid,
        "{}: run.secrets names {}, and secrets aren't supported by this version of Hob "
        "yet",
        hob::builder::kAppFileName, recipe.secrets.front().name);
  }
  for (const std::string& reason : recipe.reasons) say({{"stage", reason}});
  hob::builder::Workshop workshop(options.state, cancelled);
  const hob::builder::BaseTools tools{.store = &store,
                                      .workshop = &workshop,
                                      .cancelled = &cancelled,
                                      .stage =
                                          [](std::string_view text) {
                                            say({{"stage", text}});
                                          },
                                      .line =
                                          [](std::string_view text) {
                                            say({{"line", text}});
                                          }};
  hob::builder::BuildRequest request{.source = source.get(),
                                     .recipe = std::move(recipe),
                                     .output = options.output,
                                     .cache = options.cache,
                                     .operation = options.operation,
                                     .labels = std::move(labels)};
  for (const std::string& label : options.labels) {
    const size_t equals = label.find('=');
    request.labels[label.substr(0, equals)] =
        equals == std::string::npos ? "" : label.substr(equals + 1);
  }
  return hob::builder::run_build(tools, request);
}

}  // namespace

int main(int argc, char** argv) {
  hob::log::set_process("build");
  signal(SIGPIPE, SIG_IGN);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) signal(number, on_signal);
  // Whoever asked for the build and was killed wants it no more.
  const pid_t parent = ::getppid();
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) cancelled.store(true);
  Options options;
  CLI::App program("Builds an image from a source folder; hob and hobd start it.", "hob-build");
  program.set_version_flag("--version", std::string("hob-build ") + hob::kVersion);
  CLI::Option* clear = program.add_flag("--clear", options.clear);
  program.add_option("--state", options.state)->required();
  CLI::Option* source = program.add_option("--source", options.source)->excludes(clear);
  CLI::Option* git =
      program.add_option("--git", options.git.url)->excludes(clear)->excludes(source);
  program.add_option("--reference", options.git.reference)->needs(git);
  program.add_option("--source-directory", options.git.directory)->needs(git);
  CLI::Option* runtime = program.add_option("--runtime", options.configured.runtime);
  program.add_option("--build-command", options.configured.build)->needs(runtime);
  program.add_option("--start-command", options.configured.start)->needs(runtime);
  program.add_flag("--by-file", options.by_file)->excludes(runtime);
  program.add_option("--output", options.output)->excludes(clear);
  program.add_option("--runtimes", options.runtimes)->excludes(clear);
  program.add_option("--cache", options.cache)->check(CLI::Validator(is_cache_name, "NAME"));
  program.add_option("--operation", options.operation);
  program.add_option("--label", options.labels);
  program.add_option("--progress-fd", options.progress_fd);
  CLI11_PARSE(program, argc, argv);
  progress_fd = options.progress_fd;
  ::fcntl(progress_fd, F_SETFD, FD_CLOEXEC);
  if (options.clear) {
    hob::builder::BuildSlot::clear_idle(options.state);
    return 0;
  }
  const Result<hob::builder::BuildResult> result = build(options);
  if (!result) {
    say({{"error",
          {{"code", hob::word(result.error().code)}, {"message", result.error().message}}}});
    return result.error().code == hob::Code::kInvalid ? 1 : 2;
  }
  say({{"result", json::parse(encode(*result))}});
  return 0;
}
