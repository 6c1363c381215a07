// hob deploy: from an image in whatever form to an answering URL.
#include <CLI/App.hpp>
#include <boost/json.hpp>
#include <cstdio>
#include <optional>

#include "base/process.h"
#include "cli/archive_image.h"
#include "cli/commands.h"
#include "cli/deploy_options.h"
#include "cli/push.h"
#include "cli/services.h"
#include "cli/source_build.h"
#include "cli/temporary_directory.h"

namespace hob::cli {
namespace {

namespace json = boost::json;

constexpr Duration kSaveWithin{600'000};  // podman writing an image to a file
constexpr Duration kFirstAnswerWithin{
    15'000};  // from a finished operation to the URL's first answer
constexpr double kMegabyte = 1e6;

std::string tag_of(const ArchiveImage& image) {
  return image.digest.substr(image.digest.find(':') + 1, 12);
}

// Pushes an image from files; answers what it is called now.
Async<Result<std::string>> push_from(Api& api, const ArchiveImage& image, std::string named,
                                     Progress& progress) {
  const std::string repository = repository_for(image.name.find('/') == std::string::npos &&
                                                        image.name.find(':') == std::string::npos
                                                    ? named
                                                    : image.name);
  const std::string tag = tag_of(image);
  uint64_t bytes = 0;
  for (const Blob& blob : image.blobs) bytes += blob.size;
  const auto show = [&](uint64_t done, uint64_t all) {
    progress.now(fmt::format("pushing {}:{}", repository, tag),
                 fmt::format(" {:.1f} of {:.1f} MB", static_cast<double>(done) / kMegabyte,
                             static_cast<double>(all) / kMegabyte));
  };
  HOB_CO_CHECK(
      context(co_await push_image(api, image, repository, tag, show), "pushing {}", repository));
  progress.line(fmt::format("pushed {}:{} ({:.1f} MB)", repository, tag,
                            static_cast<double>(bytes) / kMegabyte));
  co_return api.instance().api_address() + "/" + repository + ":" + tag;
}

// The image of a local podman, saved to a file and opened; nullopt: podman has no such image, or is
// not here.
Async<Result<std::optional<ArchiveImage>>> from_podman(std::string image,
                                                       const TemporaryDirectory& directory,
                                                       Progress& progress) {
  Command ask{.argv = {"podman", "image", "exists", image}};
  Result<Exit> asked = co_await run(std::move(ask), Duration(20'000));
  if (!asked || asked->status != 0) co_return std::optional<ArchiveImage>();
  progress.now("reading " + image + " from podman");
  const std::string file = directory.path() / "image.tar";
  Command save{.argv = {"podman", "save", "--quiet", "--format", "oci-archive", "-o", file, image}};
  HOB_CO_CHECK(context(co_await run_ok(std::move(save), kSaveWithin), "podman save {}", image));
  HOB_CO_TRY(ArchiveImage opened, open_archive_image(file));
  opened.name = image;
  co_return opened;
}

// An image identifier for the API, after pushing what is local.
Async<Result<std::string>> bring_image(const Context& context, Api& api, DeployOptions& options,
                                       std::optional<SourcePlace> source, Progress& progress) {
  const std::string& image = options.image;
  std::error_code error;
  if (source) {
    HOB_CO_TRY(TemporaryDirectory directory, TemporaryDirectory::make());
    HOB_CO_TRY(const SourceBuild built,
               co_await build_source(context, *source, directory.path() / "image", progress));
    if (options.port == 0) options.port = built.port;
    options.secrets = built.secrets;
    HOB_CO_TRY(const ArchiveImage archive, open_archive_image(built.layout));
    co_return co_await push_from(api, archive, options.name, progress);
  }
  if (std::filesystem::exists(image, error)) {
    HOB_CO_TRY(ArchiveImage archive, open_archive_image(image));
    co_return co_await push_from(api, archive, options.name, progress);
  }
  if (image.starts_with("/") || image.starts_with("./") || image.starts_with("../") ||
      image.ends_with(".tar")) {
    co_return fail(Code::kNotFound, "there is no file {}", image);
  }
  const std::string ours = api.instance().api_address() + "/";
  if (image.starts_with(ours) || image.find(".dkr.ecr.") != std::string::npos) co_return image;
  HOB_CO_TRY(TemporaryDirectory directory, TemporaryDirectory::make());
  HOB_CO_TRY(std::optional<ArchiveImage> local, co_await from_podman(image, directory, progress));
  if (local) co_return co_await push_from(api, *local, options.name, progress);
  co_return image;
}

Async<Result<std::optional<ServiceLine>>> service_named(Api api, std::string name) {
  HOB_CO_TRY(std::vector<ServiceLine> all, co_await list_services(api));
  for (const ServiceLine& line : all) {
    if (line.name == name) co_return line;
  }
  co_return std::optional<ServiceLine>();
}

// Waits for the first answer: the operation has ended, the edge hears of it a moment later.
Async<void> first_answer(const ServiceLine& service, const Instance& instance, Progress& progress) {
  std::string host = service.url.substr(service.url.find("://") + 3);
  const auto deadline = std::chrono::steady_clock::now() + kFirstAnswerWithin;
  while (std::chrono::steady_clock::now() < deadline) {
    http::Request request{.method = "GET", .target = "/", .path = "/"};
    request.headers.set("Host", host);
    const http::Endpoint edge{.host = "127.0.0.1", .port = instance.http_port};
    Result<http::Response> response =
        co_await http::fetch(edge, std::move(request), "", Duration(5'000), kAnswerBytesMax);
    if (response && response->status != 404 && response->status != 503) co_return;
    progress.now("waiting for the first answer");
    co_await sleep_for(Duration(50));
  }
}

Async<Result<void>> deploy(const Context& context, DeployOptions options) {
  HOB_CO_TRY(Api api, Api::open(context));
  Progress progress(context.json);
  HOB_CO_TRY(const std::optional<SourcePlace> source,
             source_place(options.image, options.source_directory));
  if (options.name.empty())
    options.name = service_name_for(source ? source_name(*source) : options.image);
  // Before an image is built and pushed for nothing.
  HOB_CO_CHECK(check_service_name(options.name));
  HOB_CO_CHECK(create_input(options, options.image));
  HOB_CO_CHECK(co_await check_settings(api, tags_of(options)));
  HOB_CO_TRY(std::string identifier, co_await bring_image(context, api, options, source, progress));
  HOB_CO_TRY(std::optional<ServiceLine> existing, co_await service_named(api, options.name));
  std::string target = "AppRunner.CreateService";
  json::object input;
  if (existing) {
    HOB_CO_TRY(json::object described,
               co_await call_on_service(api, "DescribeService", existing->arn));
    const json::value* service = described.if_contains("Service");
    if (service == nullptr || !service->is_object())
      co_return fail(Code::kCorrupt, "DescribeService answers nothing");
    if (text_at(service->as_object(), "Status") == "PAUSED") {
      co_return fail(Code::kConflict, "{} is paused; first: hob resume {}", options.name,
                     options.name);
    }
    HOB_CO_TRY(input, update_input(options, identifier, service->as_object()));
    if (json::array tags = tags_of(options); !tags.empty()) {
      json::object settings = {{"ResourceArn", existing->arn}, {"Tags", std::move(tags)}};
      HOB_CO_CHECK(co_await api.call("apprunner", "AppRunner.TagResource", std::move(settings)));
    }
    target = "AppRunner.UpdateService";
  } else {
    HOB_CO_TRY(input, create_input(options, identifier));
  }
  HOB_CO_TRY(json::object answer, co_await api.call("apprunner", target, std::move(input)));
  const std::string operation = text_at(answer, "OperationId");
  const json::value* record = answer.if_contains("Service");
  if (record == nullptr || !record->is_object())
    co_return fail(Code::kCorrupt, "{} answers nothing", target);
  ServiceLine service{.name = text_at(record->as_object(), "ServiceName"),
                      .id = text_at(record->as_object(), "ServiceId"),
                      .arn = text_at(record->as_object(), "ServiceArn"),
                      .url = url_of(api.instance(), text_at(record->as_object(), "ServiceUrl"))};
  progress.line(fmt::format("{} service {}", existing ? "updating" : "creating", service.name));
  if (!options.no_wait && !operation.empty()) {
    HOB_CO_CHECK(co_await follow_operation(api, service, operation, "deploying", progress));
    co_await first_answer(service, api.instance(), progress);
  }
  if (context.json) {
    const json::object object = {{"Name", service.name},
                                 {"Url", service.url},
                                 {"Arn", service.arn},
                                 {"OperationId", operation}};
    printf("%s\n", json::serialize(object).c_str());
  } else {
    progress.line(options.no_wait ? "the operation goes on; see hob deploys " + service.name
                                  : service.name + " is running");
    printf("%s\n", service.url.c_str());
  }
  co_return Result<void>{};
}

}  // namespace

void add_deploy(CLI::App& program, Context& context) {
  auto options = std::make_shared<DeployOptions>();
  CLI::App* command = program.add_subcommand(
      "deploy", "Run an image or a source as a service (or a new version of it)");
  command
      ->add_option(
          "image", options->image,
          "A folder with an application's source, a git repository's address "
          "(https://HOST/REPOSITORY.git#BRANCH), an OCI or docker archive, an OCI layout, an image "
          "of podman, or a reference to a registry")
      ->required();
  command->add_option("--source-directory", options->source_directory,
                      "Of the application, within the repository");
  command->add_option("--name", options->name, "The service's name (from the image's)");
  command->add_option("--port", options->port, "Where the program listens (8080)")
      ->check(CLI::Range(1, 65535));
  command->add_option("-e,--env", options->environment, "NAME=VALUE for the program")
      ->allow_extra_args(false);
  command->add_option("--cpu", options->cpu, "Of an instance: 0.25, 0.5, 1, 2, 4 (1)");
  command->add_option("--memory", options->memory,
                      "Of an instance in GB: 0.5, 1, 2, 3, 4, 6, 8, 10, 12 (2)");
  command->add_option("--health-path", options->health_path,
                      "Healthy when this path answers 200 to 399 (when the port is open)");
  command->add_option("--command", options->command,
                      "What the image's entry point is given, instead of the image's own (CMD)");
  command->add_option("--request-timeout", options->request_timeout,
                      "Of a whole request: 30s, 10m, 0s for none (120s)");
  command->add_option("--idle-timeout", options->idle_timeout,
                      "Of a silent connection: 30s, 1h (60s)");
  command->add_option("--protocol", options->protocol,
                      "What the program speaks: http1, http2 for gRPC (http1)");
  command->add_option("--min-size", options->min_size,
                      "Instances kept for visitors; 0: none, a request starts one (1)");
  command->add_option("--min-size-schedule", options->min_size_schedule,
                      "More of them at times: 'Mon-Fri 08:00-18:00 2', in UTC");
  command->add_option("--sleep-after", options->sleep_after,
                      "Without visitors all instances sleep after 30s, 5m; off: none ever does");
  command->add_option("--stop-after", options->stop_after,
                      "With --min-size 0 all are stopped after 15m, 2h without visitors (15m)");
  command->add_option("--strategy", options->strategy,
                      "How versions follow each other: rolling, 'blue-green bake=10m', 'canary 10% "
                      "5m, 50% 5m', 'linear 10% 1m' (rolling)");
  command->add_option("--keep-previous", options->keep_previous,
                      "For how long the version before is kept asleep: 30m, off (15m)");
  command->add_option(
      "--sticky", options->sticky,
      "Visitors return to their instance, by cookie, for 1h, 1d; off (they do not)");
  command->add_flag("--auto-deploy", options->auto_deploy, "A pushed tag deploys by itself");
  command->add_flag("--no-wait", options->no_wait, "Return when the operation has begun");
  refuse_empty_values(*command);
  on_run(*command, context,
         [&context, options]() -> Async<Result<void>> { return deploy(context, *options); });
}

}  // namespace hob::cli
