// hob build: from a source to an image archive, here, for whatever runs images.
#include <CLI/App.hpp>
#include <boost/json.hpp>
#include <cstdio>

#include "base/file.h"
#include "base/process.h"
#include "cli/commands.h"
#include "cli/source_build.h"
#include "cli/temporary_directory.h"

namespace hob::cli {
namespace {

namespace json = boost::json;
namespace fs = std::filesystem;

constexpr Duration kArchiveWithin{600'000};
constexpr double kMegabyte = 1e6;

struct BuildOptions {
  std::string source = ".";
  std::string directory{};
  std::string output{};
};

Async<Result<void>> build(const Context& context, BuildOptions options) {
  HOB_CO_TRY(const std::optional<SourcePlace> place,
             source_place(options.source, options.directory));
  if (!place) co_return fail(Code::kNotFound, "{} is no folder with a source", options.source);
  fs::path output = options.output;
  if (output.empty()) output = source_name(*place) + ".oci.tar";
  Progress progress(context.json);
  HOB_CO_TRY(TemporaryDirectory directory, TemporaryDirectory::make());
  HOB_CO_TRY(const SourceBuild made,
             co_await build_source(context, *place, directory.path() / "image", progress));
  // The same bytes for the same image, whoever archives it and when.
  Command archive{.argv = {"tar", "--sort=name", "--owner=0", "--group=0", "--numeric-owner",
                           "--mtime=@0", "-C", made.layout, "-cf", output, "."}};
  HOB_CO_CHECK(hob::context(co_await run_ok(std::move(archive), kArchiveWithin), "writing {}",
                            output.string()));
  if (context.json) {
    const json::object object = {{"Archive", output.string()},
                                 {"Digest", made.digest},
                                 {"Runtime", made.runtime},
                                 {"StartCommand", made.start},
                                 {"Port", made.port}};
    std::printf("%s\n", json::serialize(object).c_str());
  } else {
    progress.line(fmt::format("built {} ({:.1f} MB, {})", made.digest,
                              static_cast<double>(made.bytes) / kMegabyte, made.runtime));
    std::printf("%s\n", output.c_str());
  }
  co_return Result<void>{};
}

}  // namespace

void add_build(CLI::App& program, Context& context) {
  auto options = std::make_shared<BuildOptions>();
  CLI::App* command = program.add_subcommand("build", "Build a source into an image archive (OCI)");
  command->add_option("source", options->source,
                      "A folder with the application, or a git repository's address, "
                      "https://HOST/REPOSITORY.git#BRANCH (.)");
  command->add_option("--source-directory", options->directory,
                      "Of the application, within the repository");
  command->add_option("-o,--output", options->output, "The archive's name (SOURCE.oci.tar)");
  on_run(*command, context,
         [&context, options]() -> Async<Result<void>> { return build(context, *options); });
}

}  // namespace hob::cli
